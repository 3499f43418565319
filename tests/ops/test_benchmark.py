"""The benchmarks run and say what they promise; how fast they find things is no concern of a test."""

import json

import pytest

from ops.benchmarks import coders, formats, kernels

KEYS = ["op", "Q", "R", "batch", "threads", "baseline", "seconds", "baseline_seconds", "speedup", "size", "r", "n"]


def test_json_rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = kernels.measure
    monkeypatch.setattr(kernels, "measure", lambda *_: real((64,), (0.1, 0.05, 0.001), (1, 9), (1, 2), 1))
    assert kernels.main(["--json", "--quick"]) == 0
    printed = capsys.readouterr()
    rows = json.loads(printed.out)
    assert "no 1024 x 1024 DeepThin matrix is as small as 0.0014" in printed.err
    assert [list(row) for row in rows] == [KEYS] * 8
    assert {(row["size"], row["batch"], row["threads"]) for row in rows} == {
        (size, batch, threads) for size in (0.1, 0.05) for batch in (1, 9) for threads in (1, 2)
    }
    for row in rows:
        assert row["op"] == "DeepThinMatMul"
        assert row["speedup"] == pytest.approx(row["baseline_seconds"] / row["seconds"])
        assert min(row["seconds"], row["baseline_seconds"]) > 0


def test_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = kernels.measure
    monkeypatch.setattr(kernels, "measure", lambda *_: real((64,), (0.1,), (1,), (1,), 1))
    assert kernels.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("instruction set")
    assert len(lines) == 3
    assert lines[2].endswith("x")


def test_formats(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = formats.measure
    monkeypatch.setattr(formats, "measure", lambda *_: real((64,), (1, 9), (1,), 1))
    assert formats.main(["--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 2 * 10
    assert {row["op"] for row in rows} == {
        "CsrMatMul", "CodebookMatMul", "CodebookCsrMatMul", "HashedMatMul", "DeepThinMatMul"
    }  # fmt: skip
    for row in rows:
        assert 0 < row["size"] < 0.5
        assert row["speedup"] == pytest.approx(row["baseline_seconds"] / row["seconds"])


def test_formats_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = formats.measure
    monkeypatch.setattr(formats, "measure", lambda *_: real((64,), (1,), (1,), 1))
    assert formats.main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("instruction set")
    assert len(lines) == 12
    assert all(line.endswith("x") for line in lines[2:])


def test_coders(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = coders.measure
    monkeypatch.setattr(coders, "measure", lambda *_: real(50_000, 1))
    assert coders.main(["--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["coder"] for row in rows} == {"range", "Huffman"}
    for row in rows:
        assert row["symbols"] == 50_000
        assert row["excess"] == pytest.approx(row["coded_bytes"] / row["entropy_bytes"] - 1)
        assert row["entropy_bytes"] <= row["coded_bytes"] < row["symbol_bytes"]
    assert coders.main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(rows)
