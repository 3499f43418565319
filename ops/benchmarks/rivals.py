"""What a user would take instead of a DeepThin matrix: ONNX Runtime's products, and matrices of as many bytes.

Speed does not depend on the values: they are random, or rounded from random ones.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops import graph
from ops.benchmarks.timing import one_node_model

Float = NDArray[np.float32]

_BLOCK = 32


def int8(weight: Float) -> bytes:
    """ONNX Runtime's ``DynamicQuantizeMatMul``, as its dynamic quantisation makes it: one scale for W [Q, R]."""
    Q, R = weight.shape
    scale = np.abs(weight).max() / 127
    constants = {
        "B": np.rint(weight / scale).astype(np.int8),
        "scale": np.array([scale], np.float32),
        "zero": np.zeros(1, np.int8),
    }
    node = graph.node("DynamicQuantizeMatMul", ["X", *constants], ["Y"], "com.microsoft")
    return one_node_model(node, Q, R, constants)


def int4(weight: Float) -> bytes:
    """ONNX Runtime's ``MatMulNBits``: 4 bits in blocks of 32, products in int8 (``accuracy_level`` 4)."""
    Q, R = weight.shape
    blocks = weight.T.reshape(R, Q // _BLOCK, _BLOCK)
    scales = np.abs(blocks).max(axis=2) / 7
    codes = (np.rint(blocks / scales[..., None]) + 8).clip(0, 15).astype(np.uint8)
    constants = {"B": codes[..., 0::2] | codes[..., 1::2] << 4, "scales": scales.reshape(-1)}
    node = graph.node(
        "MatMulNBits", ["X", *constants], ["Y"], "com.microsoft", K=Q, N=R, bits=4, block_size=_BLOCK, accuracy_level=4
    )
    return one_node_model(node, Q, R, constants)


def low_rank(rng: np.random.Generator, Q: int, R: int, size: float) -> bytes:
    """Two ``MatMul``, by Q x k and k x R, that take at most ``size`` of the dense one's bytes; k is 1 at least."""
    rank = max(1, int(size * Q * R / (Q + R)))
    constants = {"U": rng.standard_normal((Q, rank), np.float32), "V": rng.standard_normal((rank, R), np.float32)}
    nodes = [graph.node("MatMul", ["X", "U"], ["H"]), graph.node("MatMul", ["H", "V"], ["Y"])]
    initializers = [graph.tensor(name, values) for name, values in constants.items()]
    return graph.model(nodes, [graph.value("X", ["rows", Q])], [graph.value("Y", ["rows", R])], initializers)


def csr(rng: np.random.Generator, Q: int, R: int, size: float) -> bytes:
    """``CsrMatMul`` with as many entries, of 6 bytes each, as ``size`` of the dense bytes has room for."""
    count = max(1, (int(4 * size * Q * R) - 4 * (R + 1)) // 6)
    positions = np.sort(rng.choice(Q * R, count, replace=False))
    outputs, inputs = np.divmod(positions, Q)
    constants: dict[str, NDArray[Any]] = {
        "values": rng.standard_normal(count, np.float32),
        "inputs": inputs.astype(np.uint16),
        "starts": np.searchsorted(outputs, np.arange(R + 1)).astype(np.int32),
    }
    return one_node_model(graph.node("CsrMatMul", ["X", *constants], ["Y"], "deepthin", Q=Q, R=R), Q, R, constants)
