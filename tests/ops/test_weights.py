"""The stored formats, against loops that follow their definitions entry by entry."""

from typing import Any

import numpy as np
import pytest

from ops.errors import DeepThinError, FormatError
from ops.hashing import hashed_entries, shuffled_positions
from ops.packing import pack_bits
from ops.reference import codebook_csr_matmul, codebook_matmul, csr_matmul, deepthin_matmul, hashed_matmul
from ops.weights import codebook_csr_weight, codebook_weight, csr_weight, hashed_weight, shuffled_weight

rng = np.random.default_rng(11)


def test_csr() -> None:
    values, inputs, starts = np.array([1.0, 2, 3, 4]), np.array([2, 0, 2, 2], np.uint16), np.array([0, 1, 1, 4])
    expected = [[0, 0, 2], [0, 0, 0], [1, 0, 7]]
    assert csr_weight(3, values, inputs, starts).tolist() == expected
    assert csr_matmul(np.array([[1.0, 10, 100]]), values, inputs, starts, np.ones(3)).tolist() == [[101, 1, 703]]


def test_codebook() -> None:
    codebook = np.array([0.5, -1, 2], np.float32)
    indices = np.concatenate([pack_bits(np.array(row), 3) for row in ([0, 1, 2], [2, 2, 1])])
    W = codebook_weight(3, 2, codebook, indices, 3)
    assert W.dtype == np.float32
    assert W.tolist() == [[0.5, 2], [-1, 2], [2, -1]]
    assert codebook_matmul(np.array([1.0, 2, 3]), codebook, indices, 2, 3, activation="relu").tolist() == [4.5, 3]


def test_codebook_csr() -> None:
    codebook = np.array([0, 5, -6], np.float32)
    # Output 0: input 1, then 4 zeros and a filler of them; output 1 nothing; output 2: input 0.
    symbols, gaps, starts = [1, 0, 2, 1], [1, 3, 0, 0], np.array([0, 3, 3, 4])
    stored = codebook, pack_bits(np.array(symbols), 2), pack_bits(np.array(gaps), 2), starts, 2, 2
    W = codebook_csr_weight(7, *stored)
    expected = np.zeros((7, 3))
    expected[1, 0], expected[6, 0], expected[0, 2] = 5, -6, 5
    assert np.array_equal(W, expected)
    x = rng.standard_normal((2, 7))
    np.testing.assert_allclose(codebook_csr_matmul(x, *stored), x @ expected, rtol=1e-12)


def test_hashed() -> None:
    values = rng.standard_normal(5)
    index, sign = hashed_entries(6, 4, 5, 3)
    W = hashed_weight(6, 4, values, 3)
    assert W[2, 3] == sign[2, 3] * values[index[2, 3]]
    x = rng.standard_normal((3, 6))
    np.testing.assert_allclose(hashed_matmul(x, values, 4, 3), x @ W, rtol=1e-12)


def test_shuffled() -> None:
    Xf, Wf = rng.standard_normal((5, 2)), rng.standard_normal((2, 5))
    W = shuffled_weight(Xf, Wf, 6, 4, 9)
    positions = shuffled_positions(6, 4, 9)
    for q in range(6):
        for c in range(4):
            row, column = divmod(int(positions[c * 6 + q]), 5)
            assert W[q, c] == pytest.approx(Xf[row] @ Wf[:, column])
    x = rng.standard_normal((3, 6))
    np.testing.assert_allclose(deepthin_matmul(x, Xf, Wf, 4, shuffle=9), x @ W, rtol=1e-12)
    assert not np.allclose(deepthin_matmul(x, Xf, Wf, 4), x @ W)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: csr_weight(3, np.ones(2), np.array([0, 3]), np.array([0, 2])), "below Q = 3"),
        (lambda: csr_weight(3, np.ones(2), np.array([0]), np.array([0, 2])), "must be 2 numbers"),
        (lambda: csr_weight(3, np.ones(2), np.array([0, 1]), np.array([0, 1])), "starts must rise"),
        (lambda: csr_weight(3, np.ones(2), np.array([0, 1]), np.array([0, 2, 1, 2])), "starts must rise"),
        (lambda: codebook_weight(3, 2, np.ones(2), np.zeros(1, np.uint8), 2), "must be 2 bytes"),
        (lambda: codebook_weight(3, 1, np.ones(2), np.array([3], np.uint8), 2), "an index of 3"),
        (
            lambda: codebook_csr_weight(
                3, np.ones(2), np.zeros(1, np.uint8), np.zeros(1, np.uint8), np.array([0, 1]), 2, 2
            ),
            "must be 0",
        ),
        (lambda: hashed_weight(3, 2, np.ones(0), 1), "at least one value"),
    ],
)
def test_what_stands_for_no_matrix_is_refused(call: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        call()
    assert isinstance(caught.value, DeepThinError)
