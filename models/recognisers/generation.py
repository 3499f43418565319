"""Greedy generation with a decoder that keeps the keys and values of what it has read (Hugging Face's merged ONNX)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from models.errors import GraphMismatchError, InferenceError

_PAST: Final = re.compile(r"past_key_values\.(\d+)\.(decoder|encoder)\.(key|value)")
_IDS, _HIDDEN, _WITH_PAST, _LOGITS = "input_ids", "encoder_hidden_states", "use_cache_branch", "logits"
# A loop: so many tokens at the end that are one phrase over and over, at least so often.
_LOOP_TOKENS: Final = 12
_LOOP_TIMES: Final = 3
_LONGEST_PHRASE: Final = 24


@dataclass(frozen=True, slots=True)
class Generated:
    """What was generated for one piece of audio.

    Attributes:
        tokens: without those that start and end it.
        confidence: geometric mean of the probabilities of the tokens, the ending one included; 0 to 1.
        finished: whether the network ended it, rather than the limit or the guard against loops.
    """

    tokens: tuple[int, ...]
    confidence: float
    finished: bool


class CachedDecoder:
    """An autoregressive decoder; safe to call from many threads at once."""

    def __init__(self, session: ort.InferenceSession, name: str, *, start: int, end: int) -> None:
        """
        Args:
            session: the network, with inputs `input_ids`, `encoder_hidden_states`, `use_cache_branch` and, by layer,
                `past_key_values.N.{decoder,encoder}.{key,value}`; outputs `logits` and `present` instead of
                `past_key_values`.
            name: what errors call the model.
            start: token that starts every text.
            end: token that ends it.

        Raises:
            GraphMismatchError: the network is not of that kind.
        """
        self._session = session
        self._name = name
        self._start, self._end = start, end
        inputs = {value.name: value for value in session.get_inputs()}
        outputs = {value.name for value in session.get_outputs()}
        self._past = [found for value in inputs if (found := _PAST.fullmatch(value))]
        wanted = {_IDS, _HIDDEN, _WITH_PAST, *(found[0] for found in self._past)}
        presents = [_present(found) for found in self._past]
        if not self._past or set(inputs) != wanted or not {_LOGITS, *presents} <= outputs:
            raise GraphMismatchError(f"the decoder of model {name} takes {sorted(inputs)}: not one that can be run")
        self._first = [_LOGITS, *presents]
        self._later = [_LOGITS, *(_present(found) for found in self._past if found[2] == "decoder")]
        self._empty = {found[0]: _nothing(name, inputs[found[0]]) for found in self._past}

    def generate(self, hidden: npt.NDArray[np.float32], limit: int) -> Generated:
        """The tokens for encoder output `hidden` [1, steps, dim], at most `limit`.

        The keys and values of the encoder are worked out with the first token and kept; those of the decoder grow by
        one step with each. Generation also ends when the tokens go round in circles: the text then keeps one round.

        Raises:
            InferenceError: the network gave NaN.
        """
        feeds: dict[str, Any] = {_HIDDEN: hidden, **self._empty}
        tokens: list[int] = []
        token, score = self._start, 0.0
        for step in range(limit + 1):
            names = self._later if step else self._first
            feeds |= {_IDS: np.array([[token]], np.int64), _WITH_PAST: np.array([step > 0])}
            logits, *present = self._session.run(names, feeds)
            for found_name, value in zip(names[1:], present, strict=True):
                feeds[found_name.replace("present", "past_key_values", 1)] = value
            token, log_prob = _best(logits[0, -1], self._name)
            score += log_prob
            if token == self._end or step == limit:
                return Generated(tuple(tokens), float(np.exp(score / (step + 1))), token == self._end)
            tokens.append(token)
            if kept := without_loop(tokens):
                return Generated(tuple(kept), float(np.exp(score / (step + 1))), False)
        raise AssertionError("the last step returns")


def without_loop(tokens: Sequence[int]) -> Sequence[int]:
    """`tokens` with one round of the phrase that they end in again and again; nothing where they do not."""
    for length in range(1, min(_LONGEST_PHRASE, len(tokens) // _LOOP_TIMES) + 1):
        phrase, times = tokens[len(tokens) - length :], 1
        while (
            len(tokens) >= length * (times + 1)
            and tokens[len(tokens) - length * (times + 1) : len(tokens) - length * times] == phrase
        ):
            times += 1
        if times >= _LOOP_TIMES and times * length >= _LOOP_TOKENS:
            return tokens[: len(tokens) - length * (times - 1)]
    return ()


def _present(found: re.Match[str]) -> str:
    return found[0].replace("past_key_values", "present", 1)


def _nothing(model: str, value: ort.NodeArg) -> npt.NDArray[np.float32]:
    shape = value.shape
    if len(shape) != 4 or not isinstance(shape[1], int) or not isinstance(shape[3], int):
        raise GraphMismatchError(f"{value.name} of model {model} has shape {shape}, not [batch, heads, steps, size]")
    return np.zeros((0, shape[1], 1, shape[3]), np.float32)


def _best(logits: npt.NDArray[np.float32], model: str) -> tuple[int, float]:
    token = int(logits.argmax())
    shifted = logits.astype(np.float64) - logits[token]
    log_prob = -float(np.log(np.exp(shifted).sum()))
    if np.isnan(log_prob):
        raise InferenceError(f"model {model} gave values that are not numbers")
    return token, log_prob
