"""The operators on sparse, shared, hashed and shuffled matrices, against the double-precision reference."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.library import instruction_set, session
from ops.reference import ACTIVATIONS, matmul
from tests.ops import formats
from tests.ops.operators import matrix_model

# The fixture forces an instruction set for all examples alike; hypothesis cannot know that this is meant.
examples = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

SIDES = st.integers(1, 130)
SEEDS = st.integers(-(2**40), 2**40)
CALLS = {
    "rows": st.integers(0, 75),
    "draw": st.integers(0, 99),
    "bias": st.booleans(),
    "activation": st.sampled_from(ACTIVATIONS),
    "threads": st.sampled_from([1, 2]),
}


def check(
    stored: formats.Stored,
    batch: tuple[int, ...],
    draw: int = 0,
    bias: bool = True,
    activation: str = "",
    threads: int = 1,
) -> None:
    rng = np.random.default_rng(draw + 1000)
    Q, R = stored.weight.shape
    added = rng.standard_normal(R).astype(np.float32) if bias else None
    shape = tuple(f"axis{i}" for i in range(len(batch)))
    model = matrix_model(stored.op, Q, R, stored.inputs, added, shape, activation=activation, **stored.attributes)
    x = rng.standard_normal((*batch, Q)).astype(np.float32)
    (y,) = session(model, threads=threads).run(None, {"X": x})
    expected = matmul(x, stored.weight, added, activation)
    assert y.shape == expected.shape
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=0, atol=5e-6 * max(1.0, np.abs(expected).max(initial=0)))


@examples
@given(Q=SIDES, R=SIDES, density=st.sampled_from([0.0, 0.02, 0.3, 1.0]), wide=st.booleans(), **CALLS)
def test_csr(isa: str, Q: int, R: int, density: float, wide: bool, rows: int, draw: int, **call: Any) -> None:
    assert instruction_set() == isa
    check(formats.csr(np.random.default_rng(draw), Q, R, density, wide), (rows,), draw, **call)


@examples
@given(Q=SIDES, R=SIDES, bits=st.integers(1, 8), share=st.floats(0.01, 1), **CALLS)
def test_codebook(isa: str, Q: int, R: int, bits: int, share: float, rows: int, draw: int, **call: Any) -> None:
    size = max(1, int(share * (1 << bits)))
    check(formats.codebook(np.random.default_rng(draw), Q, R, bits, size), (rows,), draw, **call)


@examples
@given(
    Q=SIDES,
    R=SIDES,
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    value_bits=st.integers(1, 8),
    gap_bits=st.integers(1, 8),
    **CALLS,
)
def test_codebook_csr(
    isa: str, Q: int, R: int, density: float, value_bits: int, gap_bits: int, rows: int, draw: int, **call: Any
) -> None:
    rng = np.random.default_rng(draw)
    check(formats.codebook_csr(rng, Q, R, density, value_bits, gap_bits), (rows,), draw, **call)


@examples
@given(Q=SIDES, R=SIDES, K=st.sampled_from([1, 2, 17, 1000, 70001]), seed=SEEDS, **CALLS)
def test_hashed(isa: str, Q: int, R: int, K: int, seed: int, rows: int, draw: int, **call: Any) -> None:
    check(formats.hashed(np.random.default_rng(draw), Q, R, K, seed), (rows,), draw, **call)


@examples
@given(Q=SIDES, R=SIDES, n=st.integers(1, 300), r=st.integers(1, 3), seed=SEEDS.filter(lambda seed: seed != 0), **CALLS)
def test_shuffled(isa: str, Q: int, R: int, n: int, r: int, seed: int, rows: int, draw: int, **call: Any) -> None:
    check(formats.shuffled(np.random.default_rng(draw), Q, R, n, r, seed), (rows,), draw, **call)


def large(Q: int, R: int) -> list[formats.Stored]:
    rng = np.random.default_rng(2)
    return [
        formats.csr(rng, Q, R, 0.1),
        formats.codebook(rng, Q, R, 2),
        formats.codebook(rng, Q, R, 4),
        formats.codebook(rng, Q, R, 5),
        formats.codebook(rng, Q, R, 8),
        formats.codebook_csr(rng, Q, R, 0.1, 5, 4),
        formats.codebook_csr(rng, Q, R, 0.1, 6, 3),
        formats.hashed(rng, Q, R, 1234, 7),
        formats.shuffled(rng, Q, R, 101, 1, 7),
    ]


@pytest.mark.parametrize("stored", large(1300, 150), ids=lambda stored: stored.op)
@pytest.mark.parametrize("rows", [1, 3, 11, 64, 150])
@pytest.mark.parametrize("threads", [1, 2])
def test_matrices_of_several_tiles(isa: str, stored: formats.Stored, rows: int, threads: int) -> None:
    check(stored, (rows,), activation="relu", threads=threads)


@pytest.mark.parametrize("stored", large(40, 50), ids=lambda stored: stored.op)
@pytest.mark.parametrize("batch", [(0,), (2, 0, 3), (2, 3, 4), (1, 1, 1, 9)])
def test_leading_axes(isa: str, stored: formats.Stored, batch: tuple[int, ...]) -> None:
    check(stored, batch)


def test_more_inputs_than_16_bits_count(isa: str) -> None:
    check(formats.csr(np.random.default_rng(0), 70000, 5, 0.01), (3,))


def test_entries_of_one_input_add_up(isa: str) -> None:
    inputs = {
        "values": np.array([1, 2, 4], np.float32),
        "inputs": np.array([1, 1, 0], np.uint16),
        "starts": np.array([0, 3], np.int32),
    }
    (y,) = session(matrix_model("CsrMatMul", 2, 1, inputs)).run(None, {"X": np.array([[1, 10]], np.float32)})
    assert y.tolist() == [[34]]


def test_many_rows_share_a_shuffle(isa: str) -> None:
    check(formats.shuffled(np.random.default_rng(0), 65, 50, 7, 2, 5), (600,))


def test_a_shuffle_of_zero_is_none(isa: str) -> None:
    stored = formats.shuffled(np.random.default_rng(0), 30, 40, 7, 1, 5)
    x = np.random.default_rng(1).standard_normal((3, 30)).astype(np.float32)
    models = [matrix_model("DeepThinMatMul", 30, 40, stored.inputs, **kept) for kept in ({}, {"shuffle": 0})]
    plain, zero = (session(model).run(None, {"X": x})[0] for model in models)
    assert np.array_equal(plain, zero)
    assert not np.allclose(plain, matmul(x, stored.weight))


@pytest.mark.parametrize("stored", large(100, 130), ids=lambda stored: stored.op)
def test_many_calls_at_once(stored: formats.Stored) -> None:
    rng = np.random.default_rng(1)
    shared = session(matrix_model(stored.op, 100, 130, stored.inputs, **stored.attributes), threads=2)
    inputs = [rng.standard_normal((rows, 100)).astype(np.float32) for rows in (1, 7, 12, 30) * 4]
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda x: shared.run(None, {"X": x})[0], inputs))
    for x, y in zip(inputs, outputs, strict=True):
        np.testing.assert_allclose(y, matmul(x, stored.weight), rtol=0, atol=1e-5)
