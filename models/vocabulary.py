"""The tokens of an exported CTC network, and the words that a sequence of them spells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import PackageError
from models.family_settings import CtcSettings

_LARGEST_FILE = 64 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """A token that was recognised.

    Attributes:
        token: its number.
        first: first output frame of it.
        last: last output frame of it.
        log_prob: sum of the log probabilities over these frames.
    """

    token: int
    first: int
    last: int
    log_prob: float


class Vocabulary:
    """Tokens by number, with the rules that make words of them."""

    def __init__(self, tokens: Sequence[str], settings: CtcSettings) -> None:
        """
        Raises:
            PackageError: there are none, or the blank is not among them.
        """
        self.tokens = tuple(tokens)
        self._settings = settings
        self._silent = frozenset(settings.silent)
        # Where there is but one case it says nothing, and lower case reads better.
        self._lower = not any(token.islower() for token in self.tokens if token not in self._silent and len(token) == 1)
        self.blank = self._blank(settings.blank)

    @classmethod
    def load(cls, file: Path, settings: CtcSettings) -> Vocabulary:
        """Read the vocabulary in `file`; see `CtcSettings.tokens`.

        Raises:
            PackageError: it is missing or malformed.
        """
        try:
            if file.stat().st_size > _LARGEST_FILE:
                raise PackageError(f"{file} is larger than {_LARGEST_FILE} bytes")
            text = file.read_text(encoding="utf-8")
            return cls(_from_json(json.loads(text)) if file.suffix == ".json" else _from_lines(text), settings)
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, PackageError):
                raise
            raise PackageError(f"{file} is not a vocabulary that can be read: {error}") from error

    def words(self, pieces: Iterable[Piece]) -> list[tuple[str, list[Piece]]]:
        """The words that `pieces` spell, each with its own pieces."""
        settings = self._settings
        words: list[tuple[list[str], list[Piece]]] = []
        open_word = False
        for piece in pieces:
            token = self.tokens[piece.token]
            if token in self._silent:
                continue
            if settings.separator is not None and token == settings.separator:
                open_word = False
                continue
            starts = bool(settings.word_start) and token.startswith(settings.word_start)
            letters = token.removeprefix(settings.word_start) if starts else token
            if starts:
                open_word = False
            if not letters:
                continue
            if not open_word:
                words.append(([], []))
                open_word = True
            words[-1][0].append(letters.lower() if self._lower else letters)
            words[-1][1].append(piece)
        return [(settings.joiner.join(letters), parts) for letters, parts in words]

    def _blank(self, blank: int | str) -> int:
        if isinstance(blank, str):
            if blank not in self.tokens:
                raise PackageError(f"the blank {blank!r} is not among the {len(self.tokens)} tokens")
            return self.tokens.index(blank)
        if not -len(self.tokens) <= blank < len(self.tokens):
            raise PackageError(f"the blank is token {blank} of {len(self.tokens)}")
        return blank % len(self.tokens)


def _from_json(fields: Any) -> list[str]:
    if isinstance(fields, list):
        return [str(token) for token in fields]
    if not isinstance(fields, dict):
        raise PackageError("a vocabulary in JSON is a list of tokens, or an object of numbers by token")
    return _ordered({str(token): int(number) for token, number in fields.items()})


def _from_lines(text: str) -> list[str]:
    lines = [line for line in text.split("\n") if line]
    # "token number"; a token that is a blank itself leaves the number alone on its line.
    split = [line.rpartition(" ") for line in lines]
    if all(number.isdecimal() for _, _, number in split):
        numbers = [int(number) for _, _, number in split]
        if sorted(numbers) == list(range(len(lines))):
            return [token for _, token in sorted(zip(numbers, (token or " " for token, _, _ in split), strict=True))]
    return lines


def _ordered(numbers: dict[str, int]) -> list[str]:
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise PackageError(f"the numbers of the tokens are not 0 to {len(numbers) - 1}")
    return sorted(numbers, key=numbers.__getitem__)
