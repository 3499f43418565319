"""The table of pulled models: measured, rendered, written between its markers."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import pretrained_table
from models.pretrained_recipes import Recipe
from models.pretrained_table import BEGIN, END, main
from tests.models import moonshine
from tests.models.moonshine import START
from tests.support import babble, encode


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "said"
    folder.mkdir()
    (folder / "a.wav").write_bytes(encode(babble(1.0)))
    (folder / "manifest.tsv").write_text("utterance\tpath\ttranscript\na\ta.wav\tHELLO OLD WORLD\n")
    return folder


def test_models_that_are_there_are_measured(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEEPTHIN_HOME", str(tmp_path / "home"))
    moonshine.save(tmp_path / "home" / "models", "tiny-moon", {START: 3, 3: 4, 4: 5})
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main([str(page), "--corpus", str(corpus), "--model", "tiny-moon", "--model", "gone"]) == 0
    assert "gone is not here" in capsys.readouterr().err
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| Model |")
    assert text.endswith(f"{END}\nafter\n")
    [row] = [line for line in text.splitlines() if line.startswith("| `tiny-moon`")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # One of three words is missing.
    assert cells[:2] == ["`tiny-moon`", "int8"]
    assert cells[5] == "33.3%" and float(cells[6]) > 0
    assert "Scored: 1 utterances, 3 words." in text
    assert main(["--corpus", str(corpus), "--model", "gone"]) == 1


def test_what_is_done_is_not_done_again(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEEPTHIN_HOME", str(tmp_path / "home"))
    moonshine.save(tmp_path / "home" / "models", "tiny-moon", {START: 3, 3: 4, 4: 5})
    recipes = (Recipe("int8", {"method": "int8"}), Recipe("deepthin .0001", {"method": "deepthin", "size": 0.0001}))
    monkeypatch.setattr(pretrained_table, "RECIPES", {"tiny-moon": recipes})
    command = [
        "--corpus",
        str(corpus),
        "--model",
        "tiny-moon",
        "--calibration",
        str(corpus),
        "--work",
        str(tmp_path / "w"),
    ]
    assert main(command) == 0
    first = capsys.readouterr()
    assert "measuring tiny-moon-int8" in first.err
    [row] = [line for line in first.out.splitlines() if line.startswith("| `tiny-moon-int8`")]
    assert row.split("|")[6].strip() == "33.3%"
    # What cannot be had is said, with the reason, and stops nothing.
    assert "`tiny-moon, deepthin .0001` could not be made: deepthin cannot store" in first.out
    for more in ([], ["--time-only"]):
        assert main([*command, *more]) == 0
        again = capsys.readouterr()
        assert "measuring" not in again.err and "| `tiny-moon-int8`" in again.out


def test_the_page_has_the_markers() -> None:
    text = (Path(__file__).parents[2] / "docs" / "pretrained.md").read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert pretrained_table.update(text, "x", begin=BEGIN, end=END).count("\nx\n") == 1
