"""Narrowing whole chains of layers inside a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from models.compression.base import CompressionError, SizeError
from models.compression.chains import chains
from models.compression.network import find
from models.compression.normalise import normalise
from tests.compression import networks
from tests.compression.jobs import FRONT_END, Desk
from tests.compression.networks import random


def spliced() -> onnx.ModelProto:
    """A layer, three frames of it side by side, and two layers more, one of them a transposed Gemm-like MatMul."""
    nodes = [helper.make_node("MatMul", ["x", "w0"], ["m0"]), helper.make_node("Add", ["m0", "b0"], ["a0"])]
    nodes.append(helper.make_node("Sigmoid", ["a0"], ["h0"]))
    for number in range(3):
        nodes.append(helper.make_node("Slice", ["h0", f"s{number}", f"e{number}", "axis"], [f"t{number}"]))
    nodes += [
        helper.make_node("Concat", ["t0", "t1", "t2"], ["c"], axis=2),
        helper.make_node("MatMul", ["c", "w1"], ["m1"]),
        helper.make_node("Add", ["b1", "m1"], ["a1"]),
        helper.make_node("Relu", ["a1"], ["h1"]),
        helper.make_node("MatMul", ["h1", "w2"], ["y"]),
    ]
    weights = {
        "w0": random(24, 32), "b0": random(32, seed=1), "w1": random(96, 40, seed=2), "b1": random(40, seed=3),
        "w2": random(40, 12, seed=4), "axis": np.array([1]),
    }  # fmt: skip
    for number, end in enumerate((-2, -1, 2**62)):
        weights |= {f"s{number}": np.array([number]), f"e{number}": np.array([end])}
    return networks.model(nodes, weights, {"x": ["batch", "frames", 24]}, {"y": ["batch", "steps", 12]})


@pytest.mark.parametrize("model", [networks.feed_forward(), spliced()])
def test_a_chain_is_found_through_activations_and_splicing(model: onnx.ModelProto):
    network = find(normalise(model).model)
    (chain,) = chains(network)
    assert chain.layers == network.layers


@pytest.mark.parametrize("aware", [False, True])
@pytest.mark.parametrize("model", [networks.feed_forward(sizes=(24, 48, 40, 12)), spliced()])
def test_a_narrowed_network_is_a_smaller_plain_one(tmp_path: Path, model: onnx.ModelProto, aware: bool):
    desk = Desk(tmp_path, model)
    more = {"front_end": FRONT_END, "calibration": ["first"]} if aware else {}
    outcome = desk.run(method="same-size", size=0.3, allow_slower=True, **more)
    report = desk.report()
    assert report["weights"]["relative_size"] <= 0.3
    narrowed = onnx.load(outcome.package / "model.onnx")
    assert [node.op_type for node in narrowed.graph.node] == [node.op_type for node in model.graph.node]
    sizes = {tensor.name: onnx.numpy_helper.to_array(tensor).nbytes for tensor in narrowed.graph.initializer}
    assert all(sizes[layer["name"]] == layer["disk"] for layer in report["layers"])
    if aware:
        assert report["agreement"]["output_error"] < 1


def test_a_network_without_chain_is_an_error(tmp_path: Path):
    with pytest.raises(CompressionError, match="narrows chains of fully connected layers"):
        Desk(tmp_path, networks.gru()).run(method="same-size", size=0.3)


def test_a_size_out_of_reach_names_the_range(tmp_path: Path):
    with pytest.raises(SizeError, match="it reaches"):
        Desk(tmp_path, networks.feed_forward()).run(method="same-size", size=0.0001)


def test_a_branch_ends_the_chain():
    model = networks.feed_forward()
    model.graph.node.append(helper.make_node("Identity", ["hidden0"], ["tap"]))
    model.graph.output.append(helper.make_tensor_value_info("tap", 1, ["frames", 48]))
    network = find(normalise(model).model)
    (chain,) = chains(network)
    assert [layer.name for layer in chain.layers] == ["layer1.weight", "layer2.weight"]
