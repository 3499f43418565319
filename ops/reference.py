"""What the operators compute, in double-precision NumPy: the definition that every kernel is tested against."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ops.layout import reconstruct
from ops.weights import codebook_csr_weight, codebook_weight, csr_weight, hashed_weight, shuffled_weight

Array = NDArray[np.float64]

ACTIVATIONS = ("", "relu", "clipped_relu", "sigmoid", "tanh")
"""Activations that `deepthin_matmul` fuses; ``clipped_relu`` is ``min(max(y, 0), 20)``."""


def activate(y: Array, activation: str) -> Array:
    """Apply one of `ACTIVATIONS`."""
    match activation:
        case "":
            return y
        case "relu":
            return np.maximum(y, 0.0)
        case "clipped_relu":
            return np.clip(y, 0.0, 20.0)
        case "sigmoid":
            return _sigmoid(y)
        case "tanh":
            return np.tanh(y)
    raise ValueError(f"unknown activation {activation!r}: one of {ACTIVATIONS}")


def matmul(x: NDArray[Any], W: NDArray[Any], bias: NDArray[Any] | None = None, activation: str = "") -> Array:
    """``activation(x · W + bias)``, ``[..., R]``, of x ``[..., Q]``, W ``[Q, R]`` and bias ``[R]``."""
    y = np.asarray(x, np.float64) @ np.asarray(W, np.float64)
    if bias is not None:
        y = y + bias
    return activate(y, activation)


def deepthin_matmul(
    x: NDArray[Any],
    Xf: NDArray[Any],
    Wf: NDArray[Any],
    R: int,
    bias: NDArray[Any] | None = None,
    activation: str = "",
    shuffle: int = 0,
) -> Array:
    """``activation(x · W + bias)`` with the dense ``W`` that the factors stand for.

    Args:
        x: ``[..., Q]``.
        Xf: ``m x r``.
        Wf: ``r x n``.
        R: Number of outputs.
        bias: ``[R]``, or None.
        activation: One of `ACTIVATIONS`.
        shuffle: Seed of the permutation in whose order the factors' product is read; 0 for none.

    Returns:
        ``[..., R]`` in double precision.
    """
    Xf, Wf = np.asarray(Xf, np.float64), np.asarray(Wf, np.float64)
    W = shuffled_weight(Xf, Wf, x.shape[-1], R, shuffle) if shuffle else reconstruct(Xf, Wf, x.shape[-1], R)
    return matmul(x, W, bias, activation)


def csr_matmul(
    x: NDArray[Any],
    values: NDArray[Any],
    inputs: NDArray[Any],
    starts: NDArray[Any],
    bias: NDArray[Any] | None = None,
    activation: str = "",
) -> Array:
    """`matmul` with `csr_weight`."""
    W = csr_weight(x.shape[-1], np.asarray(values, np.float64), inputs, starts)
    return matmul(x, W, bias, activation)


def codebook_matmul(
    x: NDArray[Any],
    codebook: NDArray[Any],
    indices: NDArray[np.uint8],
    R: int,
    bits: int,
    bias: NDArray[Any] | None = None,
    activation: str = "",
) -> Array:
    """`matmul` with `codebook_weight`."""
    W = codebook_weight(x.shape[-1], R, np.asarray(codebook, np.float64), indices, bits)
    return matmul(x, W, bias, activation)


def codebook_csr_matmul(
    x: NDArray[Any],
    codebook: NDArray[Any],
    symbols: NDArray[np.uint8],
    gaps: NDArray[np.uint8],
    starts: NDArray[Any],
    value_bits: int,
    gap_bits: int,
    bias: NDArray[Any] | None = None,
    activation: str = "",
) -> Array:
    """`matmul` with `codebook_csr_weight`."""
    W = codebook_csr_weight(x.shape[-1], np.asarray(codebook, np.float64), symbols, gaps, starts, value_bits, gap_bits)
    return matmul(x, W, bias, activation)


def hashed_matmul(
    x: NDArray[Any],
    values: NDArray[Any],
    R: int,
    seed: int,
    bias: NDArray[Any] | None = None,
    activation: str = "",
) -> Array:
    """`matmul` with `hashed_weight`."""
    return matmul(x, hashed_weight(x.shape[-1], R, np.asarray(values, np.float64), seed), bias, activation)


def deepthin_gru(
    x: NDArray[Any],
    Xf_w: NDArray[Any],
    Wf_w: NDArray[Any],
    Xf_r: NDArray[Any],
    Wf_r: NDArray[Any],
    hidden_size: int,
    B: NDArray[Any] | None = None,
    initial_h: NDArray[Any] | None = None,
    *,
    linear_before_reset: bool = True,
    gate_order: Literal["zrh", "rzh"] = "zrh",
) -> tuple[Array, Array]:
    """A gated recurrent layer (ONNX's GRU equations) whose two gate matrices are DeepThin matrices.

    Args:
        x: ``[seq, batch, I]``.
        Xf_w, Wf_w: Factors of the ``I x 3H`` input matrix.
        Xf_r, Wf_r: Factors of the ``H x 3H`` recurrent matrix.
        hidden_size: H.
        B: ``[6H]``, the input bias and then the recurrent bias, or None.
        initial_h: ``[batch, H]``, or None for zeros.
        linear_before_reset: Multiply by the reset gate after the recurrent product (as PyTorch) or before it.
        gate_order: Order of the three H-column blocks, ``"zrh"`` as in ONNX or ``"rzh"`` as in PyTorch.

    Returns:
        All states ``[seq, batch, H]`` and the final state ``[batch, H]``, in double precision.
    """
    H = hidden_size
    W = reconstruct(np.asarray(Xf_w, np.float64), np.asarray(Wf_w, np.float64), x.shape[-1], 3 * H)
    U = reconstruct(np.asarray(Xf_r, np.float64), np.asarray(Wf_r, np.float64), H, 3 * H)
    b = np.zeros(6 * H) if B is None else np.asarray(B, np.float64)
    z, r, h = (slice(H * gate_order.index(g), H * (gate_order.index(g) + 1)) for g in "zrh")
    gates = np.asarray(x, np.float64) @ W + b[: 3 * H]
    state = np.zeros((x.shape[1], H)) if initial_h is None else np.asarray(initial_h, np.float64)
    states = np.empty((x.shape[0], x.shape[1], H))
    for t, g in enumerate(gates):
        u = state @ U + b[3 * H :]
        update = _sigmoid(g[:, z] + u[:, z])
        reset = _sigmoid(g[:, r] + u[:, r])
        if linear_before_reset:
            candidate = np.tanh(g[:, h] + reset * u[:, h])
        else:
            candidate = np.tanh(g[:, h] + (reset * state) @ U[:, h] + b[3 * H :][h])
        state = (1 - update) * candidate + update * state
        states[t] = state
    return states, state


def deepthin_lstm(
    x: NDArray[Any],
    Xf_w: NDArray[Any],
    Wf_w: NDArray[Any],
    Xf_r: NDArray[Any],
    Wf_r: NDArray[Any],
    hidden_size: int,
    B: NDArray[Any] | None = None,
    initial_h: NDArray[Any] | None = None,
    initial_c: NDArray[Any] | None = None,
    *,
    gate_order: Literal["iofc", "ifco"] = "iofc",
) -> tuple[Array, Array, Array]:
    """A long short-term memory layer (ONNX's LSTM equations, no peepholes) of two DeepThin gate matrices.

    Args:
        x: ``[seq, batch, I]``.
        Xf_w, Wf_w: Factors of the ``I x 4H`` input matrix.
        Xf_r, Wf_r: Factors of the ``H x 4H`` recurrent matrix.
        hidden_size: H.
        B: ``[8H]``, the input bias and then the recurrent bias, or None.
        initial_h, initial_c: State and cell ``[batch, H]``, or None for zeros.
        gate_order: Order of the four H-column blocks, ``"iofc"`` as in ONNX or ``"ifco"`` as in PyTorch.

    Returns:
        All states ``[seq, batch, H]``, and the final state and cell ``[batch, H]``, in double precision.
    """
    H = hidden_size
    W = reconstruct(np.asarray(Xf_w, np.float64), np.asarray(Wf_w, np.float64), x.shape[-1], 4 * H)
    U = reconstruct(np.asarray(Xf_r, np.float64), np.asarray(Wf_r, np.float64), H, 4 * H)
    b = np.zeros(8 * H) if B is None else np.asarray(B, np.float64)
    i, o, f, c = (slice(H * gate_order.index(g), H * (gate_order.index(g) + 1)) for g in "iofc")
    gates = np.asarray(x, np.float64) @ W + b[: 4 * H] + b[4 * H :]
    zero = np.zeros((x.shape[1], H))
    state, cell = (zero if given is None else np.asarray(given, np.float64) for given in (initial_h, initial_c))
    states = np.empty((x.shape[0], x.shape[1], H))
    for t, projected in enumerate(gates):
        g = projected + state @ U
        cell = _sigmoid(g[:, f]) * cell + _sigmoid(g[:, i]) * np.tanh(g[:, c])
        state = _sigmoid(g[:, o]) * np.tanh(cell)
        states[t] = state
    return states, state, cell


def _sigmoid(y: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * y))
