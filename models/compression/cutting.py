"""Parts of a network: what some values need, those inside the bodies of If, Loop and Scan too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper

from models.compression.bodies import inner_graphs, places, reads

_TAP: Final = ".tap"


def cut(
    model: onnx.ModelProto,
    outputs: Sequence[str],
    known: Mapping[str, Any] | None = None,
    given: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A copy of `model` that computes just the values `outputs`.

    Args:
        model: the network, its names as `bodies.flatten_names` leaves them.
        outputs: values, of the outermost graph or of bodies. One of a body is there under the name that `tap` gives:
            in a body that was not run, it is empty; in one that was run again and again, there is an axis for the runs
            in front. Its element type is float.
        known: element types other than float of other outputs.
        given: values that become inputs, with their element types: what makes them is left out.
    """
    given = given or {}
    within = _within(model.graph, outputs)
    nodes = [node for node in model.graph.node if not set(node.output) & set(given)]
    copy = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    graph = copy.graph
    graph.name = model.graph.name or "part"
    graph.input.extend(model.graph.input)
    graph.node.extend(nodes)
    _expose(graph, within)
    wanted = [tap(name) if name in within else name for name in outputs]
    _prune(graph, set(wanted))
    needed = set(wanted).union(*(reads(node) for node in graph.node))
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    present = {value.name for value in graph.input}
    for name, kind in given.items():
        if name in needed and name not in present:
            graph.input.append(helper.make_tensor_value_info(name, kind, None))
    inputs = {value.name for value in graph.input}
    types = known or {}
    for name in wanted:
        if name not in inputs:
            kind = types.get(name, TensorProto.FLOAT)
            graph.output.append(
                onnx.ValueInfoProto(name=name) if kind is None else helper.make_tensor_value_info(name, kind, None)
            )
    return copy


def tap(name: str) -> str:
    """What a value inside a body is called outside."""
    return f"{name}{_TAP}"


def _within(graph: GraphProto, names: Iterable[str]) -> set[str]:
    """Those of `names` that are made in bodies, or are what a body is given."""
    wanted, found = set(names), set()
    for place in places(graph):
        if place.inside:
            found |= wanted & set(place.node.output)
        for inner in inner_graphs(place.node):
            found |= wanted & {value.name for value in inner.input}
    return found


def _expose(graph: GraphProto, wanted: set[str], depth: int = 0) -> dict[str, str]:
    """Pass values from the bodies of a graph's nodes on to the graph; what each is called there."""
    found: dict[str, str] = {}
    for node in graph.node:
        for inner in inner_graphs(node):
            made = {name for each in inner.node for name in each.output} | {value.name for value in inner.input}
            here = {name: name for name in sorted(wanted & made)} | _expose(inner, wanted, depth + 1)
            for name, source in here.items():
                found[name] = tap(name) + (str(depth) if depth else "")
                _pass_on(node, inner, source, found[name])
    return found


def _pass_on(node: NodeProto, body: GraphProto, source: str, target: str) -> None:
    """Give `node` the output `target`, which is the value `source` of one of its bodies."""
    copied = f"{target}.{node.op_type.lower()}"
    body.node.append(helper.make_node("Identity", [source], [copied]))
    body.output.append(onnx.ValueInfoProto(name=copied))
    for number, other in enumerate(inner_graphs(node)):
        if node.op_type == "If" and other is not body:
            empty = f"{copied}.{number}"
            shape = helper.make_tensor(f"{empty}.shape", TensorProto.INT64, [1], [0])
            other.node.append(helper.make_node("Constant", [], [f"{empty}.shape"], value=shape))
            other.node.append(helper.make_node("ConstantOfShape", [f"{empty}.shape"], [empty]))
            other.output.append(onnx.ValueInfoProto(name=empty))
    node.output.append(target)
    if node.op_type == "Scan":
        for attribute in node.attribute:
            if attribute.name in ("scan_output_axes", "scan_output_directions"):
                attribute.ints.append(0)


def _prune(graph: GraphProto, wanted: set[str]) -> None:
    """Take out what `wanted` does not need: nodes, and outputs of If with what makes them."""
    kept: list[NodeProto] = []
    used = set(wanted)
    for node in reversed(graph.node):
        if not used & set(node.output):
            continue
        bodies = inner_graphs(node)
        if node.op_type == "If":
            for index in reversed(range(len(node.output))):
                if node.output[index] not in used:
                    del node.output[index]
                    for body in bodies:
                        del body.output[index]
        for body in bodies:
            _prune(body, {value.name for value in body.output})
        kept.append(node)
        used |= reads(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
