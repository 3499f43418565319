"""The benchmarks run and say what they promise; how fast they find things is no concern of a test."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import onnxruntime as ort
import pytest

from ops.benchmarks import coders, formats, kernels, paths, recurrent
from ops.benchmarks.kernels_page import render
from ops.benchmarks.kernels_row import FP32, Row
from ops.benchmarks.timing import cores_of_their_own
from ops.layout import Geometry
from ops.measure import MeasureError, estimate_products, measure_product

KEYS = ["op", "Q", "R", "batch", "threads", "baseline", "seconds", "baseline_seconds", "speedup", "size", "r", "n"]
MORE_KEYS = ["cache", "path", "gflops", "peak_gflops", "constant_bytes", "read_gb_s"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark of the kernels on a small matrix."""
    real = kernels.measure
    monkeypatch.setattr(kernels, "measure", lambda *_: real((64,), (0.1, 0.05, 0.001), (1, 9), (1, 2), 1))


@pytest.mark.usefixtures("small")
def test_json_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels.main(["--json", "--quick"]) == 0
    printed = capsys.readouterr()
    rows = json.loads(printed.out)
    assert "no 1024 x 1024 DeepThin matrix is as small as 0.0014" in printed.err
    assert {tuple(row) for row in rows} == {tuple(KEYS + MORE_KEYS)}
    found = {(row["cache"], row["threads"]): set() for row in rows}
    for row in rows:
        found[row["cache"], row["threads"]].add((row["size"], row["batch"], row["baseline"]))
        assert row["op"] == "DeepThinMatMul"
        assert row["speedup"] == pytest.approx(row["baseline_seconds"] / row["seconds"])
        assert min(row["seconds"], row["baseline_seconds"], row["gflops"]) > 0
    others = {"MatMul fp32", "DynamicQuantizeMatMul int8", "MatMulNBits int4, accuracy_level 4"}
    others = {f"onnxruntime {ort.__version__} {name}" for name in others} | {
        "low-rank pair",
        "CsrMatMul",
        "float16 factors",
        "int8 Xf, float16 Wf",
    }
    every = {(size, batch, other) for size in (0.1, 0.05) for batch in (1, 9) for other in others}
    assert found["warm", 1] == found["warm", 2] == found["cold", 1] == every
    assert {(size, batch, "roofline") for size in (0.1, 0.05) for batch in (1, 9)} <= found["kernel", 1]


@pytest.mark.usefixtures("small")
def test_table_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "performance.md"
    begin = "<!-- kernels: begin (written by `deepthin bench kernels --write docs`) -->"
    page.write_text(f"before\n{begin}\nold\n<!-- kernels: end -->\nbehind\n")
    assert kernels.main(["--write", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("instruction set")
    assert lines[2].split()[:2] == ["64", "1"]
    text = page.read_text()
    assert text.startswith(f"before\n{begin}\ninstruction set")
    assert text.endswith("<!-- kernels: end -->\nbehind\n")
    assert "\nold\n" not in text
    assert "| 64 | 1 | warm | 9 |" in text
    drawing = ElementTree.fromstring((tmp_path / "roofline.svg").read_text())
    assert len(drawing.findall("{http://www.w3.org/2000/svg}circle")) == 4 + 2


def test_a_target_that_is_missed_is_shown_so() -> None:
    def row(batch: int, seconds: float) -> Row:
        return Row(
            op="DeepThinMatMul", Q=2048, R=2048, batch=batch, threads=1, baseline=FP32, seconds=seconds,
            baseline_seconds=1.0, speedup=1 / seconds, size=0.0057, r=1, n=177, cache="warm", path="fft,rows",
            gflops=1.0, peak_gflops=1.0, constant_bytes=1.0, read_gb_s=1.0,
        )  # fmt: skip

    text = render([row(1, 0.01), row(16, 0.2), row(64, 0.1)])
    assert "| 2048 x 2048, batch 1: times faster than fp32 | 20 | 100.00 | reached |" in text
    assert "| 2048 x 2048, batch 16 and 64: times faster than fp32 | 8 | 5.00 | not reached |" in text


def test_a_path_is_forced_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPTHIN_OPS_PATH", "fft")
    geometry = Geometry(64, 64, 373, 11)
    with paths.forced("direct"):
        assert not measure_product(geometry, 1).transformed
    assert measure_product(geometry, 1).transformed


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = paths.measure
    monkeypatch.setattr(paths, "measure", lambda *_: real((64,), (0.1, 0.05, 0.001), (1, 9), 1))
    page = tmp_path / "performance.md"
    page.write_text("<!-- paths: begin (written by `deepthin bench paths --write docs`) -->\n<!-- paths: end -->\n")
    assert paths.main(["--json", "--write", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["size"], row["batch"]) for row in rows] == [(0.1, 1), (0.1, 9), (0.05, 1), (0.05, 9)]
    for row in rows:
        assert row["slower"] == pytest.approx(row["seconds"] / row["best_seconds"])
        assert {row["path"], row["best"]} <= set(paths.FIXED)
    assert "| 64 | 9 |" in page.read_text()
    assert paths.main(["--quick"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(rows)


def test_ways_that_are_too_slow_are_counted() -> None:
    def row(slower: float) -> paths.Row:
        return paths.Row(
            Q=512, batch=4, size=0.0195, n=53, path="direct,rows", seconds=slower, best="fft,rows", best_seconds=1.0,
            slower=slower,
        )  # fmt: skip

    text = paths.render([row(1.09), row(1.3)])
    assert "Of 2 products, 1 took more than 10% longer" in text
    assert "1.30 times as long (512 x 512, batch 4, 0.0195: direct,rows instead of fft,rows)" in text


def test_threads_get_cores_and_give_them_back() -> None:
    before = os.sched_getaffinity(0)
    with cores_of_their_own(1) as config:
        assert config == {} and os.sched_getaffinity(0) == before
    with cores_of_their_own(len(before) + 1) as config:
        assert config == {}
    if len(before) > 1:
        with cores_of_their_own(2) as config:
            first, second = sorted(before)[:2]
            assert os.sched_getaffinity(0) == {first}
            assert config == {"session.intra_op_thread_affinities": str(second + 1)}
    assert os.sched_getaffinity(0) == before


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(MeasureError, match="rows must be between 1 and 4096"):
        measure_product(Geometry(64, 64, 373, 11), 0)
    with pytest.raises(MeasureError, match=r"between 1 and 2\^31"):
        estimate_products(64, 64, 1, [(0, 1)])


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
        assert min(row["byte_seconds"], row["arithmetic_seconds"], row["lookup_seconds"]) > 0
        assert row["speedup"] == pytest.approx(row["baseline_seconds"] / row["seconds"])


def test_recurrent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    real = recurrent.measure
    monkeypatch.setattr(recurrent, "measure", lambda *_: real((32,), (0.3, 0.2, 0.001), 5, 1))
    page = tmp_path / "performance.md"
    page.write_text(
        "<!-- recurrent: begin (written by `deepthin bench recurrent --write docs`) -->\n<!-- recurrent: end -->"
    )
    assert recurrent.main(["--json", "--write", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["layer"], row["size"]) for row in rows] == [
        (layer, s) for layer in ("GRU", "LSTM") for s in (0.3, 0.2)
    ]
    for row in rows:
        assert row["speedup"] == pytest.approx(row["dense_seconds"] / row["seconds"])
        assert (row["int8_speedup"] is None) == (row["layer"] == "GRU")
    assert "| LSTM, H = 32: µs a step |" in page.read_text()
    assert recurrent.main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(rows)


def test_formats_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = formats.measure
    monkeypatch.setattr(formats, "measure", lambda *_: real((64,), (1,), (1,), 1))
    assert formats.main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("instruction set")
    assert len(lines) == 12
    assert all(line.endswith("x") for line in lines[2:])


def test_what_a_matrix_takes_is_set_against_the_longest_bound() -> None:
    row = formats.Row(
        op="CsrMatMul", Q=8, R=8, batch=1, threads=1, baseline="", seconds=12.0, baseline_seconds=24.0, speedup=2.0,
        setting="half", size=0.75, byte_seconds=2.0, arithmetic_seconds=3.0, lookup_seconds=6.0,
    )  # fmt: skip
    assert (row.roofline, row.bound) == (4.0, 2.0)
    assert formats.page([row]).splitlines()[-1].split(" | ")[-1] == "2.0 |"


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
