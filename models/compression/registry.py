"""Every compression method by its name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from models.compression.base import CompressionError, Method
from models.compression.compact import INT2, INT3, INT4
from models.compression.deep_compression import DeepCompression
from models.compression.deepthin import DeepThin
from models.compression.deepthin_codebook import DeepThinCodebook
from models.compression.deepthin_shuffled import DeepThinShuffled
from models.compression.deepthin_typed import DeepThinFloat16, DeepThinInt8
from models.compression.dense import Dense
from models.compression.hashed import Hashed
from models.compression.int4 import Int4
from models.compression.int8 import Int8
from models.compression.low_rank import LowRank
from models.compression.low_rank_codebook import LowRankCodebook
from models.compression.pruned_csr import PrunedCsr
from models.compression.same_size import SameSize
from models.compression.separable_conv import SeparableConv

_ALL: Final[tuple[Method, ...]] = (
    Dense(),
    DeepThin(),
    DeepThinShuffled(),
    LowRank(),
    Hashed(),
    SameSize(),
    SeparableConv(),
    PrunedCsr(),
    DeepCompression(),
    LowRankCodebook(),
    DeepThinCodebook(),
    DeepThinFloat16(),
    DeepThinInt8(),
    Int8(),
    Int4(),
    INT4,
    INT3,
    INT2,
)

METHODS: Final[Mapping[str, Method]] = MappingProxyType({method.name: method for method in _ALL})


def method(name: str) -> Method:
    """The method called `name`.

    Raises:
        CompressionError: there is none of that name; the message lists those there are.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise CompressionError(f"there is no compression method {name!r}: use {', '.join(METHODS)}") from None
