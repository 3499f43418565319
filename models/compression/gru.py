"""A GRU with compressed gate matrices: the library's own operator for DeepThin, otherwise a Scan over the steps."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from models.compression.base import Array, Compressed
from models.compression.builder import OnnxBuilder
from models.compression.folding import attributes
from models.compression.fused import fused_layer, fuses
from models.compression.network import Layer
from models.compression.registry import method
from models.compression.scan import initial_state, name_outputs, scan_steps


def export_gru(
    builder: OnnxBuilder,
    node: NodeProto,
    layers: tuple[Layer, Layer],
    weights: tuple[Compressed, Compressed],
    bias: Array | None,
) -> None:
    """Add what replaces a GRU node; it makes the same outputs under the same names.

    Args:
        builder: the graph.
        node: the GRU.
        layers: its input and its recurrent weight.
        weights: both, compressed ("dense" counts).
        bias: [6H], input and recurrent biases, or None.
    """
    hidden = layers[1].Q
    initial = node.input[5] if len(node.input) > 5 and node.input[5] else None
    reset_after = bool(attributes(node).get("linear_before_reset", 0))
    if fuses(weights):
        fixed = {"linear_before_reset": int(reset_after), "gate_order": "zrh"}
        y, last = fused_layer(builder, "DeepThinGRU", node.input[0], layers, weights, bias, [initial], **fixed)
    else:
        first = initial_state(builder, node.input[0], hidden, initial)
        y, last = _scan(builder, node.input[0], layers, weights, bias, first, reset_after=reset_after)
    name_outputs(builder, node, ((y, 1), (last, 0)))


def _scan(
    builder: OnnxBuilder,
    x: str,
    layers: tuple[Layer, Layer],
    weights: tuple[Compressed, Compressed],
    bias: Array | None,
    initial: str,
    *,
    reset_after: bool,
) -> tuple[str, str]:
    hidden = layers[1].Q
    both = np.zeros(6 * hidden, np.float32) if bias is None else bias
    inputs, recurrent = both[: 3 * hidden], both[3 * hidden :]
    gates = method(weights[0].plan.method).export(
        weights[0], builder, layers[0].name, x, builder.constant(f"{layers[0].name}.bias", inputs)
    )
    body = builder.body()
    before, given_gates = body.name("state"), body.name("gates")
    constant = body.constant(f"{layers[1].name}.bias", recurrent)
    state = _step(body, weights[1], layers[1].name, (before, given_gates, constant), hidden, reset_after=reset_after)
    names = (before, given_gates)
    last, every = scan_steps(builder, body, [initial], (gates, 3 * hidden), names, [state], hidden)
    return every, last


def _step(
    body: OnnxBuilder, weight: Compressed, name: str, given: tuple[str, str, str], hidden: int, *, reset_after: bool
) -> str:
    state, gates, bias = given
    chosen = method(weight.plan.method)
    product = chosen.export(weight, body, name, state, bias)
    thirds = body.integers(hidden, hidden, hidden)
    from_input = body.node("Split", [gates, thirds], outputs=3, axis=-1)
    from_state = body.node("Split", [product, thirds], outputs=3, axis=-1)
    update = body.node("Sigmoid", [body.node("Add", [from_input, from_state])])
    reset = body.node("Sigmoid", [body.node("Add", [f"{from_input}.1", f"{from_state}.1"])])
    if reset_after:
        candidate = body.node("Mul", [reset, f"{from_state}.2"])
    else:
        again = chosen.export(weight, body, name, body.node("Mul", [reset, state]), bias)
        candidate = f"{body.node('Split', [again, thirds], outputs=3, axis=-1)}.2"
    new = body.node("Tanh", [body.node("Add", [f"{from_input}.2", candidate])])
    # (1 - update) * new + update * state, in two products
    difference = body.node("Sub", [state, new])
    return body.node("Add", [new, body.node("Mul", [update, difference])])
