"""What recurrent layers with compressed matrices share: their first state, a Scan over the steps, their outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper

from models.compression.builder import OnnxBuilder


def initial_state(builder: OnnxBuilder, x: str, hidden: int, given: str | None) -> str:
    """The state [batch, hidden] before the first step: `given` [1, batch, hidden], or zeros for input `x`."""
    if given is not None:
        return builder.node("Squeeze", [given, builder.integers(0)])
    shape = builder.node("Shape", [x])
    batch = builder.node("Slice", [shape, builder.integers(1), builder.integers(2)])
    zero = builder.constant("zero", np.zeros((1, 1), np.float32))
    return builder.node("Expand", [zero, builder.node("Concat", [batch, builder.integers(hidden)], axis=0)])


def scan_steps(
    builder: OnnxBuilder,
    body: OnnxBuilder,
    first: Sequence[str],
    gates: tuple[str, int],
    before: Sequence[str],
    after: Sequence[str],
    hidden: int,
) -> tuple[str, ...]:
    """Add a Scan that takes `body` from one step to the next.

    Args:
        builder: the graph.
        body: the nodes of one step, of `builder.body`.
        first: the states [batch, hidden] before the first step; the first of them is also the layer's output.
        gates: what the inputs give, [time, batch, width], and its width.
        before: names in `body` of the states before a step and, last, of its gates.
        after: names in `body` of the states after it.
        hidden: width of every state.

    Returns:
        The last states, then the first state of every step, [time, batch, hidden].
    """
    name, width = gates
    sizes = [*(hidden for _ in first), width]
    taken = [
        helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", size])
        for value, size in zip(before, sizes, strict=True)
    ]
    # The state goes out twice, as the next step's and as this one's output, and needs two names for it.
    made = [
        helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", hidden])
        for value in (*after, body.node("Identity", [after[0]]))
    ]
    graph = helper.make_graph(body.nodes, "step", taken, made)
    last = builder.node("Scan", [*first, name], outputs=len(made), num_scan_inputs=1, body=graph)
    return (last, *(f"{last}.{number}" for number in range(1, len(made))))


def name_outputs(builder: OnnxBuilder, node: NodeProto, values: Sequence[tuple[str, int]]) -> None:
    """Give values, each with the axis of its one direction, the names of the outputs that `node` has."""
    for index, (value, axis) in enumerate(values):
        if index < len(node.output) and node.output[index]:
            builder.rename(builder.node("Unsqueeze", [value, builder.integers(axis)]), node.output[index])
