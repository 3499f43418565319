"""The AMI acoustic model, a checkpoint of somebody else's, on real speech."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.compression.jobs import Desk


def desk(root: Path, corpora: Path) -> Desk:
    root.mkdir()
    made = Desk(root, (corpora / "ami-dnn" / "ami-dnn.onnx").read_bytes())
    made.corpora = lambda name: corpora / name  # type: ignore[method-assign]
    return made


def test_knowing_the_data_pays(tmp_path: Path, corpora: Path):
    common: dict[str, Any] = {
        "method": "low-rank", "size": 0.1, "front_end": "ami-dnn", "evaluation": ["an4-test"], "limit": 4,
        "allow_slower": True,
    }  # fmt: skip
    divergence = {}
    for name, more in (("plain", {}), ("aware", {"calibration": ["an4-train"], "calibration_seconds": 40})):
        job = desk(tmp_path / name, corpora)
        job.run(**common, **more)
        report = job.report()
        assert report["weights"]["relative_size"] <= 0.1
        divergence[name] = report["agreement"]["divergence"]
    assert divergence["aware"] < 0.85 * divergence["plain"]


def test_fine_tuning_goes_on_from_there(tmp_path: Path, corpora: Path):
    pytest.importorskip("torch")
    job = desk(tmp_path / "job", corpora)
    outcome = job.run(
        method="deepthin",
        size=0.05,
        front_end="ami-dnn",
        calibration=["an4-train"],
        calibration_seconds=40,
        fine_tune={"epochs": 1},
        evaluation=["an4-test"],
        limit=3,
        allow_slower=True,
    )
    assert outcome.accepted
    tuned = job.report()["fine_tune"]
    assert tuned["loss"] == "kl" and tuned["after"] < tuned["before"]
