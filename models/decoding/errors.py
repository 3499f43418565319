"""Errors of the lexicon, the language model, graph files and decoders."""

from ops.errors import DeepThinError


class LexiconError(DeepThinError, ValueError):
    """A lexicon with a malformed line, an unknown phone or a word without pronunciation."""


class LanguageModelError(DeepThinError, ValueError):
    """An n-gram model or ARPA file that is malformed."""


class GraphError(DeepThinError, ValueError):
    """A decoding graph that is missing, truncated, corrupted or of another format version."""


class DecodeError(DeepThinError, ValueError):
    """Log probabilities or decoder options that cannot be decoded with."""
