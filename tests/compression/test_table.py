"""The table of all methods."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.compression import table
from models.compression.table import BEGIN, END, Cell, cells, main, render
from models.package import ModelPackage
from tests.compression.jobs import corpus
from tests.support import tiny_graph, tiny_manifest


def test_large_sizes_come_first_and_methods_of_one_size_last():
    found = cells(["net", "other"], ["dense", "deepthin", "int8"], [0.1, 0.01])
    assert found == [
        *(Cell(network, "deepthin", size) for size in (0.1, 0.01) for network in ("net", "other")),
        Cell("net", "int8", None),
        Cell("other", "int8", None),
    ]


def test_it_is_made_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(table, "BUNDLED", tmp_path / "models")
    ModelPackage.save(tmp_path / "models", tiny_manifest("tiny"), tiny_graph(recurrent=False))
    monkeypatch.setattr(table, "corpus_folder", lambda name: corpus(tmp_path / name))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    argv = ["-o", str(tmp_path / "out"), "--networks", "tiny", "--methods", "low-rank", "int8", "--evaluate", "calls"]
    argv += ["--sizes", ".3", ".0001", "--calibration", "calls", "--limit", "2", "--write", str(page)]
    assert main([*argv, "--only-done"]) == 0
    assert json.loads((tmp_path / "out" / "table.json").read_text())["cells"] == []
    assert main(argv) == 0
    made = json.loads((tmp_path / "out" / "table.json").read_text())
    found = made["cells"]
    assert [cell["size"] for cell in found] == [0.3, 0.0001, None]
    assert "reaches" in found[1]["error"] and found[0]["reached"] <= 0.3
    text = (tmp_path / "out" / "table.md").read_text()
    assert text == render(found, made["settings"])
    assert "| low-rank | 0.0001 | cannot reach |" in text and f"- low-rank at 0.0001: {found[1]['error']}" in text
    assert "WER calls" in text and "not fine-tuned" in text and "the first 2 utterances" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1
    assert page.read_text() == f"before\n{BEGIN}\n{text}\n{END}\nafter\n"
    assert not (tmp_path / "out" / "tiny_low-rank_0.3" / "stages" / "compress").exists()
    monkeypatch.setattr(table, "run", lambda *_, **__: pytest.fail("a cell that is there was done again"))
    assert main(argv) == 0
    assert main([*argv, "--calibration-seconds", "5"]) == 1
    assert "other settings (calibration_seconds)" in capsys.readouterr().err
    assert main([*argv, "--time-only"]) == 0
    timed = json.loads((tmp_path / "out" / "table.json").read_text())["cells"]
    assert timed[0]["speed"] != found[0]["speed"] and timed[1] == found[1]
    assert {**timed[0], "speed": 0} == {**found[0], "speed": 0}
