"""A worker whose pipeline does nothing but take its time and copy a tiny network; run as a script.

What it does for each model is in `fake.json` of the home folder: `seconds` for each stage, `accepted`, `fail`, `bug`
and `die` (in a stage), `report` (fields of it), `broken` (a network that cannot be loaded), `network` (a package
without decoder). Each stage that is worked on adds a line to `trace-MODEL` there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from models.compression.base import CompressionError
from models.compression.pipeline import STAGES, Event, Outcome
from models.compression.spec import CompressionSpec
from models.package import ModelPackage
from service.jobs import worker


def fake(
    folder: Path,
    spec: CompressionSpec,
    *,
    progress: Callable[[Event], None],
    corpora: Callable[[str], Path],
    threads: int,
) -> Outcome:
    """What `models.compression.pipeline.run` promises, with nothing behind it."""
    assert spec.name is not None
    home = Path(os.environ["DEEPTHIN_HOME"])
    script = home / "fake.json"
    options = json.loads(script.read_text()).get(spec.name, {}) if script.exists() else {}
    assert next(folder.glob("checkpoint.*")).stat().st_size
    for name in (*spec.calibration, *spec.evaluation):
        assert name == "upload" or (corpora(name) / "manifest.tsv").is_file()
    for number, stage in enumerate(STAGES):
        mark = folder / "stages" / stage / "done"
        if mark.exists():
            continue
        with (home / f"trace-{spec.name}").open("a") as trace:
            trace.write(f"{stage} {os.getpid()} {os.getpgid(0)} {os.nice(0)} {os.environ['OMP_NUM_THREADS']}\n")
        progress(Event(stage, None, number / len(STAGES), f"{stage} begins"))
        steps = 10
        for step in range(steps):
            time.sleep(options.get("seconds", 0.0) / steps)
            progress(Event(stage, f"layer-{step}", (number + step / steps) / len(STAGES), f"{stage} goes on"))
        if options.get("fail") == stage:
            raise CompressionError(f"no weight matches in stage {stage}")
        if options.get("bug") == stage:
            raise ZeroDivisionError("secret detail")
        if options.get("die") == stage:
            os.kill(os.getpid(), signal.SIGKILL)
        if stage == "export":
            _export(folder, spec.name, spec.method or "dense", options)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text("")
    result = folder / "result"
    (result / "report.json").write_text(json.dumps({"model": spec.name, "layers": [], **options.get("report", {})}))
    accepted = options.get("accepted", True)
    reasons = () if accepted else ("the word error rate rose by 0.05, more than 0.01",)
    return Outcome(result / spec.name, result / "model.dtz", result / "report.json", accepted, reasons)


def _export(folder: Path, name: str, method: str, options: dict[str, object]) -> None:
    parent = ModelPackage.load(Path(os.environ["DEEPTHIN_HOME"]) / "models" / "tiny-dense")
    changes: dict[str, object] = {"name": name, "method": method, "parent": "tiny-dense", "relative_size": 0.02}
    if options.get("network"):
        changes |= {"family": "network"}
    graph = b"garbage" if options.get("broken") else parent.graph_file.read_bytes()
    ModelPackage.save(folder / "result", parent.manifest.model_copy(update=changes), graph)
    (folder / "result" / "model.dtz").write_bytes(b"stream of " + name.encode())


if __name__ == "__main__":
    sys.exit(worker.main(pipeline=fake))
