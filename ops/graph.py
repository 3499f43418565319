"""Writing a small ONNX model without the ``onnx`` package: enough protocol buffer for one or a few nodes.

Benchmarks and tests need one-node models in an environment that has only what serving needs.
Field numbers are those of ``onnx.proto``.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

IR_VERSION = 8
OPSET = 17

_ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int32": 6, "int64": 7, "float16": 10}


def tensor(name: str, values: NDArray[Any]) -> bytes:
    """A ``TensorProto``: an initialiser of type float32, float16, int8, uint8, uint16, int32 or int64."""
    dims = b"".join(_number(1, size) for size in values.shape)
    raw = np.ascontiguousarray(values).tobytes()
    return dims + _number(2, _ELEMENT_TYPES[values.dtype.name]) + _bytes(8, name.encode()) + _bytes(9, raw)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: int | str) -> bytes:
    """A ``NodeProto`` with integer and text attributes."""
    encoded = b"".join(_bytes(1, name.encode()) for name in inputs)
    encoded += b"".join(_bytes(2, name.encode()) for name in outputs)
    encoded += _bytes(4, op.encode())
    for name, value in attributes.items():
        body = (
            _number(3, value) + _number(20, 2) if isinstance(value, int) else _bytes(4, value.encode()) + _number(20, 3)
        )
        encoded += _bytes(5, _bytes(1, name.encode()) + body)
    return encoded + _bytes(7, domain.encode())


def value(name: str, shape: Sequence[int | str]) -> bytes:
    """A float32 ``ValueInfoProto``; a text stands for an axis of any size."""
    dims = b""
    for size in shape:
        dims += _bytes(1, _number(1, size) if isinstance(size, int) else _bytes(2, size.encode()))
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, dims)))


def model(
    nodes: Iterable[bytes], inputs: Iterable[bytes], outputs: Iterable[bytes], initializers: Iterable[bytes]
) -> bytes:
    """A serialised ``ModelProto`` made of what the other functions return."""
    graph = _bytes(2, b"graph")
    for number, parts in ((1, nodes), (5, initializers), (11, inputs), (12, outputs)):
        graph += b"".join(_bytes(number, part) for part in parts)
    opsets = ((b"", OPSET), (b"deepthin", 1), (b"com.microsoft", 1))
    imports = b"".join(_bytes(8, _bytes(1, domain) + _number(2, version)) for domain, version in opsets)
    return _number(1, IR_VERSION) + _bytes(7, graph) + imports


def _varint(number: int) -> bytes:
    encoded = bytearray()
    number &= (1 << 64) - 1
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content
