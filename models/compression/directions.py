"""Recurrent layers in both directions, backwards, or over sequences of unequal lengths, as plain forward ones.

What is in front of a backward layer and behind it is turned round. Steps behind the end of a sequence are computed too,
and then put to zero as the operator has them.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from models.compression.base import Array
from models.compression.bodies import reads

RECURRENT: Final = ("GRU", "LSTM")
_FIRST: Final = -(1 << 62)  # behind the first step, counted backwards


def unroll_directions(root: onnx.GraphProto, graph: onnx.GraphProto) -> dict[str, str]:
    """Replace, in place, each GRU and LSTM of `graph` with constant weights that runs backwards or has `sequence_lens`.

    Those with peepholes, activations of their own or another layout, and an LSTM with `sequence_lens` whose last cell
    state is read, stay as they are. The weights are
    initialisers of `root`, the graph itself or the outermost one around it.

    Returns:
        The weights that were made for one direction each, with the one for both that they are of.
    """
    parts: dict[str, str] = {}
    stored = {tensor.name: tensor for tensor in root.initializer}
    used = {value.name for value in graph.output}.union(*(reads(node) for node in graph.node))
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type in RECURRENT and _suits(node, stored, used):
            unrolled = _Unrolled(root, node, stored)
            nodes += unrolled.nodes
            parts |= unrolled.parts
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return parts


def _suits(node: NodeProto, stored: Mapping[str, TensorProto], used: Container[str]) -> bool:
    fixed = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    lengths = any(node.input[4:5])
    if fixed.get("direction", b"forward") == b"forward" and not lengths:
        return False
    if lengths and any(name in used for name in node.output[2:]):
        return False  # the cell state at the end of each sequence is among those of no other output
    weights = [name for name in node.input[1:4] if name]
    plain = not {"activations", "clip", "input_forget"} & set(fixed) and not fixed.get("layout", 0)
    return plain and not any(node.input[7:8]) and all(name in stored for name in weights)


class _Unrolled:
    """The nodes that stand for one."""

    def __init__(self, graph: onnx.GraphProto, node: NodeProto, stored: Mapping[str, TensorProto]) -> None:
        self.nodes: list[NodeProto] = []
        self.parts: dict[str, str] = {}
        self._graph = graph
        self._node = node
        self._base = next(name for name in node.output if name)
        self._lengths = ""
        count = len(node.output)
        if any(node.input[4:5]):
            self._lengths = self._node_for("Cast", [node.input[4]], "lengths", to=TensorProto.INT64)
            count = min(count, 2)
        fixed = [attribute for attribute in node.attribute if attribute.name != "direction"]
        direction = next((a.s for a in node.attribute if a.name == "direction"), b"forward")
        both = direction == b"bidirectional"
        made = []
        for index, backward in enumerate((False, True) if both else (direction == b"reverse",)):
            label = "backward" if backward else "forward"
            inputs = [self._turned(node.input[0], f"input.{label}") if backward else node.input[0]]
            for place, name in enumerate(node.input[1:], 1):
                if place == 4 or not name:
                    inputs.append("")
                elif place > 4:
                    inputs.append(self._part(name, index, label) if both else name)
                else:
                    inputs.append(self._weight(stored[name], index, label) if both else name)
            outputs = [f"{self._base}.{label}.{number}" for number in range(count)]
            layer = helper.make_node(node.op_type, inputs, outputs, name=f"{node.name or self._base}.{label}")
            layer.attribute.extend(fixed)
            self.nodes.append(layer)
            if self._lengths:
                outputs = self._ended(outputs[0], label)[:count]
            if backward:
                outputs[0] = self._turned_back(outputs[0], label)
            made.append(outputs)
        for number, name in enumerate(node.output[:count]):
            if name:
                parts = [outputs[number] for outputs in made]
                self.nodes.append(helper.make_node("Concat", parts, [name], axis=0 if number else 1))

    def _ended(self, y: str, label: str) -> list[str]:
        """All states [steps, 1, batch, H] with zeros behind the ends, and the last ones [1, batch, H]."""
        label = f"{label}.ends"
        units = next(attribute.i for attribute in self._node.attribute if attribute.name == "hidden_size")
        zero, one = self._constant("zero", np.array(0)), self._constant("one", np.array(1))
        ends = self._node_for("Unsqueeze", [self._lengths, self._constant("axes", np.array([0, 1, 3]))], label)
        shape = self._node_for("Shape", [y], f"{label}.shape")
        steps = self._node_for("Gather", [shape, zero], f"{label}.steps")
        each = self._node_for("Range", [zero, steps, one], f"{label}.each")
        column = self._node_for("Unsqueeze", [each, self._constant("inner", np.array([1, 2, 3]))], f"{label}.column")
        inside = self._node_for("Less", [column, ends], f"{label}.inside")
        kept = self._node_for(
            "Where", [inside, y, self._constant("nothing", np.zeros((), np.float32))], f"{label}.kept"
        )
        last = self._node_for("Max", [self._node_for("Sub", [ends, one], f"{label}.before"), zero], f"{label}.last")
        wide = self._node_for("Expand", [last, self._constant("wide", np.array([1, 1, 1, units]))], f"{label}.wide")
        state = self._node_for("GatherElements", [kept, wide], f"{label}.taken", axis=0)
        return [kept, self._node_for("Squeeze", [state, self._constant("first", np.array([0]))], f"{label}.state")]

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
        return self._slice(name, f"{label}.{name}", index, index + 1, 1)

    def _turned(self, name: str, label: str) -> str:
        """The steps of a value [steps, batch, ...], last one first; behind the end of a sequence they stay in place."""
        label = f"{label}.turned"
        if self._lengths:
            return self._node_for("ReverseSequence", [name, self._lengths], label, time_axis=0, batch_axis=1)
        return self._slice(name, label, -1, _FIRST, -1)

    def _turned_back(self, name: str, label: str) -> str:
        """The same for states [steps, 1, batch, H]."""
        if not self._lengths:
            return self._turned(name, label)
        axis = self._constant("direction", np.array([1]))
        flat = self._node_for("Squeeze", [name, axis], f"{label}.flat")
        return self._node_for("Unsqueeze", [self._turned(flat, label), axis], f"{label}.whole")

    def _node_for(self, operator: str, inputs: list[str], label: str, **fixed: Any) -> str:
        made = f"{self._base}.{label}"
        self.nodes.append(helper.make_node(operator, inputs, [made], **fixed))
        return made

    def _constant(self, label: str, value: Array) -> str:
        name = f"{self._base}.{label}.constant"
        if all(other.name != name for other in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def _slice(self, name: str, label: str, start: int, end: int, step: int) -> str:
        """Some of the first axis."""
        bounds = {"starts": start, "ends": end, "axes": 0, "steps": step}
        given = [self._constant(f"{label}.{key}", np.array([value])) for key, value in bounds.items()]
        return self._node_for("Slice", [name, *given], label)
