"""Texts as scoring compares them: words alone, whatever case, punctuation or digits the model writes."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from models.decoding.spoken_forms import cardinal, year

_TITLES: Final = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint"}
# A word, or a number with commas between its thousands.
_WORDS: Final = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)|\d+(?![^\W\d_])|[^\W_]+(?:'[^\W_]+)*'?")
_YEARS: Final = range(1100, 2100)
_LARGEST: Final = 999_999


def plain_words(text: str) -> list[str]:
    """The words of `text` in lower case: no punctuation but apostrophes, numbers and titles written out.

    A whole number of four digits that may be a year is read as one; larger numbers than 999,999, and those with
    letters behind them (1st), stay as they are. References and hypotheses must both go through it.
    """
    flat = unicodedata.normalize("NFKC", text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower()
    words: list[str] = []
    for word in _WORDS.findall(flat):
        digits = word.replace(",", "")
        if digits.isascii() and digits.isdigit() and int(digits) <= _LARGEST:
            number = int(digits)
            is_year = len(word) == 4 and number in _YEARS
            words += [part.lower() for part in (year(number) if is_year else cardinal(number))]
        else:
            words.append(_TITLES.get(word, word))
    return words
