"""A recurrent layer whose matrices are DeepThin ones: the library's own operator takes all steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.compression.base import Array, Compressed
from models.compression.builder import OnnxBuilder
from models.compression.network import Layer


def fuses(weights: Sequence[Compressed]) -> bool:
    """Whether there is an operator for a layer of these matrices."""
    return all(weight.plan.method == "deepthin" for weight in weights)


def fused_layer(
    builder: OnnxBuilder,
    op: str,
    x: str,
    layers: tuple[Layer, Layer],
    weights: tuple[Compressed, Compressed],
    bias: Array | None,
    states: Sequence[str | None],
    **attributes: Any,
) -> tuple[str, ...]:
    """Add ``DeepThinGRU`` or ``DeepThinLSTM``.

    Args:
        builder: the graph.
        op: the operator.
        x: its input, [time, batch, inputs].
        layers: its input and its recurrent weight.
        weights: both, compressed.
        bias: input and recurrent biases, or None.
        states: each first state, [1, batch, hidden], or None for zeros.
        attributes: further attributes of the operator.

    Returns:
        All states, [time, batch, hidden], and each last one, [batch, hidden].
    """
    factors = [
        builder.constant(f"{layer.name}.{leaf}", weight.arrays[leaf])
        for layer, weight in zip(layers, weights, strict=True)
        for leaf in ("Xf", "Wf")
    ]
    name = "" if bias is None else builder.constant(f"{layers[0].name}.bias", bias)
    first = ["" if state is None else builder.node("Squeeze", [state, builder.integers(0)]) for state in states]
    y = builder.node(
        op,
        [x, *factors, name, *first],
        outputs=1 + len(states),
        domain="deepthin",
        input_size=layers[0].Q,
        hidden_size=layers[1].Q,
        layout=0,
        **attributes,
    )
    return (y, *(f"{y}.{number}" for number in range(1, 1 + len(states))))
