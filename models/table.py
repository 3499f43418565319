"""The table of bundled models in the README, written from their manifests: `python -m models.table README.md`."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from models.package import Manifest, ModelPackage
from models.store import BUNDLED, ModelStore
from ops import markdown
from ops.markdown import line

BEGIN = "<!-- models: begin (written by `make readme-table`) -->"
END = "<!-- models: end -->"


def render(packages: Iterable[ModelPackage], default: str | None) -> str:
    """A Markdown table, a row for each package: families together, the dense parent of each first."""
    ordered = sorted(packages, key=lambda package: (package.manifest.family, -package.manifest.relative_size))
    if not ordered:
        return "No model is bundled."
    corpora = sorted({corpus for package in ordered for corpus in package.manifest.quality})
    parents = {package.manifest.name: package for package in ordered}
    header = ["Model", "Method", "Weights on disk", "in memory", "against its parent"]
    lines = [
        line([*header, *(f"WER, {corpus}" for corpus in corpora), "RTF"]),
        line(["---", "---", *["--:"] * (len(header) - 2 + len(corpora) + 1)]),
    ]
    for package in ordered:
        manifest = package.manifest
        weights = manifest.weights
        name = f"`{manifest.name}`" + (" (default)" if manifest.name == default else "")
        parent = parents.get(manifest.parent or "")
        ratio = f"1/{parent.manifest.weights.resident_bytes / weights.resident_bytes:.0f}" if parent else ""
        sizes = [_size(weights.disk_bytes), _size(weights.resident_bytes), ratio]
        scores = [f"{100 * manifest.quality[c].wer:.1f}%" if c in manifest.quality else "" for c in corpora]
        lines.append(line([name, manifest.method, *sizes, *scores, _factors(manifest)]))
    return "\n".join(lines)


def update(text: str, part: str, begin: str = BEGIN, end: str = END) -> str:
    """`text` with `part` between the comments of this table, or between two others: see `ops.markdown.update`."""
    return markdown.update(text, part, begin, end)


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite the table in the file named by the one argument."""
    (name,) = argv if argv is not None else sys.argv[1:]
    store = ModelStore([BUNDLED])
    table = render([store.load(model) for model in store.names()], store.default())
    path = Path(name)
    path.write_text(update(path.read_text(encoding="utf-8"), table), encoding="utf-8")
    return 0


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _factors(manifest: Manifest) -> str:
    factors = [score.rtf for score in manifest.quality.values()]
    return f"{max(factors):.3f}" if factors else ""


if __name__ == "__main__":
    sys.exit(main())
