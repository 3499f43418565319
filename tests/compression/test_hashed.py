"""HashedNets: means of the values that share a place, and least squares for the layer's output."""

from __future__ import annotations

import numpy as np

from models.compression.hashed import Hashed
from ops.hashing import hashed_entries
from tests.compression import contract
from tests.compression.contract import correlated, weight

METHOD = Hashed()


def test_the_whole_range_can_be_had() -> None:
    contract.check_reaches(METHOD, 64, 96, within=0.35)


def test_the_values_are_the_least_squares_solution() -> None:
    """Against the normal equations of all the shared values written out."""
    Q, R = 12, 9
    W, inputs = weight(Q, R), correlated(Q)[1]
    compressed = METHOD.compress(W, METHOD.plan(Q, R, 0.2), inputs)
    K = int(compressed.plan.geometry["K"])
    index, sign = hashed_entries(Q, R, K, int(compressed.plan.geometry["seed"]))
    design = np.zeros((Q * R, K))
    design[np.arange(Q * R), index.T.ravel()] = sign.T.ravel()
    metric = np.kron(np.eye(R), inputs.damped())
    normal, wanted = design.T @ metric @ design, design.T @ metric @ W.T.ravel()
    energy = W.T.ravel() @ metric @ W.T.ravel()

    def error(values: np.ndarray) -> float:
        return float(energy - 2 * values @ wanted + values @ normal @ values)

    best = error(np.linalg.lstsq(normal, wanted, rcond=None)[0])
    assert best < error(compressed.arrays["values"].astype(np.float64)) < best * (1 + 1e-3)
