"""What a job keeps on disk, so that it can go on after being killed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.compression.base import Array, Compressed, Plan

DONE: Final = "done"
_META: Final = "meta"


class Stages:
    """The folder `stages` of a job: a folder for each stage, finished once it has a file `done`."""

    def __init__(self, folder: Path) -> None:
        """`folder`: that of the job."""
        self._root = folder / "stages"

    def done(self, stage: str) -> bool:
        """Whether a stage has been finished."""
        return (self._root / stage / DONE).is_file()

    def begin(self, stage: str) -> Path:
        """The folder of a stage that is about to start; what an earlier attempt left is still in it."""
        path = self._root / stage
        path.mkdir(parents=True, exist_ok=True)
        return path

    def folder(self, stage: str) -> Path:
        """The folder of a finished stage."""
        return self._root / stage

    def finish(self, stage: str) -> None:
        """Mark a stage as finished."""
        write(self._root / stage / DONE, b"")


def write(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all, also after a crash."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def write_json(path: Path, content: Any) -> None:
    """`write` of JSON."""
    write(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def clear(path: Path) -> None:
    """Remove a folder if it is there."""
    shutil.rmtree(path, ignore_errors=True)


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON values."""
    return {**asdict(plan), "geometry": dict(plan.geometry)}


def plan_from_json(fields: Mapping[str, Any]) -> Plan:
    """The inverse of `plan_to_json`."""
    return Plan(**fields)


def save_layer(path: Path, compressed: Compressed, changed: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    """Write one compressed weight, the biases that changed along with it, and facts for the report."""
    meta = {
        "plan": plan_to_json(compressed.plan),
        "relative_error": compressed.relative_error,
        "output_error": compressed.output_error,
        "arrays": list(compressed.arrays),
        "changed": list(changed),
        "facts": dict(facts),
    }
    import io

    buffer = io.BytesIO()
    arrays: dict[str, npt.NDArray[Any]] = {_META: np.frombuffer(json.dumps(meta).encode(), np.uint8)}
    arrays |= {f"a{index}": array for index, array in enumerate(compressed.arrays.values())}
    arrays |= {f"c{index}": array for index, array in enumerate(changed.values())}
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write(path, buffer.getvalue())


def load_layer(path: Path) -> tuple[Compressed, dict[str, Array], dict[str, Any]]:
    """The inverse of `save_layer`."""
    with np.load(path, allow_pickle=False) as stored:
        meta = json.loads(stored[_META].tobytes())
        arrays = {name: stored[f"a{index}"] for index, name in enumerate(meta["arrays"])}
        changed = {name: stored[f"c{index}"] for index, name in enumerate(meta["changed"])}
    plan = plan_from_json(meta["plan"])
    return Compressed(plan, arrays, meta["relative_error"], meta["output_error"]), changed, meta["facts"]
