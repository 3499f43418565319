"""Recurrent layers in both directions, or backwards, as forward ones with what is in front and behind turned round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

RECURRENT: Final = ("GRU", "LSTM")
_FIRST: Final = -(1 << 62)  # behind the first step, counted backwards


def unroll_directions(root: onnx.GraphProto, graph: onnx.GraphProto) -> dict[str, str]:
    """Replace, in place, each GRU and LSTM of `graph` with constant weights that runs backwards too.

    Those with `sequence_lens`, peepholes, activations of their own or another layout stay as they are. The weights are
    initialisers of `root`, the graph itself or the outermost one around it.

    Returns:
        The weights that were made for one direction each, with the one for both that they are of.
    """
    parts: dict[str, str] = {}
    stored = {tensor.name: tensor for tensor in root.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type in RECURRENT and _suits(node, stored):
            unrolled = _Unrolled(root, node, stored)
            nodes += unrolled.nodes
            parts |= unrolled.parts
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return parts


def _suits(node: NodeProto, stored: Mapping[str, TensorProto]) -> bool:
    fixed = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if fixed.get("direction", b"forward") == b"forward" or {"activations", "clip", "input_forget"} & set(fixed):
        return False
    weights = [name for name in node.input[1:4] if name]
    others = [*node.input[4:5], *node.input[7:8]]
    return not any(others) and not fixed.get("layout", 0) and all(name in stored for name in weights)


class _Unrolled:
    """The nodes that stand for one."""

    def __init__(self, graph: onnx.GraphProto, node: NodeProto, stored: Mapping[str, TensorProto]) -> None:
        self.nodes: list[NodeProto] = []
        self.parts: dict[str, str] = {}
        self._graph = graph
        self._node = node
        self._base = next(name for name in node.output if name)
        fixed = [attribute for attribute in node.attribute if attribute.name != "direction"]
        both = next(a for a in node.attribute if a.name == "direction").s == b"bidirectional"
        made = []
        for index, backward in enumerate((False, True) if both else (True,)):
            label = "backward" if backward else "forward"
            inputs = [self._turned(node.input[0], f"input.{label}") if backward else node.input[0]]
            for place, name in enumerate(node.input[1:], 1):
                if not name or place > 3:
                    inputs.append(self._part(name, index, label) if name and both else name)
                    continue
                inputs.append(self._weight(stored[name], index, label) if both else name)
            outputs = [f"{self._base}.{label}.{number}" for number in range(len(node.output))]
            layer = helper.make_node(node.op_type, inputs, outputs, name=f"{node.name or self._base}.{label}")
            layer.attribute.extend(fixed)
            self.nodes.append(layer)
            if backward:
                outputs[0] = self._turned(outputs[0], label)
            made.append(outputs)
        for number, name in enumerate(node.output):
            if name:
                parts = [outputs[number] for outputs in made]
                self.nodes.append(helper.make_node("Concat", parts, [name], axis=0 if number else 1))

    def _weight(self, tensor: TensorProto, index: int, label: str) -> str:
        """One direction's part of a weight or bias."""
        name = f"{tensor.name}.{label}"
        self.parts[name] = tensor.name
        if all(other.name != name for other in self._graph.initializer):
            part = np.ascontiguousarray(numpy_helper.to_array(tensor)[index : index + 1])
            self._graph.initializer.append(numpy_helper.from_array(part, name))
        return name

    def _part(self, name: str, index: int, label: str) -> str:
        """One direction's part of an initial state [2, batch, H]."""
        made = f"{self._base}.{label}.{name}"
        self._slice(name, made, [index], [index + 1], 1)
        return made

    def _turned(self, name: str, label: str) -> str:
        """The steps of a value [steps, ...], last one first."""
        made = f"{self._base}.{label}.turned"
        self._slice(name, made, [-1], [_FIRST], -1)
        return made

    def _slice(self, name: str, made: str, starts: list[int], ends: list[int], step: int) -> None:
        given = [name]
        for key, value in (("starts", starts), ("ends", ends), ("axes", [0]), ("steps", [step])):
            given.append(f"{made}.{key}")
            self._graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), given[-1]))
        self.nodes.append(helper.make_node("Slice", given, [made]))
