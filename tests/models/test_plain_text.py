"""Scoring compares words, however they are written."""

import pytest

from models.plain_text import plain_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("HE HADN'T GONE", "he hadn't gone"),
        ("He hadn\N{RIGHT SINGLE QUOTATION MARK}t gone, had he?", "he hadn't gone had he"),
        ("“Good-bye,” said Mr. O'Brien.", "good bye said mister o'brien"),
        ("the boys' room", "the boys' room"),
        ("In 1905, 12 men and 1,250 sheep", "in nineteen oh five twelve men and one thousand two hundred fifty sheep"),
        ("the 1st of 12345678", "the 1st of 12345678"),
        ("café — naïve", "café naïve"),
        (" ... ", ""),
    ],
)
def test_words_are_plain(text: str, words: str) -> None:
    assert plain_words(text) == words.split()
