"""DeepThin-Shuffled: DeepThin's plans and factors, in the order of a permutation."""

from __future__ import annotations

import numpy as np

from models.compression.deepthin import DeepThin
from models.compression.deepthin_shuffled import DeepThinShuffled
from ops.hashing import shuffled_positions
from tests.compression import contract
from tests.compression.contract import correlated, weight

METHOD = DeepThinShuffled()


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
