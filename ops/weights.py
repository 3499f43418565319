"""The dense ``Q x R`` matrices that the operators' stored arrays stand for: what each format means.

For references, tests and reports; inference never makes these. Every function returns the values in the type of the
stored ones, and raises `FormatError` for arrays that stand for no matrix.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops.errors import FormatError
from ops.hashing import hashed_entries, shuffled_positions
from ops.packing import packed_bytes, unpack_bits

Array = NDArray[Any]


def csr_weight(Q: int, values: Array, inputs: Array, starts: Array) -> Array:
    """A sparse matrix: entries ``starts[c] .. starts[c + 1] - 1`` are output c's, each an input and a value.

    Args:
        Q: Inputs.
        values: [nnz].
        inputs: [nnz], each below ``Q``; entries of one place add up.
        starts: [R + 1], from 0 to nnz.

    Source: compressed sparse columns, as Han et al. store pruned networks, arXiv 1506.02626.
    """
    outputs = _outputs(starts, values.size)
    if inputs.shape != values.shape or (inputs.size and (inputs.min() < 0 or inputs.max() >= Q)):
        raise FormatError(f"inputs must be {values.size} numbers below Q = {Q}")
    W = np.zeros((Q, starts.size - 1), values.dtype)
    np.add.at(W, (inputs.astype(np.int64), outputs), values)
    return W


def codebook_weight(Q: int, R: int, codebook: Array, indices: NDArray[np.uint8], bits: int) -> Array:
    """A matrix of shared values: each entry is an index into the codebook.

    Args:
        Q: Inputs.
        R: Outputs.
        codebook: [K], K at most 256.
        indices: [R * ceil(Q * bits / 8)], output by output, each output's row of Q indices packed by itself.
        bits: Bits per index, 1 to 8.

    Source: weight sharing of Han et al., "Deep Compression", arXiv 1510.00149.
    """
    row = packed_bytes(bits, Q)
    if indices.size != R * row:
        raise FormatError(f"indices must be {R * row} bytes, not {indices.size}")
    each = np.stack([unpack_bits(packed, bits, Q) for packed in indices.reshape(R, row)])
    if each.max() >= codebook.size:
        raise FormatError(f"an index of {each.max()} names none of {codebook.size} values")
    return codebook[each].T


def codebook_csr_weight(
    Q: int,
    codebook: Array,
    symbols: NDArray[np.uint8],
    gaps: NDArray[np.uint8],
    starts: Array,
    value_bits: int,
    gap_bits: int,
) -> Array:
    """A sparse matrix of shared values, with the distances between its entries instead of their places.

    Args:
        Q: Inputs.
        codebook: [K], the first value 0.
        symbols: Index into the codebook of every entry, one packed stream of ``value_bits`` each.
        gaps: Zeros skipped before every entry, one packed stream of ``gap_bits`` each. A longer way than
            ``2 ** gap_bits - 1`` is made with entries of value 0.
        starts: [R + 1]: output c has the entries ``starts[c] .. starts[c + 1] - 1``.
        value_bits: Bits per symbol, 1 to 8.
        gap_bits: Bits per gap, 1 to 8.

    Source: Han et al., "Deep Compression", arXiv 1510.00149.
    """
    count = int(starts[-1])
    if codebook.size < 1 or codebook[0] != 0:
        raise FormatError("the first value of the codebook must be 0")
    outputs = _outputs(starts, count)
    for name, stream, bits in (("symbols", symbols, value_bits), ("gaps", gaps, gap_bits)):
        if stream.size != packed_bytes(bits, count):
            raise FormatError(f"{name} must be {packed_bytes(bits, count)} bytes, not {stream.size}")
    symbol = unpack_bits(symbols, value_bits, count)
    if count and symbol.max() >= codebook.size:
        raise FormatError(f"a symbol of {symbol.max()} names none of {codebook.size} values")
    # Summed over all entries, and then what went before each output taken off again.
    travelled = np.concatenate([[0], np.cumsum(unpack_bits(gaps, gap_bits, count).astype(np.int64) + 1)])
    inputs = travelled[1:] - travelled[np.asarray(starts)[:-1]][outputs] - 1
    return csr_weight(Q, codebook[symbol], inputs, starts)


def hashed_weight(Q: int, R: int, values: Array, seed: int) -> Array:
    """A matrix each of whose entries is one of the stored values or its negative, as a hash says.

    Source: Chen et al., "Compressing Neural Networks with the Hashing Trick", ICML 2015, arXiv 1504.04788.
    """
    if values.size < 1:
        raise FormatError("a hashed matrix needs at least one value")
    index, sign = hashed_entries(Q, R, values.size, seed)
    W: Array = values[index] * sign.astype(values.dtype)
    return W


def shuffled_weight(Xf: Array, Wf: Array, Q: int, R: int, seed: int) -> Array:
    """A DeepThin matrix whose entries are read from ``Xf @ Wf`` in the order of a pseudo-random permutation.

    Source: the shuffled re-layout of Sotoudeh and Baghsorkhi, arXiv 1802.06944.
    """
    product = (Xf @ Wf).reshape(-1)
    return product[shuffled_positions(Q, R, seed)].reshape(R, Q).T


def _outputs(starts: Array, count: int) -> NDArray[np.int64]:
    """The output of every entry."""
    lengths: NDArray[np.int64] = np.asarray(starts[1:], np.int64) - np.asarray(starts[:-1], np.int64)
    if starts.size < 2 or starts[0] != 0 or starts[-1] != count or lengths.min() < 0:
        raise FormatError(f"starts must rise from 0 to the number of entries, {count}")
    return np.repeat(np.arange(lengths.size), lengths)
