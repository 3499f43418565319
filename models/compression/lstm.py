"""An LSTM with compressed gate matrices: the library's own operator for DeepThin, otherwise a Scan over the steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from models.compression.base import Array, Compressed
from models.compression.builder import OnnxBuilder
from models.compression.fused import fused_layer, fuses
from models.compression.network import Layer
from models.compression.registry import method
from models.compression.scan import initial_state, name_outputs, scan_steps


def export_lstm(
    builder: OnnxBuilder,
    node: NodeProto,
    layers: tuple[Layer, Layer],
    weights: tuple[Compressed, Compressed],
    bias: Array | None,
) -> None:
    """Add what replaces an LSTM node; it makes the same outputs under the same names.

    Args:
        builder: the graph.
        node: the LSTM.
        layers: its input and its recurrent weight.
        weights: both, compressed ("dense" counts).
        bias: [8H], input and recurrent biases, or None.
    """
    given = [name or None for name in [*node.input, "", "", "", "", ""][5:7]]
    if fuses(weights):
        fixed = {"gate_order": "iofc"}
        made = fused_layer(builder, "DeepThinLSTM", node.input[0], layers, weights, bias, given, **fixed)
    else:
        made = _scan(builder, node.input[0], layers, weights, bias, given)
    every, last_state, last_cell = made
    name_outputs(builder, node, ((every, 1), (last_state, 0), (last_cell, 0)))


def _scan(
    builder: OnnxBuilder,
    x: str,
    layers: tuple[Layer, Layer],
    weights: tuple[Compressed, Compressed],
    bias: Array | None,
    given: Sequence[str | None],
) -> tuple[str, ...]:
    hidden = layers[1].Q
    states = [initial_state(builder, x, hidden, name) for name in given]
    both = np.zeros(8 * hidden, np.float32) if bias is None else bias
    # Both biases are added to the same sum: one is enough.
    total = builder.constant(f"{layers[0].name}.bias", both[: 4 * hidden] + both[4 * hidden :])
    gates = method(weights[0].plan.method).export(weights[0], builder, layers[0].name, x, total)
    body = builder.body()
    before = [body.name("state"), body.name("cell"), body.name("gates")]
    state, cell = _step(body, weights[1], layers[1].name, (before[0], before[1], before[2]), hidden)
    last_state, last_cell, every = scan_steps(builder, body, states, (gates, 4 * hidden), before, [state, cell], hidden)
    return every, last_state, last_cell


def _step(
    body: OnnxBuilder, weight: Compressed, name: str, given: tuple[str, str, str], hidden: int
) -> tuple[str, str]:
    """The next state and cell, gates in ONNX's order: input, output, forget, cell."""
    state, cell, gates = given
    product = method(weight.plan.method).export(weight, body, name, state, None)
    quarters = body.integers(hidden, hidden, hidden, hidden)
    parts = body.node("Split", [body.node("Add", [gates, product]), quarters], outputs=4, axis=-1)
    opened, out, kept = (body.node("Sigmoid", [part]) for part in (parts, f"{parts}.1", f"{parts}.2"))
    new = body.node("Mul", [opened, body.node("Tanh", [f"{parts}.3"])])
    following = body.node("Add", [body.node("Mul", [kept, cell]), new])
    return body.node("Mul", [out, body.node("Tanh", [following])]), following
