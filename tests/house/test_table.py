"""The README's table of models."""

from pathlib import Path

import pytest

from models import table
from models.package import Manifest, ModelPackage
from tests.support import tiny_manifest

QUALITY = {"wer": 0.0714, "cer": 0.03, "rtf": 0.0213, "utterances": 130, "words": 773}


def package(name: str, resident: int, **changes) -> ModelPackage:
    weights = {"parameters": 1, "dense_parameters": 1, "disk_bytes": resident // 2, "resident_bytes": resident}
    manifest: Manifest = tiny_manifest(name, weights=weights, **changes)
    return ModelPackage(Path(name), manifest)


def test_a_row_says_what_the_manifest_says():
    dense = package("net-dense", 4_000_000)
    small = package(
        "net-small", 80_000, method="deepthin", relative_size=0.02, parent="net-dense", quality={"an4-test": QUALITY}
    )
    header, rule, *rows = table.render([small, dense], default="net-small").splitlines()
    assert header == ("| Model | Method | Weights on disk | in memory | against its parent | WER, an4-test | RTF |")
    assert header.count("|") == rule.count("|")
    assert rows == [
        "| `net-dense` | dense | 2.00 MB | 4.00 MB |  |  |  |",
        "| `net-small` (default) | deepthin | 40 kB | 80 kB | 1/50 | 7.1% | 0.021 |",
    ]


def test_no_models_is_said():
    assert table.render([], None) == "No model is bundled."


def test_the_table_goes_between_the_markers():
    text = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    assert table.update(text, "new") == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"


@pytest.mark.parametrize("text", ["", table.BEGIN, f"{table.END}\n{table.BEGIN}"])
def test_missing_markers_are_an_error(text: str):
    with pytest.raises(ValueError, match="needs a line"):
        table.update(text, "new")
