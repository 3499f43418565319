"""The size of the weights of ONNX networks, from their shapes and types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from models.errors import GraphMismatchError
from models.package import Weights


def weigh(files: Iterable[Path]) -> Weights:
    """The weights in `files` together: initialisers and constants, those in the bodies of `If` and `Loop` included.

    Raises:
        GraphMismatchError: one of them is no ONNX network.
    """
    values = size = 0
    for file in files:
        try:
            graph = onnx.load(file).graph
        except (OSError, DecodeError, ValueError) as error:
            raise GraphMismatchError(f"{file} is not a network that can be read: {error}") from error
        for tensor in stored_tensors(graph):
            count = 1
            for axis in tensor.dims:
                count *= axis
            values += count
            size += count * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return Weights(parameters=values, dense_parameters=values, disk_bytes=size, resident_bytes=size)


def stored_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Initialisers and constants of a graph and of the bodies in it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from stored_tensors(attribute.g)
