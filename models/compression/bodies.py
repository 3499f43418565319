"""The bodies of If, Loop and Scan: walking through them, and giving them a form in which weights can be found.

After `flatten_names` every value of a network has a name of its own, wherever it is made, and every initialiser stands
in the outermost graph, those with the same bits only once: what a weight is called says which weight it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto

_LOOPS = ("Loop", "Scan")
SHARED: Final = 256
"""Values of an initialiser that is told from its copies; two smaller ones may well be alike by chance."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands.

    Attributes:
        node: the node.
        graph: the graph that holds it.
        top: index of the node of the outermost graph that it is, or that it is inside of.
        loops: how many bodies of Loop and Scan it is inside of.
        inside: whether it is in the body of another node.
    """

    node: NodeProto
    graph: GraphProto
    top: int
    loops: int
    inside: bool


def inner_graphs(node: NodeProto) -> list[GraphProto]:
    """Bodies of If, Loop and Scan."""
    found = []
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            found.append(attribute.g)
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            found.extend(attribute.graphs)
    return found


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and all bodies in it, the outermost first."""
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from graphs(inner)


def places(graph: GraphProto) -> list[Place]:
    """All nodes of a graph and its bodies; those of a body come right behind the node that has it."""
    return list(_places(graph, None, 0))


def reads(node: NodeProto) -> set[str]:
    """Names that a node reads, those of its bodies included."""
    names = {name for name in node.input if name}
    for inner in inner_graphs(node):
        for inside in inner.node:
            names |= reads(inside)
        names.update(value.name for value in inner.output)
    return names


def flatten_names(graph: GraphProto) -> None:
    """Give every value a name of its own and hoist all initialisers of bodies to the outermost graph, in place."""
    used = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        used.update(node.output)
    taken = _Names(used)
    if all(not inner_graphs(node) for node in graph.node):
        return
    known = {_bits(tensor): tensor.name for tensor in graph.initializer if _size(tensor) >= SHARED}
    for node in graph.node:
        for inner in inner_graphs(node):
            _flatten(graph, inner, {}, taken, known)


class _Names:
    """Names that are taken; bodies may have thousands of values of one name."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._numbers: dict[str, int] = {}

    def fresh(self, wish: str) -> str:
        """`wish` or, if that is taken, the same with a number behind it."""
        name = wish
        while name in self._taken:
            self._numbers[wish] = number = self._numbers.get(wish, 0) + 1
            name = f"{wish}.{number}"
        self._taken.add(name)
        return name


def _places(graph: GraphProto, top: int | None, loops: int) -> Iterator[Place]:
    for index, node in enumerate(graph.node):
        first = index if top is None else top
        yield Place(node, graph, first, loops, top is not None)
        for inner in inner_graphs(node):
            yield from _places(inner, first, loops + (node.op_type in _LOOPS))


def _flatten(
    root: GraphProto, graph: GraphProto, outer: Mapping[str, str], taken: _Names, known: dict[bytes, str]
) -> None:
    names = dict(outer)

    def define(name: str) -> str:
        names[name] = taken.fresh(name)
        return names[name]

    for value in graph.input:
        value.name = define(value.name)
    for tensor in graph.initializer:
        bits = _bits(tensor) if _size(tensor) >= SHARED else b""
        if bits and bits in known:
            names[tensor.name] = known[bits]
            continue
        hoisted = root.initializer.add()
        hoisted.CopyFrom(tensor)
        hoisted.name = define(tensor.name)
        if bits:
            known[bits] = hoisted.name
    del graph.initializer[:]
    del graph.value_info[:]
    for node in graph.node:
        for name in node.output:
            if name:
                define(name)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
        for index, name in enumerate(node.output):
            node.output[index] = names.get(name, name)
        for inner in inner_graphs(node):
            _flatten(root, inner, names, taken, known)
    for value in graph.output:
        value.name = names.get(value.name, value.name)


def _size(tensor: TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=object))


def _bits(tensor: TensorProto) -> bytes:
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.ClearField("name")
    copy.ClearField("doc_string")
    return bytes(copy.SerializeToString(deterministic=True))
