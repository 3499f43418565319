"""Which weights of a network can be compressed, what they are called, and which values go into them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

from models.compression.base import Array, CompressionError, Matrix
from models.compression.bodies import Place, inner_graphs, places
from models.compression.directions import RECURRENT
from models.compression.folding import SMALLEST_TABLE, attributes, values
from models.compression.normalise import consumers

SUPPORTED: Final = (
    "MatMul and Gemm with a constant second operand, Conv of one group over 1 or 2 axes, GRU, LSTM, Gather of rows"
)
LOOKED_UP: Final = "Gather"
"""Operator of a table that nothing multiplies by; see `folding.turn_tables` for its form."""

# Domains whose operators ONNX Runtime's CPU build has.
_DOMAINS: Final = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_QUANTISED: Final = (
    "MatMulInteger", "QLinearMatMul", "QLinearConv", "ConvInteger", "MatMulNBits", "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat", "QGemm", "QAttention", "MatMulBnb4", "DynamicQuantizeLSTM",
)  # fmt: skip
_WEIGHTED: Final = {
    "MatMul": (1, 0), "Gemm": (1, 0), "Conv": (1,), "GRU": (1, 2), "LSTM": (1, 2), "RNN": (1, 2),
    "ConvTranspose": (1,), "Einsum": (1, 0), "Gather": (0,),
}  # fmt: skip
_SMALLEST = 256  # values; a weight with fewer is not worth an operator, unless a rule names it


@dataclass(frozen=True, slots=True)
class Layer:
    """A weight that can be compressed.

    Attributes:
        name: what rules match; the initialiser's name.
        op: the operator that multiplies by it; `LOOKED_UP` where columns of it are only looked up.
        nodes: indices, in `bodies.places`, of the nodes that use it; several where it is shared.
        operand: which input of those nodes it is.
        Q: inputs of the layer.
        R: outputs of the layer.
        shape: as the initialiser has it.
        lookups: indices of the Gather nodes that take columns of it; those in `nodes` where there are no others.
        inside: whether one of them is in the body of If, Loop or Scan.
    """

    name: str
    op: str
    nodes: tuple[int, ...]
    operand: int
    Q: int
    R: int
    shape: tuple[int, ...]
    lookups: tuple[int, ...] = ()
    inside: bool = False

    @property
    def dense_bytes(self) -> int:
        """Bytes of the weight as a dense fp32 matrix."""
        return 4 * self.Q * self.R


@dataclass(frozen=True, slots=True)
class Skipped:
    """A weight that stays as it is.

    Attributes:
        name: of the initialiser.
        values: how many it has.
        reason: why, for people.
    """

    name: str
    values: int
    reason: str


@dataclass(frozen=True, slots=True)
class Network:
    """A normalised model and what can be compressed in it.

    Attributes:
        model: the model.
        layers: compressible weights, in the order in which data passes them.
        skipped: other weights of two or more axes.
    """

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    skipped: tuple[Skipped, ...]

    def places(self, layer: Layer) -> list[Place]:
        """The nodes that use a layer's weight, and where they are."""
        found = places(self.model.graph)
        return [found[index] for index in layer.nodes]

    def weight(self, layer: Layer) -> Matrix:
        """The weight [Q, R] of a layer."""
        stored = next(tensor for tensor in self.model.graph.initializer if tensor.name == layer.name)
        return as_matrix(layer, self.nodes(layer)[0], values(stored))

    def nodes(self, layer: Layer) -> list[NodeProto]:
        """The nodes that use a layer's weight."""
        return [place.node for place in self.places(layer)]

    def matching(self, pattern: str) -> list[Layer]:
        """Layers whose name matches a shell-style pattern."""
        return [layer for layer in self.layers if fnmatch.fnmatchcase(layer.name, pattern)]


def as_matrix(layer: Layer, node: NodeProto, stored: Array) -> Matrix:
    """The matrix [Q, R] of an initialiser's values."""
    if _is_matrix(layer, node):
        return np.ascontiguousarray(stored, np.float32)
    return np.ascontiguousarray(stored.reshape(layer.R, layer.Q).T, np.float32)


def as_stored(layer: Layer, node: NodeProto, matrix: Matrix) -> Array:
    """The inverse of `as_matrix`."""
    if _is_matrix(layer, node):
        return np.ascontiguousarray(matrix, np.float32)
    return np.ascontiguousarray(matrix.T, np.float32).reshape(layer.shape)


def _is_matrix(layer: Layer, node: NodeProto) -> bool:
    """Whether the initialiser is the matrix [Q, R] as it is."""
    return layer.op in ("MatMul", LOOKED_UP) or (layer.op == "Gemm" and not attributes(node).get("transB", 0))


def find(model: onnx.ModelProto) -> Network:
    """Look for weights in a normalised model.

    Raises:
        CompressionError: the model is compressed already, has an operator that is not known, or no weight that can be
            compressed; the message names what is there and what is supported.
    """
    _check_operators(model.graph)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    uses = consumers(model.graph)
    everything = places(model.graph)
    sites: dict[str, list[tuple[int, int]]] = {}
    for index, place in enumerate(everything):
        node = place.node
        if node.domain not in ("", "ai.onnx"):
            continue
        for operand in _WEIGHTED.get(node.op_type, ()):
            name = node.input[operand] if operand < len(node.input) else ""
            if name in stored and len(stored[name].dims) >= 2 and stored[name].data_type in _FLOATS:
                sites.setdefault(name, []).append((index, operand))
    layers, skipped = [], []
    for name, found in sites.items():
        lookups = [index for index, _ in found if _takes_columns(everything[index].node, stored[name])]
        used = [site for site in found if site[0] not in lookups] or found
        nodes = [everything[index].node for index, _ in used]
        problem = _problem(nodes, used, stored, uses[name] - (len(found) - len(used)))
        if problem is None:
            inside = any(everything[index].inside for index, _ in found)
            layers.append(_layer(name, used, nodes[0], stored[name], tuple(lookups), inside))
        else:
            skipped.append(Skipped(name, int(np.prod(stored[name].dims)), problem))
    if not layers:
        raise CompressionError(_nothing(skipped, len(everything)))
    return Network(model, tuple(layers), tuple(skipped))


def with_weights(model: onnx.ModelProto, changed: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy of `model` whose initialisers of these names have these values.

    Raises:
        CompressionError: there is no initialiser of such a name.
    """
    known = {tensor.name for tensor in model.graph.initializer}
    if missing := sorted(set(changed) - known):
        raise CompressionError(f"the network has no initialiser {', '.join(missing)}")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [tensor for tensor in copy.graph.initializer if tensor.name not in changed]
    new = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in changed.items()]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend([*kept, *new])
    return copy


_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


def _check_operators(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        label = f"{node.op_type} (node {node.name or node.output[0]!r})" if node.output else node.op_type
        if node.domain == "deepthin" or node.op_type in _QUANTISED:
            raise CompressionError(
                f"the checkpoint is compressed already, in a form that is not taken back: it has {label}; compress its "
                "dense parent"
            )
        if node.domain not in _DOMAINS:
            raise CompressionError(
                f"operator {label} of domain {node.domain!r} is not supported: "
                f"only those of ONNX itself and of {', '.join(_DOMAINS[2:])} are"
            )
        for inner in inner_graphs(node):
            _check_operators(inner)


def _problem(
    nodes: list[NodeProto], sites: list[tuple[int, int]], stored: Mapping[str, onnx.TensorProto], uses: int
) -> str | None:
    node, tensor = nodes[0], stored[nodes[0].input[sites[0][1]]]
    shape = tuple(tensor.dims)
    ops = {(other.op_type, operand) for other, (_, operand) in zip(nodes, sites, strict=True)}
    if tensor.data_type != TensorProto.FLOAT:
        return f"is {TensorProto.DataType.Name(tensor.data_type).lower()} without a Cast to float"
    if node.op_type == LOOKED_UP and _takes_columns(node, tensor) and uses == len(nodes):
        return None
    if node.op_type == LOOKED_UP and int(np.prod(shape)) < SMALLEST_TABLE:
        return f"is used by Gather and has just {int(np.prod(shape))} values"
    if node.op_type not in ("MatMul", "Gemm", "Conv", *RECURRENT):
        return f"is used by {node.op_type}; supported are {SUPPORTED}"
    if len(ops) > 1 or uses != len(nodes):
        return f"is used by {node.op_type} and in other ways"
    if node.op_type in ("MatMul", "Gemm"):
        if sites[0][1] == 0:
            return f"is the first operand of {node.op_type}; supported as the second"
        if len(shape) != 2:
            return f"has {len(shape)} axes in {node.op_type}; supported are 2"
        if len({attributes(other).get("transB", 0) for other in nodes}) > 1:
            return "is used both transposed and not"
    if node.op_type == "Conv":
        return _conv_problem(shape, [attributes(other) for other in nodes])
    if node.op_type in RECURRENT:
        problems = (_recurrent_problem(other, attributes(other), shape, stored) for other in nodes)
        return next((problem for problem in problems if problem is not None), None)
    if int(np.prod(shape)) < _SMALLEST:
        return f"has just {int(np.prod(shape))} values"
    return None


def _conv_problem(shape: tuple[int, ...], all_fixed: list[dict[str, Any]]) -> str | None:
    if len(shape) not in (3, 4):
        return f"is a Conv over {len(shape) - 2} axes; supported are 1 and 2"
    for fixed in all_fixed:
        if fixed.get("group", 1) != 1:
            return f"is a Conv of {fixed['group']} groups; supported is 1"
        if fixed.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            stride = max(fixed.get("strides", [1]))
            if stride > 1:
                return f"is a Conv with auto_pad {fixed['auto_pad'].decode()} and stride {stride}; give pads instead"
    if int(np.prod(shape)) < _SMALLEST:
        return f"has just {int(np.prod(shape))} values"
    return None


def _recurrent_problem(
    node: NodeProto, fixed: dict[str, Any], shape: tuple[int, ...], stored: Mapping[str, onnx.TensorProto]
) -> str | None:
    a = f"is {'an' if node.op_type == 'LSTM' else 'a'} {node.op_type}"
    if len(node.input) > 4 and node.input[4]:
        return f"{a} with sequence_lens in a form that is taken in without only"
    if any(name and name not in stored for name in node.input[1:4]):
        return f"{a} with weights or a bias that the network computes; supported as constants"
    if fixed.get("layout", 0):
        return f"{a} with layout 1; supported is 0"
    usual = [b"sigmoid", b"tanh", b"tanh"][: 2 if node.op_type == "GRU" else 3]
    activations = [name.lower() for name in fixed.get("activations", usual)]
    if "clip" in fixed or activations != usual:
        return f"{a} with its own activations or clip"
    if fixed.get("input_forget", 0) or (len(node.input) > 7 and node.input[7]):
        return f"{a} with peepholes or coupled gates"
    if shape[0] != 1 or fixed.get("direction", b"forward") != b"forward":
        return f"{a} of direction {fixed.get('direction', b'?').decode()} in a form that only forward ones are taken in"
    return None


def _takes_columns(node: NodeProto, tensor: onnx.TensorProto) -> bool:
    """Whether `node` looks up columns of a table, in the form of `folding.turn_tables`."""
    return node.op_type == LOOKED_UP and len(tensor.dims) == 2 and attributes(node).get("axis", 0) == 1


def _layer(
    name: str,
    sites: list[tuple[int, int]],
    node: NodeProto,
    tensor: onnx.TensorProto,
    lookups: tuple[int, ...],
    inside: bool,
) -> Layer:
    shape = tuple(int(size) for size in tensor.dims)
    if node.op_type in ("MatMul", LOOKED_UP) or (node.op_type == "Gemm" and not attributes(node).get("transB", 0)):
        Q, R = shape
    elif node.op_type in RECURRENT:
        R, Q = shape[1:]
    else:
        R, Q = shape[0], int(np.prod(shape[1:]))
    nodes = tuple(index for index, _ in sites)
    return Layer(name, node.op_type, nodes, sites[0][1], Q, R, shape, lookups, inside)


def _nothing(skipped: Iterable[Skipped], nodes: int) -> str:
    found = "; ".join(f"{weight.name} {weight.reason}" for weight in list(skipped)[:8])
    return f"the network has no weight that can be compressed ({nodes} nodes; {found or 'no weights'}): {SUPPORTED}"
