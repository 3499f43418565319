"""An ONNX graph read for `onnx_net`: its nodes, which of its initialisers are weights, and what its outputs are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper

from models.compression.base import Array, CompressionError
from models.compression.bodies import SHARED, flatten_names, inner_graphs
from models.training import onnx_layers, onnx_shapes
from models.training.onnx_control import CONTROL
from models.training.onnx_operators import OPERATORS, Body, Node

SUPPORTED_OPERATORS: Final = tuple(sorted({*OPERATORS, *CONTROL}))
"""What a graph may be made of, all in the standard domain."""

# Inputs that hold weights, by operator; the rest (paddings, bounds, running means) are constants.
_TRAINED: Final = {
    "MatMul": (0, 1),
    "Gemm": (1, 2),
    "Conv": (1, 2),
    "GRU": (1, 2, 3),
    "Gather": (0,),
    "Add": (0, 1),
    "Sub": (0, 1),
    "Mul": (0, 1),
    "Div": (0, 1),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
}
_PASSED_ON: Final = ("Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Expand")
_FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_PHASES: Final = ("Sin", "Cos")
_NO_GRADIENT: Final = ("Shape", "Range", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")

assert onnx_layers.__name__ and onnx_shapes.__name__  # importing them registers their operators


def unfolded(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with a name of its own for every value and all initialisers in the outermost graph, bodies or not."""
    if not any(inner_graphs(node) for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    flatten_names(copy.graph)
    return copy


def read(model: onnx.ModelProto) -> Body:
    """The nodes of a model as `unfolded` leaves it.

    Raises:
        CompressionError: an operator is not supported; the message names it and those that are.
    """
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    stored = {initializer.name for initializer in model.graph.initializer}
    return _body(model.graph, opset, stored)


def _body(graph: GraphProto, opset: int, stored: Collection[str] = ()) -> Body:
    nodes = tuple(_node(proto, opset) for proto in graph.node)
    outputs = tuple(value.name for value in graph.output)
    inputs = tuple(value.name for value in graph.input if value.name not in stored)
    return Body(inputs, outputs, nodes, _last_uses(nodes, outputs))


def _node(proto: NodeProto, opset: int) -> Node:
    name = proto.name or proto.output[0]
    if proto.domain not in ("", "ai.onnx") or proto.op_type not in SUPPORTED_OPERATORS:
        full = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
        raise CompressionError(
            f"node {name!r}: {full} cannot be fine-tuned; supported are {', '.join(SUPPORTED_OPERATORS)}"
        )
    plain = [given for given in proto.attribute if given.type != AttributeProto.GRAPH]
    return Node(
        proto.op_type,
        name,
        tuple(proto.input),
        tuple(proto.output),
        {given.name: helper.get_attribute_value(given) for given in plain},
        opset,
        {given.name: _body(given.g, opset) for given in proto.attribute if given.type == AttributeProto.GRAPH},
    )


def posterior(model: onnx.ModelProto, output: str) -> str | None:
    """The operator ("LogSoftmax" or "Softmax") that makes an output over its last axis; None when it is another."""
    ranks = {o.name: len(o.type.tensor_type.shape.dim) for o in model.graph.output}
    for node in read(model).nodes:
        if output in node.outputs and node.op in ("LogSoftmax", "Softmax"):
            axis = node.get("axis", -1 if node.opset >= 13 else 1)
            return node.op if axis in (-1, ranks.get(output, 0) - 1) else None
    return None


def origins(graph: Body, values: Mapping[str, Array]) -> dict[str, str]:
    """Names that are an initialiser cast to another width or copied, to the initialiser."""
    origin: dict[str, str] = {}
    for node in graph.walk():
        if node.op == "Identity" or (node.op == "Cast" and node.get("to") in _FLOATS):
            source = origin.get(node.inputs[0], node.inputs[0])
            if source in values and values[source].dtype.kind == "f":
                origin[node.outputs[0]] = source
    return origin


def trained(graph: Body, values: Mapping[str, Array], origin: Mapping[str, str]) -> set[str]:
    """Float initialisers of more than one value that reach a layer, directly or with their shape changed.

    Not among them are those behind angles (of sines and cosines, which encode places), and those so small that bodies
    have copies of their own: trained in one body, they would not be in another.
    """
    source = {name: name for name, array in values.items() if array.dtype.kind == "f" and array.size > 1}
    source.update((name, by) for name, by in origin.items() if by in source)
    found = set()
    for node in graph.walk():
        if node.op in _PASSED_ON and node.inputs[0] in source:
            source[node.outputs[0]] = source[node.inputs[0]]
        for place in _TRAINED.get(node.op, ()):
            if place < len(node.inputs) and node.inputs[place] in source:
                found.add(source[node.inputs[place]])
    inside = set().union(*(body.reads for node in graph.nodes for body in node.bodies.values()))
    copies = {name for name in inside if name in values and values[name].size < SHARED}
    return found - _behind_angles(graph) - copies


def _behind_angles(graph: Body) -> set[str]:
    """Names that sines and cosines are worked out of."""
    makers = {name: node for node in graph.walk() for name in node.outputs}
    waiting = [name for node in graph.walk() if node.op in _PHASES for name in node.inputs]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if name in makers and makers[name].op not in _NO_GRADIENT:
            waiting.extend(makers[name].inputs)
    return found


def _last_uses(nodes: Sequence[Node], outputs: Iterable[str]) -> dict[int, list[str]]:
    """Values to forget after each node, so that only what is still needed stays in memory."""
    last: dict[str, int] = {}
    for number, node in enumerate(nodes):
        for name in (*node.reads, *node.outputs):
            if name:
                last[name] = number
    uses: dict[int, list[str]] = {}
    kept = set(outputs)
    for name, number in last.items():
        if name not in kept:
            uses.setdefault(number, []).append(name)
    return uses
