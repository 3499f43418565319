"""The check of this machine's arithmetic against the definitions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import selfcheck
from models.selfcheck import self_check
from models.store import BUNDLED
from ops import reference

rng = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def network(op: str, weights: list[np.ndarray], outputs: int = 1, **attributes: object) -> onnx.ModelProto:
    """One operator over `x` [1, frames, 6], with its constants behind it."""
    names = [f"w{index}" for index in range(len(weights))]
    node = helper.make_node(op, ["x", *names], ["y", "last"][:outputs], domain="deepthin", **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "frames", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, name) for weight, name in zip(weights, names, strict=True)],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("deepthin", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


NETWORKS = {
    "factors": network("DeepThinMatMul", [floats(5, 2), floats(2, 5), floats(4)], Q=6, R=4, activation="relu"),
    "shuffled": network("DeepThinMatMul", [floats(5, 2), floats(2, 5)], Q=6, R=4, shuffle=7),
    "sparse": network(
        "CsrMatMul",
        [floats(3), np.array([0, 5, 2], np.uint16), np.array([0, 1, 1, 3, 3], np.int32)],
        Q=6,
        R=4,
    ),
    "hashed": network("HashedMatMul", [floats(5), floats(4)], Q=6, R=4, seed=3),
    "codebook": network("CodebookMatMul", [floats(4), rng.integers(0, 255, 8).astype(np.uint8)], Q=6, R=4, bits=2),
    "gru": network("DeepThinGRU", [floats(7, 2), floats(2, 8), floats(4, 2), floats(2, 7)], 2, hidden_size=3),
    "gru, batch first": network(
        "DeepThinGRU", [floats(7, 2), floats(2, 8), floats(4, 2), floats(2, 7)], 2, hidden_size=3, layout=1,
        input_size=6, gate_order="rzh",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_right_arithmetic_is_found_to_be_right(name: str) -> None:
    found = self_check(NETWORKS[name])
    assert found.operators == 1
    assert found.passed
    assert found.difference < 1e-5


def test_wrong_arithmetic_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reference.hashed_matmul
    monkeypatch.setitem(selfcheck._MATRIX_OPS, "HashedMatMul", lambda *a, **k: 1.01 * right(*a, **k))
    found = self_check(NETWORKS["hashed"])
    assert not found.passed
    assert found.worst == "y"
    assert found.difference == pytest.approx(0.01, rel=0.5)


def test_a_network_of_standard_operators_has_nothing_to_check() -> None:
    assert self_check(onnx.load(BUNDLED / "tfkaldi-dense" / "model.onnx")).operators == 0


def test_packages_are_checked_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(tmp_path / "none"), str(BUNDLED / "deepspeech-deepthin-250")]
    selfcheck.main(folders)
    none, small = map(json.loads, capsys.readouterr().out.splitlines())
    assert none["folder"] == folders[0]
    assert "FileNotFoundError" in none["error"]
    assert small["folder"] == folders[1]
    assert small["difference"] < small["tolerance"]
    assert small["operators"] == 5
