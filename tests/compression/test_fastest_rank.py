"""Rank "fastest": the geometry of a size is chosen by what this processor takes, here by made-up costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.compression import planning
from models.compression.base import CompressionError, SizeError
from models.compression.cli import main
from models.compression.network import find
from models.compression.registry import METHODS
from ops import fastest
from ops.costs import CostModel
from tests.compression import networks
from tests.compression.jobs import Desk, spec

ONLY_BAND = CostModel((0.0, 0.0, 0.0, 1e-9), (0.0, 0.0, 0.0, 1e-9))
ONLY_CORRELATION = CostModel((0.0, 1e-9, 1e-9, 0.0), (0.0, 1e-9, 1e-9, 0.0))


def with_costs(monkeypatch: pytest.MonkeyPatch, costs: CostModel) -> None:
    monkeypatch.setattr(fastest, "cost_model", lambda: costs)


@pytest.mark.parametrize("size", [0.03, 0.1, 1.0])
def test_a_plan_follows_the_costs_and_stays_within_the_size(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    deepthin = planning.takes_fastest(METHODS["deepthin"])
    usual = METHODS["deepthin"].plan(200, 300, size)
    found = []
    for costs in (ONLY_BAND, ONLY_CORRELATION):
        with_costs(monkeypatch, costs)
        plan = deepthin.plan_fastest(200, 300, size)
        assert 0.9 * usual.disk_bytes < plan.disk_bytes <= 4 * 200 * 300 * size
        assert set(plan.geometry) == set(usual.geometry)
        found.append(plan.geometry)
    if size < 1:
        assert found[0] != found[1]


def test_a_size_out_of_reach_names_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    with_costs(monkeypatch, ONLY_BAND)
    with pytest.raises(SizeError, match="deepthin"):
        planning.takes_fastest(METHODS["deepthin"]).plan_fastest(64, 64, 0.001)


def test_a_job_compresses_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_costs(monkeypatch, ONLY_BAND)
    model = networks.feed_forward(sizes=(96, 160, 10))
    desk = Desk(tmp_path, model)
    assert desk.run(method="deepthin", size=0.1, rank="fastest", allow_slower=True).accepted
    wished = planning.plans(find(model), spec(method="deepthin", size=0.1, rank="fastest"))
    usual = planning.plans(find(model), spec(method="deepthin", size=0.1))
    assert wished["layer0.weight"].geometry != usual["layer0.weight"].geometry
    (layer,) = [each for each in desk.report()["layers"] if each["name"] == "layer0.weight"]
    assert layer["disk"] == wished["layer0.weight"].disk_bytes


@pytest.mark.parametrize("words", [["--method", "deepthin", "--size", ".3", "--rank", "fastest"],
                                   ["--rule", "layer*=deepthin:.3:fastest"]])  # fmt: skip
def test_the_command_line_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    with_costs(monkeypatch, ONLY_BAND)
    path = tmp_path / "net.onnx"
    path.write_bytes(networks.feed_forward(sizes=(96, 160, 10)).SerializeToString())
    assert main([str(path), *words, "--allow-slower", "--quiet", "-o", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["layers"][0]["method"] == "deepthin"


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"method": "int8", "rank": "fastest"}, "int8 cannot choose its rank"),
        ({"compress": [{"pattern": "*", "method": "low-rank", "rank": "fastest"}]}, "low-rank cannot choose its rank"),
        ({"method": "deepthin", "size": 0.1, "rank": "slowest"}, "^rank: must be a whole number from 1 to 4096, or 'f"),
        ({"method": "deepthin", "size": 0.1, "rank": 0}, "^rank: must be a whole number"),
        ({"compress": [{"pattern": "*", "rank": 1.5}]}, "^compress.0.rank: must be"),
    ],
    ids=str,
)
def test_what_cannot_be_had_is_named(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CompressionError, match=complaint):
        spec(**fields)
