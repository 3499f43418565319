"""The table of all methods."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.compression import table
from models.compression.table import Cell, cells, main, render
from models.package import ModelPackage
from tests.compression.jobs import corpus
from tests.support import tiny_graph, tiny_manifest


def test_methods_of_one_size_have_one_cell():
    found = cells(["net"], ["dense", "deepthin", "int8"], [0.1, 0.01])
    assert found == [Cell("net", "deepthin", 0.1), Cell("net", "deepthin", 0.01), Cell("net", "int8", None)]


def test_it_is_made_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(table, "BUNDLED", tmp_path / "models")
    ModelPackage.save(tmp_path / "models", tiny_manifest("tiny"), tiny_graph(recurrent=False))
    monkeypatch.setattr(table, "corpus_folder", lambda name: corpus(tmp_path / name))
    argv = ["-o", str(tmp_path / "out"), "--networks", "tiny", "--methods", "low-rank", "int8", "--evaluate", "calls"]
    assert main([*argv, "--sizes", ".3", ".0001", "--calibration", "calls", "--limit", "2"]) == 0
    made = json.loads((tmp_path / "out" / "table.json").read_text())["cells"]
    assert [cell["size"] for cell in made] == [0.3, 0.0001, None]
    assert "reaches" in made[1]["error"] and made[0]["reached"] <= 0.3
    text = (tmp_path / "out" / "table.md").read_text()
    assert text == render(made) and "| low-rank | 0.0001 | not reachable |" in text and "WER calls" in text
    assert not (tmp_path / "out" / "tiny_low-rank_0.3" / "stages").exists()
    monkeypatch.setattr(table, "run", lambda *_, **__: pytest.fail("a cell that is there was done again"))
    assert main([*argv, "--sizes", ".3", ".0001", "--calibration", "calls", "--limit", "2"]) == 0
