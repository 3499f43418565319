"""Ways in which a pulled model is compressed for the table of `models.pretrained_table`, and the jobs that do it."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from models.compression.pipeline import Event, Outcome, run
from models.compression.spec import CompressionSpec
from models.package import MANIFEST_FILE, ModelPackage


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to compress a model.

    Attributes:
        name: what its row is called.
        spec: fields of the job, without name and corpora; sizes of a budget are shares of the published weights.
        share: of the published weights' bytes, for a search; None: no search.
    """

    name: str
    spec: Mapping[str, Any]
    share: float | None = None


def _rules(*rules: tuple[str, str, float]) -> dict[str, Any]:
    return {"compress": [{"pattern": pattern, "method": name, "size": size} for pattern, name, size in rules]}


# The first convolution has 127 taps of one channel: unfolded it would be slower than it is.
_LEFT: Final = ("encoder/conv1.weight", "dense", 1.0)
_MIXED: Final = ("int8", "int4-compact", "int3-compact", "int2-compact", "low-rank-codebook")
_TUNED: Final = MappingProxyType({"seconds": 1500.0, "epochs": 2, "learning_rate": 1e-3})
_TUNED_ONCE: Final = MappingProxyType({**_TUNED, "epochs": 1})
_TABLE: Final = "decoder/*embed_tokens*"

RECIPES: Final[Mapping[str, tuple[Recipe, ...]]] = MappingProxyType(
    {
        "moonshine-tiny": (
            Recipe("int4", _rules(("*", "int4", 1.0), _LEFT)),
            Recipe("int4-compact", _rules(("*", "int4-compact", 1.0), _LEFT)),
            Recipe("int3-compact", _rules(("*", "int3-compact", 1.0), _LEFT)),
            Recipe("tuned int3-compact", {**_rules(("*", "int3-compact", 1.0), _LEFT), "fine_tune": _TUNED_ONCE}),
            # The inputs of the third convolution are small but for a few: 8 bits over their range make most of them 0.
            Recipe("int8+int4", _rules(("*", "int4-compact", 1.0), ("encoder/*MatMul*", "int8", 1.0), _LEFT)),
            Recipe("mixed search", {"budget": {"methods": _MIXED}}, share=0.5),
            # Half of the published stream, roughly: what is published shrinks more when it is coded.
            Recipe("smaller search", {"budget": {"methods": _MIXED}}, share=0.385),
            # What the search left, trained towards the original for a quarter of an hour of a core.
            Recipe("tuned search", {"budget": {"methods": _MIXED}, "fine_tune": _TUNED}, share=0.385),
            Recipe("deepthin .3", _rules(("*", "deepthin", 0.3), (_TABLE, "int4-compact", 1.0), _LEFT)),
            Recipe("deepthin .1", _rules(("*", "deepthin", 0.1), (_TABLE, "int4-compact", 1.0), _LEFT)),
        )
    }
)
"""Recipes by the model's name."""


def make(package: ModelPackage, recipe: Recipe, folder: Path, calibration: Path, seconds: float) -> Outcome:
    """Compress `package` by `recipe` in `folder`, or go on with what is there.

    Args:
        package: the pulled model.
        recipe: how.
        folder: of the job.
        calibration: folder of the corpus whose audio the compression is fitted to.
        seconds: of that audio.

    Raises:
        DeepThinError: it cannot be done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "checkpoint.zip"
    if not archive.is_file():
        draft = archive.with_suffix(".draft")
        with zipfile.ZipFile(draft, "w") as opened:
            for name in (MANIFEST_FILE, *package.manifest.files):
                opened.write(package.path / name, name)
        draft.replace(archive)
    fields: dict[str, Any] = {
        **recipe.spec,
        "name": _named(package, recipe),
        "calibration": ["calibration"],
        "calibration_seconds": seconds,
    }
    if recipe.share is not None:
        allowed = int(recipe.share * package.manifest.weights.disk_bytes)
        fields["budget"] = {**fields["budget"], "target_bytes": allowed}
    outcome = run(
        folder, CompressionSpec.model_validate(fields), progress=_show(recipe), corpora=lambda _: calibration, threads=1
    )
    # What the stages left is many times the size of the result, and the result is all that is asked for again.
    shutil.rmtree(folder / "stages", ignore_errors=True)
    return outcome


def _named(package: ModelPackage, recipe: Recipe) -> str:
    return f"{package.manifest.name}-{recipe.name.replace(' ', '-').replace('+', '-')}"


def _show(recipe: Recipe) -> Any:
    last = ""

    def show(event: Event) -> None:
        nonlocal last
        line = f"{recipe.name}: {event.stage} {event.fraction:.0%}"
        if line != last:
            print(line, file=sys.stderr)
            last = line

    return show
