"""deep-compression: relative indices, fillers, shared values and the exact number of entries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compression.base import StreamError
from models.compression.coding import encode_arrays
from models.compression.deep_compression import DeepCompression
from models.compression.relative_index import expected_fillers, fit, inputs_of, lay_out
from tests.compression.contract import check_stream, weight

DEEP = DeepCompression()


def naive(kept: npt.NDArray[np.bool_], gap_bits: int) -> list[tuple[int, int, int]]:
    """Output, place and gap of every entry, written down one zero after the other; a filler has no place."""
    entries = []
    for c in range(kept.shape[1]):
        zeros = 0
        waiting: list[tuple[int, int, int]] = []
        for q in range(kept.shape[0]):
            if kept[q, c]:
                entries += [*waiting, (c, c * kept.shape[0] + q, zeros)]
                zeros, waiting = 0, []
            elif zeros == (1 << gap_bits) - 1:
                waiting.append((c, -1, zeros))
                zeros = 0
            else:
                zeros += 1
    return entries


@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 6)),
    density=st.sampled_from([0.0, 0.02, 0.2, 1.0]),
    gap_bits=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_entries_are_laid_out_as_counting_zeros_gives_them(
    shape: tuple[int, int], density: float, gap_bits: int, seed: int
) -> None:
    kept = np.random.default_rng(seed).random(shape) < density
    places, gaps, counts = lay_out(kept, gap_bits)
    wanted = naive(kept, gap_bits)
    assert list(zip(places.tolist(), gaps.tolist(), strict=True)) == [(place, gap) for _, place, gap in wanted]
    assert counts.tolist() == [sum(c == output for c, _, _ in wanted) for output in range(shape[1])]
    inputs = inputs_of(gaps, counts)
    assert np.array_equal(inputs[places >= 0], places[places >= 0] % shape[0])


@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 8)),
    share=st.floats(0.0, 1.0),
    gap_bits=st.integers(1, 5),
    seed=st.integers(0, 1000),
    ties=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_exactly_the_wished_entries_are_filled(
    shape: tuple[int, int], share: float, gap_bits: int, seed: int, ties: bool
) -> None:
    rng = np.random.default_rng(seed)
    importance = rng.integers(0, 3, shape).astype(float) if ties else rng.random(shape) ** 4
    entries = max(1, round(share * importance.size))
    kept = fit(importance, entries, gap_bits)
    assert len(lay_out(kept, gap_bits)[0]) == entries


def test_the_most_important_places_are_kept() -> None:
    importance = np.random.default_rng(0).random((200, 30))
    kept = fit(importance, 900, 4)
    lowest, highest_left = np.sort(importance[kept])[5], importance[~kept].max()
    # All but the last few, which only fill up what is left over, are above all that was left out.
    assert lowest > np.sort(importance[~kept])[-20] and highest_left < np.median(importance[kept])


def test_fillers_are_as_many_as_expected_at_random_places() -> None:
    kept = np.random.default_rng(0).random((20_000, 20)) < 0.02
    places, _, _ = lay_out(kept, 4)
    assert (places < 0).sum() / kept.sum() == pytest.approx(expected_fillers(0.02, 4), rel=0.03)


def test_long_runs_of_zeros() -> None:
    """Two entries at the far ends of every output, so that most entries are fillers."""
    W = np.zeros((300, 6), np.float32)
    W[0], W[-1] = np.linspace(1, 2, 6), -1.5
    wanted = len(lay_out(W != 0, 3)[0])
    assert wanted == 6 * (2 + 298 // 8)
    plan = next(
        plan
        for plan in (DEEP.plan(300, 6, size) for size in np.linspace(0.02, 0.2, 50))
        if plan.geometry["entries"] >= len(lay_out(W != 0, int(plan.geometry["gap_bits"]))[0])
        and int(plan.geometry["value_bits"]) >= 3
    )
    compressed = DEEP.compress(W, plan)
    check_stream(DEEP, compressed)
    assert np.allclose(DEEP.decompress(compressed), W, atol=1e-5)


def test_shared_values_are_few_and_the_first_is_zero() -> None:
    compressed = DEEP.compress(weight(64, 48), DEEP.plan(64, 48, 0.1))
    codebook = compressed.arrays["codebook"]
    assert codebook[0] == 0 and codebook.size == 1 << int(compressed.plan.geometry["value_bits"])
    assert set(np.unique(DEEP.decompress(compressed))) <= set(codebook)


def test_hostile_streams_are_refused() -> None:
    plan = DEEP.plan(20, 10, 0.2)
    entries, value_bits, gap_bits = (int(plan.geometry[key]) for key in ("entries", "value_bits", "gap_bits"))
    good = {
        "codebook": np.linspace(0, 1, 1 << value_bits, dtype=np.float32),
        "symbols": np.zeros(entries, np.uint8),
        "gaps": np.zeros(entries, np.uint8),
        "counts": np.bincount(np.arange(entries) % 10).astype(np.int32),
    }
    DEEP.decode(encode_arrays(good), plan)
    for bad in (
        {"codebook": good["codebook"] + 1},
        {"symbols": good["symbols"] + np.uint8(1 << value_bits)},
        {"gaps": good["gaps"] + np.uint8((1 << gap_bits) - 1)},
        {"gaps": good["gaps"] + np.uint8(1 << gap_bits)},
        {"counts": good["counts"] + np.int32(1)},
    ):
        with pytest.raises(StreamError):
            DEEP.decode(encode_arrays({**good, **bad}), plan)
