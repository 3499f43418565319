"""The three figures of bytes of whole jobs, counted again from what the jobs leave behind."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from models.compression.registry import METHODS
from models.compression.transport import unpack
from tests.compression import networks
from tests.compression.jobs import Desk

WIDE = (96, 160, 128, 40)
_HELPERS = 64  # bytes of constants that an operator may need beside a weight: shapes, zero points


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in METHODS for size in (0.3, 0.2)[: 1 if name in ("int8", "int4", "dense") else 2]],
)
def test_bytes_of_a_job_are_those_of_its_files(tmp_path: Path, name: str, size: float):
    parent = networks.conv() if name == "separable-conv" else networks.feed_forward(sizes=WIDE)
    desk = Desk(tmp_path, parent)
    fixed = name in ("int8", "int4", "dense")
    outcome = desk.run(method=name, allow_slower=True, **({} if fixed else {"size": size}))
    report = desk.report()
    figures, layers = report["bytes"], report["layers"]
    graph = outcome.package / "model.onnx"
    stored = sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(graph).graph.initializer)
    assert figures["initialisers"] == stored
    assert figures["disk"] == graph.stat().st_size
    assert figures["transport"] == outcome.transport.stat().st_size
    dense = {tensor.name: onnx.numpy_helper.to_array(tensor).nbytes for tensor in parent.graph.initializer}
    others = sum(dense.values()) - sum(layer["dense"] for layer in layers)
    if name != "same-size":  # it leaves out biases too
        # Equal zero points of two weights are one constant.
        assert -len(layers) <= stored - others - sum(layer["disk"] for layer in layers) <= _HELPERS * len(layers)
    allowed = 1.0 if fixed else size
    assert sum(layer["disk"] for layer in layers) <= allowed * sum(layer["dense"] for layer in layers)
    # What arrives through the stream is as large as what was sent.
    unpack(outcome.transport.read_bytes(), tmp_path / "unpacked")
    (copy,) = (tmp_path / "unpacked").rglob("model.onnx")
    assert sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(copy).graph.initializer) == stored
