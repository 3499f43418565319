"""Weights in the bodies of If and Loop, shared between branches, and tables that are looked up and multiplied by."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.compression.base import CompressionError
from models.compression.calibrate import Calibrator
from models.compression.compressing import approximated, compress_layer
from models.compression.export import export
from models.compression.network import LOOKED_UP, Network, find
from models.compression.normalise import normalise
from models.compression.planning import plan
from models.compression.registry import method
from ops.library import session
from tests.compression.networks import random

WIDTH, TOKENS = 24, 200
SHARED, OWN = random(WIDTH, 32, seed=1), random(32, 16, seed=2)


def branches(*, quantised: bool = False) -> onnx.ModelProto:
    """If `flag`: x · shared · own, otherwise relu(x · shared) · own. Both branches use the same names, and each has its
    own copy of `own`."""

    def branch(name: str, *, relu: bool) -> onnx.GraphProto:
        nodes = []
        if quantised:
            nodes = [
                helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"]),
                helper.make_node("MatMulInteger", ["codes", "shared_quantized", "zero"], ["whole"]),
                helper.make_node("Cast", ["whole"], ["cast"], to=TensorProto.FLOAT),
                helper.make_node("Mul", ["scale", "shared_scale"], ["scales"]),
                helper.make_node("Mul", ["cast", "scales"], ["product"]),
            ]
        else:
            nodes = [helper.make_node("MatMul", ["x", "shared"], ["product"])]
        nodes += [
            helper.make_node("Add", ["product", "bias"], ["sum"]),
            helper.make_node("Relu" if relu else "Identity", ["sum"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "own"], ["y"]),
        ]
        value = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 16])
        return helper.make_graph(nodes, name, [], [value], [numpy_helper.from_array(OWN, "own")])

    bodies = {"then_branch": branch("t", relu=False), "else_branch": branch("e", relu=True)}
    node = helper.make_node("If", ["flag"], ["out"], **bodies)
    weights: dict[str, Any] = {"bias": random(32, seed=3)}
    if quantised:
        step = np.float32(np.abs(SHARED).max() / 127)
        weights |= {"shared_quantized": np.rint(SHARED / step).astype(np.int8), "shared_scale": step}
    else:
        weights["shared"] = SHARED
    return _model([node], weights, {"x": ["rows", WIDTH]}, {"out": ["rows", 16]}, {"flag": (TensorProto.BOOL, [])})


def loop() -> onnx.ModelProto:
    """Five steps of h = tanh(h · W)."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h", "W"], ["product"]),
            helper.make_node("Tanh", ["product"], ["next"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, ["rows", WIDTH]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["rows", WIDTH]),
        ],
        [numpy_helper.from_array(random(WIDTH, WIDTH, seed=4), "W")],
    )
    node = helper.make_node("Loop", ["steps", "", "x"], ["out"], body=body)
    return _model([node], {"steps": np.array(5, np.int64)}, {"x": ["rows", WIDTH]}, {"out": ["rows", WIDTH]}, {})


def tied() -> onnx.ModelProto:
    """Embeddings of tokens, a layer, and the same table, turned, as the output layer."""
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "W"], ["hidden"]),
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["hidden", "turned"], ["logits"]),
    ]
    weights = {"table": random(TOKENS, WIDTH, seed=5), "W": random(WIDTH, WIDTH, seed=6)}
    tokens = {"tokens": (TensorProto.INT64, ["batch", "length"])}
    return _model(nodes, weights, {}, {"logits": ["batch", "length", TOKENS]}, tokens)


def test_branches_are_one_network_with_shared_weights() -> None:
    given = branches()
    network = find(normalise(given).model)
    assert {layer.name: len(layer.nodes) for layer in network.layers} == {"shared": 2, "own": 2}
    assert all(layer.inside for layer in network.layers)
    for flag in (True, False):
        feed = {"x": random(7, WIDTH, seed=7), "flag": np.array(flag)}
        np.testing.assert_allclose(_run(network.model, feed), _run(given, feed), atol=1e-5)


@pytest.mark.parametrize("name", ["deepthin", "int8", "int3-compact", "int4-compact", "pruned-csr"])
def test_compressed_branches_compute_what_their_weights_stand_for(name: str) -> None:
    network = find(normalise(branches()).model)
    done = {each.name: _compressed(network, each.name, name) for each in network.layers}
    exported, reference = export(network, done), approximated(network, done, {})
    ops = [node.op_type for attribute in exported.graph.node[-1].attribute for node in attribute.g.node]
    assert "MatMul" not in ops
    stored = [tensor.name for tensor in exported.graph.initializer]
    assert len(stored) == len(set(stored)) and not {"shared", "own"} & set(stored)
    for flag in (True, False):
        feed = {"x": random(7, WIDTH, seed=7), "flag": np.array(flag)}
        wanted = _run(reference, feed)
        assert np.abs(_run(exported, feed) - wanted).max() < (0.06 if name.startswith("int") else 1e-5) * wanted.std()


def test_what_goes_into_a_layer_is_measured_in_the_branch_that_runs() -> None:
    network = find(normalise(branches()).model)
    feeds = [{"x": random(9, WIDTH, seed=seed), "flag": np.array(False)} for seed in range(3)]
    calibrator = Calibrator(network, feeds)
    first, second = network.layers
    x = np.concatenate([feed["x"] for feed in feeds])
    bias = numpy_helper.to_array(next(each for each in network.model.graph.initializer if each.name == "bias"))
    hidden = np.maximum(x @ SHARED + bias, 0)
    for layer, rows in ((first, x), (second, hidden)):
        moments = calibrator.moments(layer, None)
        assert moments.rows == 27
        np.testing.assert_allclose(moments.oo, rows.T @ rows / 27, atol=1e-4)
    # Behind a compressed first layer the second sees what that one gives.
    done = {first.name: _compressed(network, first.name, "int4")}
    changed = np.maximum(x @ method("int4").decompress(done[first.name]) + bias, 0)
    moments = calibrator.moments(second, lambda: approximated(network, done, {}))
    np.testing.assert_allclose(moments.cc, changed.T @ changed / 27, atol=1e-4)
    np.testing.assert_allclose(moments.co, changed.T @ hidden / 27, atol=1e-4)


def test_quantised_layers_of_branches_are_taken_back_and_said_so() -> None:
    given = branches(quantised=True)
    normalised = normalise(given)
    assert normalised.quantised == {"shared": WIDTH * 32}
    network = find(normalised.model)
    assert {layer.name: len(layer.nodes) for layer in network.layers} == {"shared": 2, "own": 2}
    feed = {"x": random(7, WIDTH, seed=7), "flag": np.array(True)}
    wanted = _run(given, feed)
    assert np.abs(_run(network.model, feed) - wanted).max() < 0.05 * wanted.std()


def test_weights_in_loops() -> None:
    network = find(normalise(loop()).model)
    [layer] = network.layers
    assert layer.inside and layer.nodes
    x = random(6, WIDTH, seed=8)
    moments = Calibrator(network, [{"x": x}]).moments(layer, None)
    assert moments.rows == 5 * 6
    W, h, total = network.weight(layer), x, np.zeros((WIDTH, WIDTH))
    for _ in range(5):
        total += h.T @ h
        h = np.tanh(h @ W)
    np.testing.assert_allclose(moments.oo, total / 30, atol=1e-5)
    done = {layer.name: _compressed(network, layer.name, "deepthin")}
    exported, reference = export(network, done), approximated(network, done, {})
    np.testing.assert_allclose(_run(exported, {"x": x}), _run(reference, {"x": x}), atol=1e-5)


@pytest.mark.parametrize("whole", [np.int64, np.int32])
@pytest.mark.parametrize("name", ["int8", "int4", "int4-compact", "int3-compact", "int2-compact", "low-rank"])
def test_a_table_that_is_looked_up_and_multiplied_by_is_stored_once(name: str, whole: type[np.integer[Any]]) -> None:
    given = tied()
    given.graph.input[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(whole))
    network = find(normalise(given).model)
    table = next(layer for layer in network.layers if layer.name == "table")
    assert (table.Q, table.R, table.op, len(table.lookups)) == (WIDTH, TOKENS, "MatMul", 1)
    feed = {"tokens": np.array([[3, 199, 0], [7, 7, 100]], whole)}
    np.testing.assert_allclose(_run(network.model, feed), _run(given, feed), atol=1e-5)
    done = {"table": _compressed(network, "table", name)}
    exported = export(network, done)
    assert sum(tensor.name.startswith("table.weight") for tensor in exported.graph.initializer) <= 1
    wanted = _run(approximated(network, done, {}), feed)
    assert np.abs(_run(exported, feed) - wanted).max() < (0.06 if name.startswith("int") else 1e-5) * wanted.std()


def test_a_table_that_is_looked_up_alone() -> None:
    given = tied()
    del given.graph.node[2:]
    given.graph.output[0].name = "hidden"
    given.graph.output[0].type.tensor_type.shape.dim[2].dim_value = WIDTH
    network = find(normalise(given).model)
    table = next(layer for layer in network.layers if layer.name == "table")
    assert table.op == LOOKED_UP
    feed = {"tokens": np.array([[3, 199, 0]])}
    done = {"table": _compressed(network, "table", "int8")}
    np.testing.assert_allclose(
        _run(export(network, done), feed), _run(approximated(network, done, {}), feed), atol=1e-5
    )
    # Calibration has nothing to say about rows that nothing multiplies.
    result = compress_layer(network, table, done["table"].plan, Calibrator(network, [feed]), None, {})
    assert result.compressed.relative_error == pytest.approx(done["table"].relative_error)


def test_methods_that_cannot_look_up_say_so() -> None:
    network = find(normalise(tied()).model)
    table = next(layer for layer in network.layers if layer.name == "table")
    with pytest.raises(CompressionError, match="table: deepthin takes no table that is looked up"):
        plan(method("deepthin"), table, 0.2)


def _compressed(network: Network, layer: str, name: str) -> Any:
    found = next(each for each in network.layers if each.name == layer)
    chosen = method(name)
    size = 1.0 if name.startswith("int") else 0.5 if name != "deepthin" else 0.3
    return chosen.compress(network.weight(found), plan(chosen, found, size))


def _run(model: onnx.ModelProto, feed: dict[str, Any]) -> Any:
    return session(model.SerializeToString()).run(None, feed)[0]


def _model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, Any],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    others: dict[str, Any],
) -> onnx.ModelProto:
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    given += [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in others.items()]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "tiny", given, made, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
