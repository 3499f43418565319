"""Jobs on tiny networks and made-up recordings."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import onnx

from models.compression.pipeline import Event, Outcome, run
from models.compression.spec import CompressionSpec, parse_spec
from models.features import FrontEnd
from tests.support import babble, encode

FRONT_END = FrontEnd(bins=24).to_dict()


def corpus(folder: Path, count: int = 3, seconds: float = 0.6) -> Path:
    """A corpus of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["utterance\tpath\ttranscript"]
    for number in range(count):
        (folder / f"{number}.wav").write_bytes(encode(babble(seconds, seed=number)))
        lines.append(f"u{number}\t{number}.wav\tHELLO WORLD")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return folder


def zipped(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder).as_posix())


def spec(**fields: Any) -> CompressionSpec:
    return parse_spec(json.dumps(fields))


class Desk:
    """A folder for a job, with the corpora `first` and `second` installed."""

    def __init__(self, root: Path, model: onnx.ModelProto | bytes | None = None) -> None:
        self.root = root
        self.folder = root / "job"
        self.folder.mkdir()
        self.events: list[Event] = []
        if model is not None:
            data = model if isinstance(model, bytes) else model.SerializeToString()
            (self.folder / "checkpoint.onnx").write_bytes(data)

    def corpora(self, name: str) -> Path:
        folder = self.root / "corpora" / name
        return folder if folder.is_dir() else corpus(folder)

    def run(self, **fields: Any) -> Outcome:
        return run(self.folder, spec(**fields), progress=self.events.append, corpora=self.corpora)

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.folder / "result" / "report.json").read_text())
        return report
