"""Packed arrays, quantisation, and what a broken graph file says."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decoding import Graph, GraphError, graph_file
from models.decoding.graph import grow_tree, sections
from models.decoding.lexicon import Lexicon
from models.decoding.quantisation import quantise
from ops.search import SearchError, SearchGraph
from tests.decoding import graphs


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=60), st.integers(0, 31))
def test_packing_is_undone_by_unpacking(values: list[int], shift: int) -> None:
    array = np.array(values, dtype=np.int64) >> shift
    packed = graph_file.pack(array)
    assert graph_file.unpack(np.frombuffer(packed, dtype=np.uint8)).tolist() == array.tolist()
    bits = max(1, int(array.max(initial=0)).bit_length())
    assert len(packed) == 16 + -(-len(values) * bits // 8) + 8


def test_packing_refuses_wide_numbers() -> None:
    with pytest.raises(GraphError, match="32 bits"):
        graph_file.pack(np.array([2**33]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), max_size=1500))
def test_ranks_count_the_members_before(members: list[bool]) -> None:
    bits, ranks = graph_file.ranked_bits(np.array(members, dtype=np.bool_))
    unpacked = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little")
    assert unpacked[: len(members)].tolist() == members
    assert not unpacked[len(members) :].any()
    assert np.frombuffer(ranks, dtype="<u4").tolist() == [sum(members[:at]) for at in range(0, len(members) + 1, 512)]


def test_few_values_are_kept_exactly() -> None:
    values = np.random.default_rng(0).choice(np.linspace(-9, 0, 200), 5000)
    codes, book = quantise(values)
    assert np.abs(book[codes] - values).max() < 1e-6


def test_quantisation_error_is_bounded() -> None:
    random = np.random.default_rng(1)
    values = np.concatenate([-random.gamma(2.0, 3.0, 200_000), np.zeros(5000), [-60.0]])
    codes, book = quantise(values)
    error = np.abs(book[codes] - values)
    assert (np.diff(book) >= 0).all()
    assert book[codes[values == 0.0]].tolist() == [0.0] * 5000
    assert np.sqrt((error**2).mean()) < 0.04
    assert error.max() < 60 / 127  # no gap wider than half of the codes spread evenly


def test_the_tree_shares_prefixes() -> None:
    tree = grow_tree([graphs.domain()], graphs.UNITS)
    # T, T AA, T AA B, T AA K, AA, AA T, AA T T below the root
    assert len(tree.unit) == 8
    assert tree.child[-1] == 8
    assert len(tree.said) == 7
    unigrams = graphs.model().levels[0].logprob
    assert tree.ahead[0] == unigrams[3:].max()


def test_graph_and_words_round_trip(tmp_path: Path) -> None:
    graph = Graph.load(graphs.write(tmp_path / "g"))
    assert [graph.word(number) for number in range(3, 9)] == list(graphs.ENTRIES)
    assert graph.units == graphs.UNITS
    assert graph.manifest["name"] == "g"


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = graphs.write(tmp_path / "g"), graphs.write(tmp_path / "again" / "g")
    assert (first / "graph.bin").read_bytes() == (second / "graph.bin").read_bytes()
    assert (first / "manifest.json").read_text() == (second / "manifest.json").read_text()


def test_a_graph_needs_words() -> None:
    with pytest.raises(GraphError, match="pronunciation"):
        sections([graphs.domain(entries={"OTHER": (("AA",),)})], graphs.UNITS)
    with pytest.raises(GraphError, match="at least one domain"):
        sections([], graphs.UNITS)
    assert len(Lexicon({})) == 0


def damage_missing(folder: Path) -> None:
    (folder / "graph.bin").unlink()


def damage_no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def damage_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def damage_manifest_fields(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}")


def damage_truncate(folder: Path) -> None:
    path = folder / "graph.bin"
    path.write_bytes(path.read_bytes()[:-100])


def damage_flip(folder: Path) -> None:
    path = folder / "graph.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def damage_version(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_missing, r"graph\.bin is missing"),
        (damage_no_manifest, r"no manifest\.json"),
        (damage_manifest, "malformed"),
        (damage_manifest_fields, "malformed"),
        (damage_truncate, "truncated"),
        (damage_flip, "corrupted"),
        (damage_version, "format 99"),
    ],
)
def test_a_broken_folder_is_a_named_error(tmp_path: Path, damage: object, message: str) -> None:
    folder = graphs.write(tmp_path / "g")
    damage(folder)  # type: ignore[operator]
    with pytest.raises(GraphError, match=message):
        Graph.load(folder)


def raw(tmp_path: Path) -> np.ndarray:
    return np.frombuffer((graphs.write(tmp_path / "g") / "graph.bin").read_bytes(), dtype=np.uint8).copy()


def test_the_library_refuses_every_truncation(tmp_path: Path) -> None:
    data = raw(tmp_path)
    for size in [*range(64), *range(64, len(data) - 64, 41)]:
        with pytest.raises(SearchError):
            SearchGraph(data[:size].copy())


def test_the_library_survives_flipped_bits(tmp_path: Path) -> None:
    data = raw(tmp_path)
    random = np.random.default_rng(0)
    refused = 0
    for place in random.integers(0, len(data), 600):
        broken = data.copy()
        broken[place] ^= np.uint8(1 << random.integers(8))
        try:
            SearchGraph(broken)
        except SearchError:
            refused += 1
    assert refused > 50


def test_the_library_refuses_another_version(tmp_path: Path) -> None:
    data = raw(tmp_path)
    data[8] = 7
    with pytest.raises(SearchError, match="version 7"):
        SearchGraph(data)
    data[0] = 0
    with pytest.raises(SearchError, match="not a decoding graph"):
        SearchGraph(data)
