"""The commands that build a graph from corpora and tune a decoder, on corpora of a few sentences."""

import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from models.decoding import Graph, GraphDecoder, build
from models.decoding.lexicon import UNITS, Lexicon, LexiconBuilder, cmu_dictionary
from models.decoding.spoken_forms import cardinal, day, numbers_and_dates, spelled, year

PROSE = ("THE CAT SAT ON THE MAT", "THE DOG SAT ON THE CAT", "IT WAS THE DOG'S MAT", "THE CAT WAS ON IT")
FORMS = {"an1": "ENTER A B C", "an2": "B TWO", "an3": "YES", "an4": "REPEAT"}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("corpora")
    for name in ("text", "librispeech-train", "an4-train"):
        (data / name).mkdir()
    (data / "text" / "lm-text.txt.xz").write_bytes(lzma.compress("\n".join(PROSE).encode()))
    header = "utterance\tspeaker\tpath\tseconds\ttranscript\n"
    rows = "".join(f"{name}\ts\tx.ogg\t1.0\t{words}\n" for name, words in FORMS.items())
    (data / "an4-train" / "manifest.tsv").write_text(header + rows)
    (data / "librispeech-train" / "manifest.tsv").write_text(header + "1-1\t1\tx.ogg\t1.0\tTHE HAT SAT\n")
    return data


@pytest.fixture(scope="module")
def folder(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "tiny"
    before = os.environ.get("DEEPTHIN_DATA")
    os.environ["DEEPTHIN_DATA"] = str(corpora)
    try:
        build.main([str(out), "--words", "50", "--order", "3", "--ngrams", "40"])
    finally:
        os.environ.pop("DEEPTHIN_DATA")
        if before is not None:
            os.environ["DEEPTHIN_DATA"] = before
    return out


def say(words: str) -> np.ndarray:
    lexicon = Lexicon(cmu_dictionary())
    phones = [phone for word in words.split() for phone in lexicon.pronunciations(word)[-1]]
    values = np.zeros((2 * len(phones) + 1, len(UNITS)), dtype=np.float32)
    values[::2, 0] = 12.0
    values[np.arange(1, len(values), 2), [UNITS.index(phone) for phone in phones]] = 12.0
    return (values - np.log(np.exp(values).sum(axis=1, keepdims=True))).astype(np.float32)


def test_a_built_graph_decodes_prose_and_forms(folder: Path) -> None:
    decoder = GraphDecoder.load(folder, UNITS, beam=14.0, max_active=3000)
    for words in ("THE DOG SAT ON THE MAT", "THE HAT", "ENTER B A C", "NINE TWO FIVE", "MAY TWENTY FIRST"):
        assert decoder.decode(say(words)).text == words


def test_the_manifest_tells_what_is_in_the_graph(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    prose, form = manifest["domains"]
    assert manifest["name"] == "tiny"
    assert manifest["bytes"] == (folder / "graph.bin").stat().st_size
    assert prose["ngrams"][0] == prose["words"] + 3
    assert sum(prose["ngrams"][1:]) <= 40
    assert form["prior"] + prose["prior"] == 1.0
    assert "CMU Pronouncing Dictionary" in manifest["attribution"]


def test_left_out_utterances_are_not_read(corpora: Path) -> None:
    assert build.read_transcripts(corpora / "an4-train", frozenset({"an1", "an4"})) == [["B", "TWO"], ["YES"]]


def test_the_builder_asks_for_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPTHIN_DATA", raising=False)
    with pytest.raises(SystemExit):
        build.main([str(tmp_path / "out")])


def test_tuning_measures_every_combination(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jiwer", reason="jiwer is not installed: pip install 'deepthin[eval]'")
    from models.decoding import tune

    np.savez(tmp_path / "part.npz", u1=say("THE CAT"), u2=say("B TWO"), x3=say("YES"))
    (tmp_path / "refs.tsv").write_text("u1\tTHE CAT\nu2\tB THREE\nx3\tYES\n")
    tune.main([str(folder), str(tmp_path), "--prefix", "u", "--lm-weight", "0.5", "1.0", "--word-score", "0"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 utterances, 4 words"
    assert len(lines) == 3
    assert all(line.startswith("WER 25.00%") for line in lines[1:])


def test_numbers_and_dates_in_words() -> None:
    assert cardinal(0) == ("ZERO",)
    assert cardinal(47) == ("FORTY", "SEVEN")
    assert cardinal(312) == ("THREE", "HUNDRED", "TWELVE")
    assert cardinal(20_500) == ("TWENTY", "THOUSAND", "FIVE", "HUNDRED")
    assert [" ".join(day(n)) for n in (1, 20, 21, 30, 31)] == [
        "FIRST", "TWENTIETH", "TWENTY FIRST", "THIRTIETH", "THIRTY FIRST",
    ]  # fmt: skip
    assert [" ".join(year(n)) for n in (1900, 1904, 1965, 2000, 2012)] == [
        "NINETEEN HUNDRED", "NINETEEN OH FOUR", "NINETEEN SIXTY FIVE", "TWO THOUSAND", "TWENTY TWELVE",
    ]  # fmt: skip
    assert spelled(["IT'S"]) == [("I", "T", "APOSTROPHE", "S")]
    assert numbers_and_dates(5, 4) == numbers_and_dates(5, 4)
    assert len(numbers_and_dates(5, 4)) == 20


def test_everything_made_up_can_be_pronounced() -> None:
    builder = LexiconBuilder()
    words = {word for sentence in numbers_and_dates(1, 2000) for word in sentence}
    builder.build(sorted(words))
    assert builder.sources["dictionary"] == len(words)


@pytest.mark.skipif("DEEPTHIN_DATA" not in os.environ, reason="needs the corpora: set DEEPTHIN_DATA to their folder")
def test_the_bundled_graph_covers_the_training_transcripts() -> None:
    graph = Path(build.__file__).parents[1] / "pretrained" / "graphs" / "english"
    if not graph.is_dir():
        pytest.skip("the english graph is not in this checkout")
    manifest = Graph.load(graph)
    words = {manifest.word(number) for number in range(sum(d["words"] + 3 for d in manifest.manifest["domains"]))}
    data = Path(os.environ["DEEPTHIN_DATA"])
    for corpus in ("librispeech-train", "an4-train"):
        missing = {word for line in build.read_transcripts(data / corpus) for word in line} - words
        assert not missing
