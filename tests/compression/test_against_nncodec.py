"""The comparison with nncodec, without nncodec."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.compression.benchmarks import against_nncodec
from models.compression.benchmarks.against_nncodec import Row, at_error, main


def row(size: int, error: float) -> Row:
    return Row("w", "way", 1.0, size, 1.0, 0.9, error)


def test_bytes_at_an_error_are_between_those_of_the_points():
    rows = [row(100, 0.4), row(1000, 0.04)]
    assert at_error(rows, 0.4) == pytest.approx(100)
    assert at_error(rows, np.sqrt(0.4 * 0.04)) == pytest.approx(np.sqrt(100 * 1000))
    assert at_error(rows, 0.5) is at_error(rows, 0.01) is at_error([], 0.1) is None


@pytest.fixture
def network(tmp_path: Path) -> Path:
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(0, 0.1, (60, 70)).astype(np.float32), "w")
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 60])]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 70])]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", given, made, [weight])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_rows(network: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(network), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {each["way"] for each in rows} == {"uniform", "codebook", "low-rank-codebook"}
    for each in rows:
        assert each["bits"] == pytest.approx(8 * each["bytes"] / (60 * 70))
        assert 0 < each["weight_error"] < 1
        assert each["output_error"] is None


def test_table_with_another_coder(network: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    # Stands in for nncodec: halves the weight and says that this took as many bytes as qp asks for.
    script = "import sys, json, numpy as np; w = np.load(sys.argv[1]); "
    script += "[np.save(f'{sys.argv[2]}{q}.npy', w / 2) for q in sys.argv[3:]]; "
    script += "print(json.dumps([[int(q), int(q)] for q in sys.argv[3:]]))"
    monkeypatch.setattr(against_nncodec, "_NNCODEC", script)
    assert main([str(network), "--nncodec", sys.executable, "--qp", "500"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "w"
    assert any(line.split()[:3] == ["nncodec", "500", "500"] for line in lines)
    assert lines[-1].startswith("at the error 0.5000 of nncodec's 500 bytes, times: uniform 1.")


def test_a_failure_of_the_other_coder_is_told(network: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(against_nncodec, "_NNCODEC", "raise SystemExit('no such thing')")
    with pytest.raises(SystemExit, match="no such thing"):
        main([str(network), "--nncodec", sys.executable])
