"""Text from the token numbers of a sentencepiece-like vocabulary with byte fallback (`tokenizer.json`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from models.errors import PackageError

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BLANK = "▁"
_LARGEST_FILE = 64 << 20


class TokenDecoder:
    """Joins tokens: the mark of a word's start becomes a blank, bytes become characters, control tokens vanish."""

    def __init__(self, vocabulary: Mapping[int, str], special: Iterable[int] = ()) -> None:
        """`vocabulary` names each token; those in `special` leave no text."""
        hidden = set(special)
        self._pieces: dict[int, bytes] = {
            number: b"" if number in hidden else _bytes(piece) for number, piece in vocabulary.items()
        }

    @classmethod
    def load(cls, file: Path) -> TokenDecoder:
        """Read a `tokenizer.json` (Hugging Face tokenizers, model BPE with byte fallback).

        Raises:
            PackageError: it is missing, or of another kind.
        """
        try:
            if file.stat().st_size > _LARGEST_FILE:
                raise PackageError(f"{file} is larger than {_LARGEST_FILE} bytes")
            fields: Any = json.loads(file.read_bytes())
            added = fields.get("added_tokens", [])
            if fields["model"]["type"] != "BPE" or not fields["model"].get("byte_fallback"):
                raise PackageError(f"{file} is not a byte-pair vocabulary with byte fallback")
            vocabulary = {int(number): str(piece) for piece, number in fields["model"]["vocab"].items()}
            vocabulary |= {int(token["id"]): str(token["content"]) for token in added}
            return cls(vocabulary, [int(token["id"]) for token in added if token.get("special")])
        except PackageError:
            raise
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise PackageError(f"{file} is not a tokenizer that can be read: {error}") from error

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self._pieces)

    def text(self, tokens: Iterable[int]) -> str:
        """The text of `tokens`; a number without a name leaves none."""
        joined = b"".join(self._pieces.get(token, b"") for token in tokens)
        return " ".join(joined.decode("utf-8", errors="replace").split())


def _bytes(piece: str) -> bytes:
    if found := _BYTE.fullmatch(piece):
        return bytes([int(found[1], 16)])
    return piece.replace(_BLANK, " ").encode()
