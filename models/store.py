"""Where model packages are found: those that come with DeepThin and those under DEEPTHIN_HOME."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from models.errors import PackageError, UnknownModelError
from models.package import MANIFEST_FILE, ModelPackage

DEFAULT_ALIAS = "default"
GRAPHS_FOLDER = "graphs"
BUNDLED = Path(__file__).parent / "pretrained"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RESERVED = frozenset({DEFAULT_ALIAS, GRAPHS_FOLDER})


def home() -> Path:
    """The folder for state: `DEEPTHIN_HOME`, else `deepthin` under `XDG_DATA_HOME` or `~/.local/share`."""
    if chosen := os.environ.get("DEEPTHIN_HOME"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "deepthin"


def find_graph(name: str, beside: Path) -> Path:
    """Folder of decoding graph `name`: in `graphs/` next to the package folder `beside`, else the bundled one.

    Raises:
        PackageError: there is no such graph.
    """
    for root in (beside.parent, BUNDLED):
        folder = root / GRAPHS_FOLDER / name
        if folder.is_dir():
            return folder
    raise PackageError(f"decoding graph {name!r} is neither in {beside.parent / GRAPHS_FOLDER} nor bundled")


def graph_bytes(name: str, beside: Path) -> int:
    """Bytes of decoding graph `name` of the package folder `beside`, on disk and mapped into memory.

    Raises:
        PackageError: there is no such graph.
    """
    return sum(file.stat().st_size for file in find_graph(name, beside).glob("*.bin"))


class ModelStore:
    """Packages in a list of folders, earlier folders winning over later ones.

    The first line of the file `default` in a folder holds the name that the alias `default` stands for; the lines after
    it hold what it stood for before, the latest first.
    """

    def __init__(self, roots: Sequence[Path] | None = None) -> None:
        """Look in `roots`; without them, under `home()` and among the bundled models."""
        self.roots = tuple(roots) if roots is not None else (home() / "models", BUNDLED)

    def names(self) -> tuple[str, ...]:
        """Names of all packages, sorted. A package that turns out to be broken is listed too."""
        return tuple(
            sorted(
                {
                    folder.name
                    for root in self.roots
                    if root.is_dir()
                    for folder in root.iterdir()
                    if is_model_name(folder.name) and (folder / MANIFEST_FILE).is_file()
                }
            )
        )

    def default(self) -> str | None:
        """The name behind the alias `default`, or None when no folder says."""
        return next(iter(self.defaults()), None)

    def defaults(self) -> tuple[str, ...]:
        """The name behind the alias `default`, then the names that were behind it before, the latest first."""
        for root in self.roots:
            file = root / DEFAULT_ALIAS
            if file.is_file():
                return tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
        return ()

    def set_default(self, name: str) -> None:
        """Let the alias `default` stand for the model `name` from now on; written to the first folder.

        Raises:
            UnknownModelError: nothing of that name is here.
        """
        self.folder(name)
        history = [name, *(before for before in self.defaults() if before != name)]
        self.roots[0].mkdir(parents=True, exist_ok=True)
        draft = self.roots[0] / f".{DEFAULT_ALIAS}"
        draft.write_text("".join(f"{line}\n" for line in history), encoding="utf-8")
        draft.replace(self.roots[0] / DEFAULT_ALIAS)

    def resolve(self, name: str) -> str:
        """The real name behind `name`, which may be the alias `default`.

        Raises:
            UnknownModelError: nothing of that name is here.
        """
        real = self.default() if name == DEFAULT_ALIAS else name
        if real is None:
            raise UnknownModelError("no default model is set")
        self.folder(real)
        return real

    def folder(self, name: str) -> Path:
        """Folder of the package `name`.

        Raises:
            UnknownModelError: nothing of that name is here.
        """
        if is_model_name(name):
            for root in self.roots:
                if (root / name / MANIFEST_FILE).is_file():
                    return root / name
        known = ", ".join(self.names()) or "none"
        raise UnknownModelError(f"there is no model {name!r}; models here: {known}")

    def load(self, name: str) -> ModelPackage:
        """Read the package `name` or `default`.

        Raises:
            UnknownModelError: nothing of that name is here.
            PackageError: the package is broken.
        """
        folder = self.folder(self.resolve(name))
        package = ModelPackage.load(folder)
        if package.manifest.name != folder.name:
            raise PackageError(f"{folder} holds a model that calls itself {package.manifest.name!r}")
        return package


def is_model_name(name: str) -> bool:
    """Whether a model can be called `name`."""
    return name not in _RESERVED and _NAME.fullmatch(name) is not None
