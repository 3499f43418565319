"""DeepThin-Shuffled: DeepThin's plans and factors, in the order of a permutation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compression.base import SizeError
from models.compression.deepthin import DeepThin
from models.compression.deepthin_shuffled import DeepThinShuffled
from ops.hashing import shuffled_positions
from tests.compression import contract
from tests.compression.matrices import correlated, weight

METHOD = DeepThinShuffled()


@settings(max_examples=40, deadline=None)
@given(Q=st.integers(1, 40), R=st.integers(1, 40), wish=st.floats(1e-3, 1.5), rank=st.integers(1, 3))
def test_plan(Q: int, R: int, wish: float, rank: int) -> None:
    contract.check_plan(METHOD, Q, R, wish, rank=rank)


def test_plans_are_those_of_deepthin() -> None:
    contract.check_reaches(METHOD, 64, 96, within=0.45)
    mine, other = METHOD.plan(64, 96, 0.1), DeepThin().plan(64, 96, 0.1)
    assert mine.disk_bytes == other.disk_bytes
    assert {**other.geometry, "seed": mine.geometry["seed"]} == mine.geometry


def test_every_entry_is_the_product_at_its_place() -> None:
    Q, R = 9, 7
    compressed = METHOD.compress(weight(Q, R), METHOD.plan(Q, R, 0.6))
    product = (compressed.arrays["Xf"] @ compressed.arrays["Wf"]).ravel()
    V, places = METHOD.decompress(compressed), shuffled_positions(Q, R, int(compressed.plan.geometry["seed"]))
    for k in range(Q * R):
        assert V[k % Q, k // Q] == product[places[k]]


def test_a_matrix_of_that_form_is_found_again() -> None:
    Q, R = 30, 20
    plan = METHOD.plan(Q, R, 0.3)
    rng = np.random.default_rng(0)
    product = rng.standard_normal(int(plan.geometry["m"]))[:, None] * rng.standard_normal(int(plan.geometry["n"]))
    places = shuffled_positions(Q, R, int(plan.geometry["seed"]))
    W = product.ravel()[places].reshape(R, Q).T.astype(np.float32)
    # All of it but for the surplus values, which count as zero at the start.
    assert METHOD.compress(W, plan).relative_error < 0.2
    assert METHOD.compress(W, plan, correlated(Q)[1]).output_error < 0.1
    assert DeepThin().compress(W, DeepThin().plan(Q, R, 0.3)).relative_error > 0.7


def test_errors_fall_as_sizes_grow() -> None:
    contract.check_errors(METHOD, 48, 40, (0.1, 0.2, 0.4, 0.8))


@pytest.mark.parametrize(("Q", "R", "size", "rank"), [(60, 50, 0.1, 1), (61, 20, 0.3, 2)])
def test_calibration_pays(Q: int, R: int, size: float, rank: int) -> None:
    aware, plain = contract.gain(METHOD, weight(Q, R), size, correlated(Q)[1], rank=rank)
    assert aware < 0.95 * plain


@settings(max_examples=15, deadline=None)
@given(Q=st.integers(2, 24), R=st.integers(2, 24), size=st.floats(0.1, 0.9), seed=st.integers(0, 99))
def test_calibration_never_costs(Q: int, R: int, size: float, seed: int) -> None:
    try:
        METHOD.plan(Q, R, size)
    except SizeError:
        return
    aware, plain = contract.gain(METHOD, weight(Q, R, seed), size, correlated(Q, 3, seed)[1])
    assert aware <= plain


@pytest.mark.parametrize(("Q", "R", "size", "rank"), [(40, 33, 0.2, 1), (7, 90, 0.2, 2), (50, 50, 0.9, 1)])
def test_stream_and_operator(Q: int, R: int, size: float, rank: int) -> None:
    compressed = METHOD.compress(weight(Q, R), METHOD.plan(Q, R, size, rank=rank), correlated(Q)[1])
    contract.check_stream(METHOD, compressed)
    contract.check_export(METHOD, compressed)


def test_nothing_stays_nothing() -> None:
    zero = np.zeros((20, 30), np.float32)
    for inputs in (None, correlated(20)[1]):
        assert not METHOD.decompress(METHOD.compress(zero, METHOD.plan(20, 30, 0.2), inputs)).any()
