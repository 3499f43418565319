"""`Method.resident_bytes` against what a process grows by when a session is made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from models.compression.base import Compressed, Plan
from models.compression.builder import OnnxBuilder
from models.compression.deepthin_typed import DeepThinFloat16
from models.compression.registry import METHODS
from tests.ops.memory_probe import PROC

SIDE, COUNT = 2048, 12

pytestmark = pytest.mark.skipif(not PROC.exists(), reason=f"there is no {PROC} to read the memory from")


def arrays(plan: Plan, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Arrays as a weight of this plan has them, with random values."""
    geometry = {key: int(value) for key, value in plan.geometry.items()}
    chosen = METHODS[plan.method]
    if isinstance(chosen, DeepThinFloat16):
        m, n, r = (geometry[key] for key in "mnr")
        return chosen.stored(rng.standard_normal((m, r)), rng.standard_normal((r, n)))
    if plan.method.startswith("deepthin"):
        shapes = {"Xf": (geometry["m"], geometry["r"]), "Wf": (geometry["r"], geometry["n"])}
    elif plan.method == "low-rank":
        shapes = {"A": (plan.Q, geometry["K"]), "B": (geometry["K"], plan.R)}
    elif plan.method == "hashed":
        shapes = {"values": (geometry["K"],)}
    else:
        shapes = {"weight": (geometry["q"], geometry["r"])}
    made: dict[str, np.ndarray] = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    if plan.method == "same-size":
        made["inputs"] = np.sort(rng.permutation(plan.Q)[: geometry["q"]]).astype(np.uint16)
        made["outputs"] = np.sort(rng.permutation(plan.R)[: geometry["r"]]).astype(np.uint16)
    return made


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [
        ("deepthin", 0.1, COUNT),
        # Half of what is kept are transforms.
        ("deepthin", 0.0016, 6 * COUNT),
        ("deepthin-float16", 0.05, COUNT),
        ("deepthin-int8", 0.03, COUNT),
        ("deepthin-shuffled", 0.1, COUNT),
        ("low-rank", 0.1, COUNT),
        ("hashed", 0.1, COUNT),
        ("same-size", 0.2, COUNT),
    ],
)
def test_a_session_keeps_what_is_said(tmp_path: Path, name: str, size: float, count: int) -> None:
    """Several layers, so that what a session takes by itself hardly counts."""
    method, rng = METHODS[name], np.random.default_rng(0)
    plan = method.plan(SIDE, SIDE, size)
    builder, y, resident = OnnxBuilder(("X",)), "X", 0
    for number in range(count):
        compressed = Compressed(plan, arrays(plan, rng), 0.0)
        assert sum(array.nbytes for array in compressed.arrays.values()) == plan.disk_bytes
        y = method.export(compressed, builder, f"layer{number}", y, None)
        resident += method.resident_bytes(compressed)
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["rows", SIDE])]
    outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["rows", SIDE])]
    graph = helper.make_graph(builder.nodes, "layers", inputs, outputs, builder.initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("deepthin", 1)]
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    # What the C library keeps of freed memory for later is not the session's.
    kept = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "tests.ops.memory_probe", str(path), str(SIDE)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env={**os.environ, **kept}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 0.95 * resident < int(done.stdout) < 1.1 * resident + (2 << 20)
