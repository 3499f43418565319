"""Linear interpolation of n-gram models into one back-off model."""

from collections.abc import Sequence

import numpy as np

from .errors import LanguageModelError
from .ngram import LOG_ZERO, FloatArray, IntArray, Level, NgramModel


def _union(
    models: Sequence[NgramModel], number: int, places: list[IntArray], words: int
) -> tuple[IntArray, list[IntArray]]:
    """Return the keys of all n-grams of one order, and where each model's own n-grams are among them."""
    own = []
    for model, place in zip(models, places, strict=True):
        level = model.levels[number] if number < model.order else None
        own.append(place[level.parent] * words + level.word if level else np.zeros(0, dtype=np.int64))
    keys = np.unique(np.concatenate(own))
    return keys, [np.searchsorted(keys, key) for key in own]


def mix(models: Sequence[NgramModel], weights: Sequence[float]) -> NgramModel:
    """Return the model with P(w | h) = sum of ``weights[i]`` P_i(w | h) for every n-gram that any of ``models`` holds.

    Args:
        models: unpruned models over one vocabulary.
        weights: one a model, positive; they are scaled to sum to one.

    Raises:
        LanguageModelError: the vocabularies differ, or a model holds an n-gram without its last n-1 words.
    """
    vocabulary = models[0].vocabulary
    if any(model.vocabulary.words != vocabulary.words for model in models):
        raise LanguageModelError("models to mix must share one vocabulary")
    share = np.array(weights, dtype=np.float64) / np.sum(weights)
    size = len(vocabulary)
    each: list[FloatArray] = [np.exp(model.levels[0].logprob) for model in models]  # P_i of the current order
    places: list[IntArray] = [np.arange(size)] * len(models)
    everywhere = np.arange(size)
    mixed = share @ np.array(each)
    tables = [(np.zeros(size, dtype=np.int64), everywhere, mixed)]
    suffix = np.zeros(size, dtype=np.int64)  # of the order below, in its own order below
    backoffs: list[FloatArray] = []
    for number in range(1, max(model.order for model in models)):
        keys, new_places = _union(models, number, places, size)
        parent, word = keys // size, keys % size
        if number == 1:
            new_suffix = word
        else:
            below_keys = tables[-1][0] * size + tables[-1][1]
            wanted = suffix[parent] * size + word
            new_suffix = np.minimum(np.searchsorted(below_keys, wanted), len(below_keys) - 1)
            if (below_keys[new_suffix] != wanted).any():
                raise LanguageModelError("a model to mix holds an n-gram without its last n-1 words: it is pruned")
        grown: list[FloatArray] = []
        for model, probability, place, new_place in zip(models, each, places, new_places, strict=True):
            weight = np.ones(len(tables[-1][0]))
            if number - 1 < model.order:
                weight[place] = np.exp(model.levels[number - 1].backoff)
            value = weight[parent] * probability[new_suffix]
            if number < model.order:
                value[new_place] = np.exp(model.levels[number].logprob)
            grown.append(value)
        below, mixed = mixed, share @ np.array(grown)
        high = np.bincount(parent, weights=mixed, minlength=len(below))
        low = np.bincount(parent, weights=below[new_suffix], minlength=len(below))
        backoffs.append(np.maximum(1.0 - high, 1e-12) / np.maximum(1.0 - low, 1e-12))
        tables.append((parent, word, mixed))
        each, places, suffix = grown, new_places, new_suffix
    backoffs.append(np.ones(len(mixed)))
    with np.errstate(divide="ignore"):
        levels = tuple(
            Level(parent, word, np.maximum(np.log(value), LOG_ZERO), np.log(backoff), size)
            for (parent, word, value), backoff in zip(tables, backoffs, strict=True)
        )
    return NgramModel(vocabulary, levels)
