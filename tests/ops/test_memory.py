"""What a session keeps of a large matrix: the stored arrays and little more, and nothing of the dense matrix's size."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops import graph
from ops.layout import solve
from tests.ops.memory_probe import PROC
from tests.ops.operators import matrix_model

SIDE = 4096
DENSE = 4 * SIDE * SIDE
PER_OUTPUT = SIDE // 20
"""Entries of each output of a matrix pruned to 5%."""

pytestmark = pytest.mark.skipif(not PROC.exists(), reason=f"there is no {PROC} to read the memory from")


def growth(model: bytes, folder: Path) -> int:
    """By how many bytes a process grows that loads and runs the model."""
    path = folder / "model.onnx"
    path.write_bytes(model)
    command = [sys.executable, "-m", "tests.ops.memory_probe", str(path), str(SIDE)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def stored(name: str) -> tuple[str, dict[str, Any], dict[str, int]]:
    """An operator, its constant inputs and its attributes."""
    rng = np.random.default_rng(0)
    count = SIDE * PER_OUTPUT
    starts = np.arange(SIDE + 1, dtype=np.int32) * PER_OUTPUT
    match name:
        case "csr":
            inputs = np.tile(np.arange(PER_OUTPUT, dtype=np.uint16) * 20, SIDE)
            values = rng.standard_normal(count, np.float32)
            return "CsrMatMul", {"values": values, "inputs": inputs, "starts": starts}, {}
        case "codebook":
            indices = rng.integers(0, 256, SIDE * SIDE // 4, np.uint8)
            return "CodebookMatMul", {"codebook": np.arange(4, dtype=np.float32), "indices": indices}, {"bits": 2}
        case "codebook-csr":
            arrays = {
                "codebook": np.arange(32, dtype=np.float32),
                "symbols": rng.integers(0, 256, -(-count * 5 // 8), np.uint8),
                "gaps": np.full(-(-count * 4 // 8), 0x77, np.uint8),
                "starts": starts,
            }
            return "CodebookCsrMatMul", arrays, {"value_bits": 5, "gap_bits": 4}
        case "hashed":
            return "HashedMatMul", {"values": rng.standard_normal(SIDE * SIDE // 50, np.float32)}, {"seed": 1}
        case "shuffled":
            geometry = solve(SIDE, SIDE, 0.01)
            Xf, Wf = (rng.standard_normal(shape, np.float32) for shape in ((geometry.m, 1), (1, geometry.n)))
            return "DeepThinMatMul", {"Xf": Xf, "Wf": Wf}, {"shuffle": 1}
    raise ValueError(name)


@pytest.mark.parametrize("name", ["csr", "codebook", "codebook-csr", "hashed", "shuffled"])
def test_memory_follows_the_stored_arrays(name: str, tmp_path: Path) -> None:
    op, arrays, attributes = stored(name)
    size = sum(array.nbytes for array in arrays.values())
    grown = growth(matrix_model(op, SIDE, SIDE, arrays, **attributes), tmp_path)
    # The arrays, 16 rows of values on their way in and out, and what the runtime needs for itself.
    assert size - 100_000 < grown < 1.1 * size + 4_000_000 < DENSE / 5


def test_a_dense_matrix_is_seen(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)
    node = graph.node("MatMul", ["X", "W"], ["Y"])
    values = [graph.value(name, ["N", SIDE]) for name in ("X", "Y")]
    assert growth(graph.model([node], values[:1], values[1:], [graph.tensor("W", weight)]), tmp_path) > 0.9 * DENSE
