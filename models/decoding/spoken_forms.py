"""Made-up sentences of the kind people say to a form: spelled words, digits, numbers, dates and codes.

They give an n-gram model the shape of such speech where its own training sentences are too few to show it.
"""

from collections.abc import Iterable

import numpy as np

DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
TEENS = (
    "TEN", "ELEVEN", "TWELVE", "THIRTEEN", "FOURTEEN", "FIFTEEN", "SIXTEEN", "SEVENTEEN", "EIGHTEEN", "NINETEEN",
)  # fmt: skip
TENS = ("TWENTY", "THIRTY", "FORTY", "FIFTY", "SIXTY", "SEVENTY", "EIGHTY", "NINETY")
MONTHS = (
    "JANUARY", "FEBRUARY", "MARCH", "APRIL", "MAY", "JUNE", "JULY", "AUGUST", "SEPTEMBER", "OCTOBER", "NOVEMBER",
    "DECEMBER",
)  # fmt: skip
ORDINALS = (
    "FIRST", "SECOND", "THIRD", "FOURTH", "FIFTH", "SIXTH", "SEVENTH", "EIGHTH", "NINTH", "TENTH", "ELEVENTH",
    "TWELFTH", "THIRTEENTH", "FOURTEENTH", "FIFTEENTH", "SIXTEENTH", "SEVENTEENTH", "EIGHTEENTH", "NINETEENTH",
    "TWENTIETH", "THIRTIETH",
)  # fmt: skip
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")

Sentence = tuple[str, ...]


def cardinal(number: int) -> Sentence:
    """Return the words of a number from 0 to 999999."""
    if number < 10:
        return (DIGITS[number],)
    if number < 20:
        return (TEENS[number - 10],)
    if number < 100:
        return (TENS[number // 10 - 2], *(cardinal(number % 10) if number % 10 else ()))
    name, size = ("HUNDRED", 100) if number < 1000 else ("THOUSAND", 1000)
    return (*cardinal(number // size), name, *(cardinal(number % size) if number % size else ()))


def day(number: int) -> Sentence:
    """Return the words of a day of the month, 1 to 31."""
    if number <= 20:
        return (ORDINALS[number - 1],)
    return ("THIRTIETH",) if number == 30 else (TENS[number // 10 - 2], ORDINALS[number % 10 - 1])


def year(number: int) -> Sentence:
    """Return the words of a year from 1000 on: two pairs of digits."""
    first, second = divmod(number, 100)
    if second == 0:
        return cardinal(number) if first % 10 == 0 else (*cardinal(first), "HUNDRED")
    return (*cardinal(first), *(("OH", DIGITS[second]) if second < 10 else cardinal(second)))


def spelled(words: Iterable[str]) -> list[Sentence]:
    """Return every word as a sentence of its letters, an apostrophe by its name."""
    return [tuple("APOSTROPHE" if letter == "'" else letter for letter in word) for word in words]


def numbers_and_dates(seed: int, each: int) -> list[Sentence]:
    """Return ``each`` random sentences of every kind: digits, numbers, pairs of numbers, dates, codes."""
    random = np.random.default_rng(seed)

    def digits(count: int) -> Sentence:
        zero = ("ZERO", "OH")[random.integers(2)]
        return tuple(zero if digit == 0 else DIGITS[digit] for digit in random.integers(10, size=count))

    sentences: list[Sentence] = []
    for _ in range(each):
        sentences.append(digits(int(random.integers(1, 11))))
        sentences.append(cardinal(int(10 ** random.uniform(0, 5))))
        sentences.append((*cardinal(int(random.integers(1, 100))), *cardinal(int(random.integers(10, 100)))))
        date = (MONTHS[random.integers(12)], *day(int(random.integers(1, 32))))
        sentences.append((*date, *year(int(random.integers(1900, 2030)))) if random.integers(2) else date)
        letters = tuple(LETTERS[letter] for letter in random.integers(26, size=int(random.integers(1, 6))))
        sentences.append((*letters, *(digits(3) if random.integers(2) else cardinal(int(random.integers(1, 1000))))))
    return sentences
