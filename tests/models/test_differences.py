"""Word differences between two texts."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.decoding.g2p import edit_distance as plain_distance
from models.differences import EditKind, differences, edit_distance

TEXT = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=12).map(" ".join)


def told(reference: str, hypothesis: str) -> list[tuple[str, str | None, str | None]]:
    return [(edit.kind.value, edit.reference, edit.hypothesis) for edit in differences(reference, hypothesis)]


def test_every_kind() -> None:
    assert told("the old man sat", "the cold man sat down") == [
        ("same", "the", "the"),
        ("substituted", "old", "cold"),
        ("same", "man", "man"),
        ("same", "sat", "sat"),
        ("inserted", None, "down"),
    ]
    assert told("read a letter", "read letter") == [
        ("same", "read", "read"),
        ("deleted", "a", None),
        ("same", "letter", "letter"),
    ]


def test_nothing_against_something() -> None:
    assert told("", "") == []
    assert told("", "a") == [("inserted", None, "a")]
    assert told("a", "") == [("deleted", "a", None)]


@pytest.mark.parametrize(
    ("left", "right"), [("Good morning.", "good morning"), ("don't", "DON'T"), ("a — b", "a — b"), ("été", "ÉTÉ,")]
)
def test_case_and_punctuation_make_no_difference(left: str, right: str) -> None:
    assert {edit.kind for edit in differences(left, right)} == {EditKind.SAME}


@given(left=TEXT, right=TEXT)
def test_as_few_edits_as_can_be_and_no_word_lost(left: str, right: str) -> None:
    edits = differences(left, right)
    assert " ".join(edit.reference for edit in edits if edit.reference is not None) == left
    assert " ".join(edit.hypothesis for edit in edits if edit.hypothesis is not None) == right
    counts = Counter(edit.kind for edit in edits)
    fewest = plain_distance(left.split(), right.split())
    assert len(edits) - counts[EditKind.SAME] == fewest
    assert edit_distance([ord(word) for word in left.split()], [ord(word) for word in right.split()]) == fewest


def test_long_texts_do_not_fill_the_memory() -> None:
    words = [f"w{index % 50}" for index in range(4000)]
    edits = differences(" ".join(words), " ".join([*words[:2000], "new", *words[2000:]]))
    assert [edit.hypothesis for edit in edits if edit.kind is not EditKind.SAME] == ["new"]
