"""Turning per-frame unit log probabilities into words: language model, lexicon, graph files and decoders."""

from .decoder import Decoder, DecodeStream, Graph, GraphDecoder, GreedyDecoder, Hypothesis, HypothesisWord
from .errors import DecodeError, GraphError, LanguageModelError, LexiconError

__all__ = [
    "DecodeError",
    "DecodeStream",
    "Decoder",
    "Graph",
    "GraphDecoder",
    "GraphError",
    "GreedyDecoder",
    "Hypothesis",
    "HypothesisWord",
    "LanguageModelError",
    "LexiconError",
]
