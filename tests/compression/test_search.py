"""Budgets instead of methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

from models.compression import search
from models.compression.allocation import Candidate, allocate, candidates
from models.compression.base import CompressionError
from models.compression.calibrate import Calibrator
from models.compression.network import find
from tests.compression import networks
from tests.compression.jobs import FRONT_END, Desk

SIZES = (24, 64, 64, 12)


def test_bytes_go_where_they_help_most():
    options = {
        name: [Candidate(None, size, error) for size, error in ((10, 1.0), (20, 0.5), (40, 0.1))] for name in "ab"
    }
    chosen = allocate(options, {"a": 100.0, "b": 1.0}, 50)
    assert (chosen["a"].bytes, chosen["b"].bytes) == (40, 10)
    assert sum(each.bytes for each in allocate(options, {"a": 1.0, "b": 1.0}, 45).values()) <= 45
    with pytest.raises(CompressionError, match="smallest that was found is 20"):
        allocate(options, {"a": 1.0, "b": 1.0}, 19)


def test_no_layer_is_given_up_for_the_others():
    options = {
        name: [Candidate(None, size, error) for size, error in ((1, 0.99), (10, 0.7), (20, 0.5), (60, 0.02))]
        for name in "ab"
    }
    assert [each.bytes for each in allocate(options, {"a": 1.0, "b": 1.1}, 61).values()] == [20, 20]


def test_a_candidate_above_the_hull_is_passed_over():
    options = {"a": [Candidate(None, size, error) for size, error in ((10, 0.5), (20, 0.49), (30, 0.1))]}
    assert allocate(options, {"a": 1.0}, 29)["a"].bytes == 10
    assert allocate(options, {"a": 1.0}, 30)["a"].bytes == 30


def test_a_byte_budget_is_kept(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward(sizes=SIZES))
    outcome = desk.run(budget={"target_bytes": 8000}, allow_slower=True)
    report = desk.report()
    assert report["bytes"]["initialisers"] <= 8000
    assert report["search"]["smallest"] <= 8000 < report["search"]["dense"]
    model = onnx.load(outcome.package / "model.onnx")
    assert sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer) <= 8000


def test_an_impossible_byte_budget_names_the_smallest(tmp_path: Path):
    with pytest.raises(
        CompressionError, match=r"target_bytes 500 cannot be reached: the smallest that was found is \d+"
    ):
        Desk(tmp_path, networks.feed_forward(sizes=SIZES)).run(budget={"target_bytes": 500})


def test_a_quality_budget_is_kept_by_fewer_bytes(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward(sizes=SIZES))
    budget = {"max_wer_delta": 0.25, "methods": ["low-rank", "int8"]}
    outcome = desk.run(
        budget=budget, front_end=FRONT_END, calibration=["first"], evaluation=["first"], allow_slower=True
    )
    assert outcome.accepted, outcome.reasons
    planning = [event for event in desk.events if event.stage == "plan"]
    said = [event.message for event in planning]
    assert any(text.startswith("how sensitive is layer1.weight: int8") for text in said)
    assert any(text.startswith("trying ") and ": layer1.weight by " in text for text in said)
    assert all(before.fraction <= after.fraction for before, after in pairwise(planning))
    report = desk.report()
    assert 1 - report["agreement"]["phones"] <= 0.25
    assert report["search"]["chosen"]["bytes"] < report["search"]["dense"]


@pytest.mark.parametrize("wide", [True, False])
def test_a_time_budget_takes_the_most_bytes_that_are_quick_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: bool
):
    def paced(self: search._Search, chosen: Mapping[str, Candidate], number: int, report: object) -> search.Trial:
        size = self.notes(chosen)["bytes"]
        return search.Trial(size, None, size / 1e6)

    monkeypatch.setattr(search._Search, "measure", paced)
    desk = Desk(tmp_path, networks.feed_forward(sizes=SIZES))
    allowed = 1.0 if wide else 0.012
    desk.run(budget={"target_latency": allowed, "methods": ["low-rank", "int8"]}, allow_slower=True)
    found = desk.report()["search"]
    sizes = [trial["bytes"] for trial in found["trials"]]
    assert found["chosen"]["bytes"] == max(size for size in sizes if size / 1e6 <= allowed)
    assert found["chosen"]["bytes"] < found["dense"]
    assert (len(sizes) == 1) == wide
    # Within the steps of the sizes that are tried.
    assert wide or found["chosen"]["bytes"] > 8000


def test_inputs_that_8_bits_do_not_suit_count_against_int8():
    network = find(networks.feed_forward(sizes=SIZES))
    layer = network.layers[0]
    tried = {}
    for largest in (1.0, 1000.0):
        x = networks.random(50, SIZES[0])
        x[0, 0] = largest
        given = Calibrator(network, [{network.model.graph.input[0].name: x[None]}]).moments(layer, None)
        # The error of other inputs is what counts: it is the same layer otherwise.
        moments = replace(given, oo=np.eye(len(given.oo)), cc=np.eye(len(given.oo)))
        found = candidates(network, layer, ["int8"], moments, layer.dense_bytes, lambda *_: None)
        tried[largest] = found[0].error
    assert tried[1.0] < 0.02 < 1 < tried[1000.0]


def test_all_named_methods_are_mixed(tmp_path: Path):
    methods = ["deepthin", "deepthin-int8", "low-rank", "pruned-csr", "deep-compression", "low-rank-codebook"]
    methods += ["int8", "int4", "int4-compact", "int3-compact", "int2-compact"]
    desk = Desk(tmp_path, networks.feed_forward(sizes=(24, 96, 96, 96, 12)))
    desk.run(budget={"target_bytes": 16000, "methods": methods}, front_end=FRONT_END, calibration=["first"],
             allow_slower=True)  # fmt: skip
    report = desk.report()
    assert report["bytes"]["initialisers"] <= 16000
    said = " ".join(event.message for event in desk.events)
    assert all(f"layer1.weight: {name}" in said for name in methods)
    assert len({layer["method"] for layer in report["layers"]}) > 1


def test_an_impossible_latency_lists_what_was_tried(tmp_path: Path):
    with pytest.raises(CompressionError, match=r"target_latency 1e-12 cannot be met; what was tried: \d+ bytes at"):
        Desk(tmp_path, networks.feed_forward(sizes=SIZES)).run(
            budget={"target_latency": 1e-12, "methods": ["low-rank"]}
        )
