"""Weights that are cut into pieces and put together again are found."""

from __future__ import annotations

import numpy as np
from onnx import helper

from models.compression.network import find
from models.compression.normalise import normalise
from ops import library
from tests.compression import networks


def test_the_gates_of_a_cell_in_another_order_are_one_weight() -> None:
    weights = {"w": networks.random(64, 12), "r": networks.random(64, 16, seed=1)}
    weights |= {f"b{side}": networks.random(64, seed=2 + side) for side in range(2)}
    constants = {str(number): np.array([number], np.int64) for number in (0, 16, 32, 48, 64)}
    nodes = []
    for name in weights:
        cuts = (("0", "16"), ("48", "64"), ("16", "48"))
        for number, (start, end) in enumerate(cuts):
            nodes.append(helper.make_node("Slice", [name, start, end, "0"], [f"{name}.{number}"]))
        nodes.append(helper.make_node("Concat", [f"{name}.{n}" for n in range(3)], [f"{name}.iofc"], axis=0))
        nodes.append(helper.make_node("Unsqueeze", [f"{name}.iofc", "0"], [f"{name}.whole"]))
    nodes.append(helper.make_node("Concat", ["b0.iofc", "b1.iofc"], ["b.iofc"], axis=0))
    nodes.append(helper.make_node("Unsqueeze", ["b.iofc", "0"], ["b.whole"]))
    nodes.append(helper.make_node("LSTM", ["x", "w.whole", "r.whole", "b.whole"], ["y"], hidden_size=16))
    model = networks.model(
        nodes, {**weights, **constants}, {"x": ["steps", "batch", 12]}, {"y": ["steps", 1, "batch", 16]}
    )
    found = find(normalise(model).model)
    assert [(layer.op, layer.Q, layer.R) for layer in found.layers] == [("LSTM", 12, 64), ("LSTM", 16, 64)]
    assert [node.op_type for node in found.model.graph.node] == ["LSTM"]
    x = {"x": networks.random(7, 2, 12, seed=5)}
    before, after = (library.session(each.SerializeToString()).run(None, x)[0] for each in (model, found.model))
    np.testing.assert_array_equal(before, after)


def test_a_bias_that_is_computed_leaves_its_layer_as_it_is() -> None:
    weights = {"w": networks.random(1, 64, 12), "r": networks.random(1, 64, 16, seed=1), "v": networks.random(12, 40)}
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=16),
        helper.make_node("MatMul", ["x", "v"], ["z"]),
    ]
    inputs = {"x": ["steps", "batch", 12], "b": [1, 128]}
    outputs = {"y": ["steps", 1, "batch", 16], "z": ["steps", "batch", 40]}
    found = find(normalise(networks.model(nodes, weights, inputs, outputs)).model)
    assert [layer.name for layer in found.layers] == ["v"]
    assert {weight.name: weight.reason for weight in found.skipped} == dict.fromkeys(
        ("w", "r"), "is an LSTM with weights or a bias that the network computes; supported as constants"
    )
