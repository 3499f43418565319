"""low-rank-codebook: shared values in both factors."""

from __future__ import annotations

import numpy as np
import pytest

from models.compression.base import StreamError
from models.compression.coding import encode_arrays
from models.compression.low_rank import LowRank
from models.compression.low_rank_codebook import LowRankCodebook
from tests.compression.contract import check_stream, weight

METHOD = LowRankCodebook()


def test_as_much_rank_as_the_size_allows() -> None:
    for size in (0.01, 0.03, 0.1):
        plan = METHOD.plan(300, 200, size)
        K, bits = int(plan.geometry["K"]), int(plan.geometry["bits"])
        one_more = (300 * bits + 7) // 8 + 200 * ((K + 1) * bits + 7) // 8 - 200 * (K * bits + 7) // 8 + 4
        assert plan.disk_bytes + one_more + 200 > size * 4 * 300 * 200


def test_shared_values_beat_fewer_ranks_at_the_same_size() -> None:
    W, low_rank = weight(200, 160), LowRank()
    for size in (0.05, 0.2):
        rank = low_rank.compress(W, low_rank.plan(200, 160, size))
        shared = METHOD.compress(W, METHOD.plan(200, 160, size))
        assert shared.relative_error < rank.relative_error


def test_a_price_on_bits_shortens_the_stream_and_not_the_file() -> None:
    W, plan = weight(200, 160), METHOD.plan(200, 160, 0.15)
    free, priced = METHOD.compress(W, plan), LowRankCodebook(0.01).compress(W, plan)
    assert len(METHOD.encode(priced)) < 0.97 * len(METHOD.encode(free)) < plan.disk_bytes
    check_stream(METHOD, priced)


def test_hostile_streams_are_refused() -> None:
    plan = METHOD.plan(40, 30, 0.1)
    compressed = METHOD.compress(weight(40, 30), plan)
    K, bits = int(plan.geometry["K"]), int(plan.geometry["bits"])
    parts = {
        **compressed.arrays,
        "A.indices": np.full((40, K), 1 << bits, np.uint8),
        "B.indices": np.zeros((K, 30), np.uint8),
    }
    with pytest.raises(StreamError, match="names no value"):
        METHOD.decode(encode_arrays(parts), plan)
