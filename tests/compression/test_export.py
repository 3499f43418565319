"""Finding weights in a graph and putting compressed ones in their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.compression import parity
from models.compression.base import Compressed, CompressionError, Method
from models.compression.calibrate import Calibrator
from models.compression.compressing import approximated
from models.compression.cutting import cut
from models.compression.export import export
from models.compression.network import Network, as_stored, find, with_weights
from models.compression.normalise import normalise
from models.compression.registry import METHODS
from ops import library
from tests.compression import networks
from tests.compression.networks import random

# One of each way of exporting: plain nodes, convolutions of its own, and an operator of the library.
USED = ["dense", "low-rank", "deepthin"]


def squeezed(network: Network, method: Method, size: float = 0.5) -> dict[str, Compressed]:
    results = {}
    for layer in network.layers:
        wish = max(size, method.sizes(layer.Q, layer.R)[0])
        results[layer.name] = method.compress(network.weight(layer), method.plan(layer.Q, layer.R, wish))
    return results


def reference(network: Network, compressed: dict[str, Compressed], method: Method) -> onnx.ModelProto:
    return with_weights(
        network.model,
        {
            layer.name: as_stored(layer, network.nodes(layer)[0], method.decompress(compressed[layer.name]))
            for layer in network.layers
        },
    )


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    outputs: list[Any] = library.session(model.SerializeToString()).run(None, feeds)
    return outputs


def check(model: onnx.ModelProto, feeds: dict[str, Any], method: str, layers: int = 1) -> onnx.ModelProto:
    network = find(normalise(model).model)
    assert len(network.layers) == layers
    for one, other in zip(run(model, feeds), run(network.model, feeds), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    compressed = squeezed(network, METHODS[method])
    exported = export(network, compressed)
    wanted = run(reference(network, compressed, METHODS[method]), feeds)
    for one, other in zip(run(exported, feeds), wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    kept = {tensor.name for tensor in exported.graph.initializer}
    if method != "dense":
        assert not kept & {layer.name for layer in network.layers}, "a dense weight was left in the file"
    return exported


@pytest.mark.parametrize("method", USED)
def test_feed_forward(method: str):
    exported = check(networks.feed_forward(), {"features": random(7, 24)}, method, 3)
    assert [value.name for value in exported.graph.output] == ["log_probs"]
    if method == "deepthin":
        assert [node.op_type for node in exported.graph.node] == ["DeepThinMatMul"] * 3 + ["LogSoftmax"]


@pytest.mark.parametrize("method", USED)
@pytest.mark.parametrize("bias", ["none", "vector", "row", "scalar", "column"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_gemm(method: str, bias: str, scale: float):
    for trans_a, trans_b in ((0, 0), (0, 1), (1, 1)):
        model = networks.gemm(trans_a=trans_a, trans_b=trans_b, alpha=scale, beta=2 * scale, bias=bias)
        check(model, {"x": random(*((24, 5) if trans_a else (5, 24)), seed=5)}, method)


@pytest.mark.parametrize("method", USED)
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 1], "pads": [1, 0, 2, 1]},
        {"dilations": [2, 2], "pads": [3, 1, 0, 2]},
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID", "strides": [3, 2]},
    ],
    ids=str,
)
def test_convolution_over_two_axes(method: str, attributes: dict[str, Any]):
    for height, width in ((11, 9), (12, 8)):
        check(networks.conv(**attributes), {"x": random(2, 6, height, width, seed=3)}, method)


@pytest.mark.parametrize("method", USED)
@pytest.mark.parametrize("bias", [True, False])
def test_convolution_over_one_axis(method: str, bias: bool):
    check(networks.conv(1, bias=bias, strides=[2], pads=[2, 1]), {"x": random(3, 6, 17, seed=3)}, method)


@pytest.mark.parametrize("method", USED)
@pytest.mark.parametrize(
    "options", [{}, {"reset_after": 0}, {"initial": False}, {"bias": False}, {"half": True}], ids=str
)
def test_recurrent_layer(method: str, options: dict[str, Any]):
    feeds = {"x": random(6, 2, 12, seed=4, scale=1.0)}
    if options.get("initial", True):
        feeds["state"] = random(1, 2, 16, seed=5)
    check(networks.gru(**options), feeds, method, 2)


@pytest.mark.parametrize("method", USED)
@pytest.mark.parametrize(
    ("op", "options"),
    [
        ("GRU", {}),
        ("GRU", {"direction": "reverse", "initial": False}),
        ("LSTM", {}),
        ("LSTM", {"direction": "forward", "bias": False}),
        ("LSTM", {"direction": "reverse", "last_only": True}),
        ("LSTM", {"initial": False}),
    ],
    ids=str,
)
def test_recurrent_layers_of_other_kinds_and_directions(method: str, op: str, options: dict[str, Any]):
    model = networks.recurrent(op, **options)
    feeds = {
        value.name: random(6 if value.name == "x" else shape[0].dim_value, 2, shape[2].dim_value, seed=4, scale=1.0)
        for value in model.graph.input
        for shape in [value.type.tensor_type.shape.dim]
    }
    both = options.get("direction", "bidirectional") == "bidirectional"
    exported = check(model, feeds, method, 4 if both else 2)
    kinds = {node.op_type for node in exported.graph.node}
    assert op not in kinds
    assert ("Scan" in kinds) == (method != "deepthin")
    assert (f"DeepThin{op}" in kinds) == (method == "deepthin")


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("options", [{}, {"initial": False}, {"last_only": True}], ids=str)
def test_recurrent_layers_over_sequences_of_unequal_lengths(op: str, direction: str, options: dict[str, Any]):
    model = networks.recurrent(op, direction=direction, lengths=True, **options)
    ways = 2 if direction == "bidirectional" else 1
    feeds: dict[str, Any] = {"x": random(6, 4, 12, seed=4, scale=1.0), "lengths": np.array([6, 1, 4, 0], np.int32)}
    if options.get("initial", True):
        feeds |= {name: random(ways, 4, 16, seed=5) for name in ("state", "cell")[: 1 if op == "GRU" else 2]}
    exported = check(model, feeds, "deepthin", 2 * ways)
    assert f"DeepThin{op}" in {node.op_type for node in exported.graph.node}


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
def test_recurrent_weights_are_calibrated_on_the_states_before_each_step(op: str):
    """Backwards too: the state before a step is that of the step after it in time."""
    network = find(normalise(networks.recurrent(op, initial=False)).model)
    x = random(6, 2, 12, seed=4, scale=1.0)
    states = run(network.model, {"x": x})[0]
    calibrator = Calibrator(network, [{"x": x}])
    for name, rows in (("r.forward", states[:-1, 0]), ("r.backward", states[1:, 1])):
        layer = next(layer for layer in network.layers if layer.name == name)
        moments = calibrator.moments(layer, None)
        flat = rows.reshape(-1, 16).astype(np.float64)
        assert moments.rows == 6 * 2  # the state before the first step, of zeros, counts
        np.testing.assert_allclose(moments.oo, flat.T @ flat / 12, atol=1e-6)


@pytest.mark.parametrize("change", [{"input_forget": 1}, {"activations": ["Sigmoid", "Relu", "Tanh"]}])
def test_an_lstm_of_another_kind_is_named(change: dict[str, Any]):
    model = networks.recurrent("LSTM", direction="forward")
    for name, value in change.items():
        model.graph.node[0].attribute.append(helper.make_attribute(name, value))
    with pytest.raises(CompressionError, match="is an LSTM with"):
        find(normalise(model).model)


@pytest.mark.parametrize("method", USED)
@pytest.mark.parametrize("op", ["GRU", "LSTM"])
def test_weights_that_recurrent_layers_share_are_compressed_once(method: str, op: str):
    model = networks.shared_recurrent(op)
    feeds = {"x": random(6, 2, 16, seed=4, scale=1.0)}
    exported = check(model, feeds, method, 2)
    assert op not in {node.op_type for node in exported.graph.node}
    arrays = [numpy_helper.to_array(tensor) for tensor in exported.graph.initializer]
    stored = [array.tobytes() for array in arrays if array.size > 4]
    assert len(stored) == len(set(stored))
    network = find(normalise(model).model)
    assert {layer.name: len(layer.nodes) for layer in network.layers} == {"w": 2, "r": 2}
    # Half of the states that the recurrent weight sees are those of the second layer.
    calibrator = Calibrator(network, [feeds])
    states = [np.zeros((2, 2, 16)), *(run(cut(network.model, [name]), feeds)[0][:-1, 0] for name in ("first", "y"))]
    flat = np.concatenate([each.reshape(-1, 16) for each in states]).astype(np.float64)
    moments = calibrator.moments(next(layer for layer in network.layers if layer.name == "r"), None)
    assert moments.rows == 24
    np.testing.assert_allclose(moments.oo, flat.T @ flat / 24, atol=1e-6)


def test_one_half_of_a_recurrent_layer_may_stay_dense():
    network = find(normalise(networks.gru()).model)
    feeds = {"x": random(6, 2, 12, seed=4), "state": random(1, 2, 16, seed=5)}
    for name in ("w", "r"):
        compressed = {name: squeezed(network, METHODS["low-rank"])[name]}
        layer = next(layer for layer in network.layers if layer.name == name)
        dense = METHODS["low-rank"].decompress(compressed[name])
        wanted = with_weights(network.model, {name: as_stored(layer, network.nodes(layer)[0], dense)})
        for one, other in zip(run(export(network, compressed), feeds), run(wanted, feeds), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("method", USED[1:])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_shared_weight_is_stored_once(method: str, transposed: bool):
    exported = check(networks.shared(transposed=transposed), {"x": random(3, 20, seed=1)}, method)
    assert len(exported.graph.initializer) == 2  # the two factors


def test_weights_behind_casts_keep_their_names_and_half_precision():
    model = networks.gru(half=True)
    normalised = normalise(model)
    network = find(normalised.model)
    assert [layer.name for layer in network.layers] == ["w", "r"] and normalised.half == {"w", "r"}
    untouched = export(network, {}, half=normalised.half)
    types = {tensor.name: tensor.data_type for tensor in untouched.graph.initializer}
    assert types["w.fp16"] == types["r.fp16"] == TensorProto.FLOAT16
    feeds = {"x": random(6, 2, 12, seed=4), "state": random(1, 2, 16, seed=5)}
    for one, other in zip(run(model, feeds), run(untouched, feeds), strict=True):
        np.testing.assert_array_equal(one, other)


def test_old_models_with_initialisers_among_the_inputs():
    model = networks.gemm()
    model.ir_version = 3
    model.opset_import[0].version = 9
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims)))
    onnx.checker.check_model(model)
    check(model, {"x": random(5, 24)}, "deepthin")


def test_constants_in_nodes_and_reshaped_weights():
    node = helper.make_node("Constant", [], ["flat"], value=onnx.numpy_helper.from_array(random(480), "v"))
    reshape = helper.make_node("Reshape", ["flat", "shape"], ["w"])
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = networks.model([node, reshape, product], {"shape": np.array([20, -1])}, {"x": ["n", 20]}, {"y": ["n", 24]})
    check(model, {"x": random(4, 20, seed=1)}, "low-rank")


def test_what_cannot_be_compressed_is_named():
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Conv", ["x", "grouped"], ["c"], group=2),
        helper.make_node("MatMul", ["rows", "tied"], ["a"]),
        helper.make_node("MatMul", ["rows", "tied_too"], ["b"]),
        helper.make_node("Add", ["tied", "tied"], ["d"]),
    ]
    weights = {
        "table": random(30, 20),
        "ids": np.arange(4),
        "grouped": random(8, 4, 5, 3),
        "tied": random(20, 20),
        "tied_too": random(20, 20, seed=1),
    }
    outputs = {"a": [4, 20], "b": [4, 20], "c": [1, 8, 5, 7], "d": [20, 20]}
    network = find(normalise(networks.model(nodes, weights, {"x": [1, 8, 9, 9]}, outputs)).model)
    assert [layer.name for layer in network.layers] == ["tied_too"]
    reasons = {skipped.name: skipped.reason for skipped in network.skipped}
    assert "Gather and has just 600" in reasons["table"]
    assert "2 groups" in reasons["grouped"] and "other ways" in reasons["tied"]


def test_no_weight_at_all_is_an_error_that_says_what_is_supported():
    node = helper.make_node("Gather", ["table", "ids"], ["rows"])
    model = networks.model([node], {"table": random(30, 20), "ids": np.arange(4)}, {}, {"rows": [4, 20]})
    with pytest.raises(CompressionError, match=r"table is used by Gather and has just 600 values.*MatMul and Gemm"):
        find(normalise(model).model)


def test_a_compressed_model_is_refused():
    network = find(normalise(networks.shared()).model)
    exported = export(network, squeezed(network, METHODS["deepthin"]))
    with pytest.raises(CompressionError, match=r"compressed already, .* dense parent"):
        find(normalise(exported).model)


def test_an_unknown_operator_is_named():
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="org.example")
    with pytest.raises(CompressionError, match=r"Frobnicate.*org\.example"):
        find(normalise(networks.model([node], {}, {"x": [1]}, {"y": [1]})).model)


def test_cutting_a_graph_leaves_what_is_needed():
    part = cut(networks.feed_forward(), ["hidden0"])
    assert [node.op_type for node in part.graph.node] == ["MatMul", "Add", "Sigmoid"]
    assert run(part, {"features": random(3, 24)})[0].shape == (3, 48)


def test_metadata_of_the_checkpoint_is_kept():
    model = networks.shared()
    helper.set_model_props(model, {"vocabulary": "abc"})
    network = find(normalise(model).model)
    exported = export(network, squeezed(network, METHODS["low-rank"]))
    assert {entry.key: entry.value for entry in exported.metadata_props} == {"vocabulary": "abc"}


def test_int8_whose_inputs_are_small_but_for_one_is_told_apart_with_advice():
    network = find(normalise(networks.feed_forward(softmax=False)).model)
    compressed = squeezed(network, METHODS["int8"], 1.0)
    exported, plain = export(network, compressed), approximated(network, compressed, {})
    name = network.model.graph.input[0].name
    x = random(40, 24, seed=4, scale=1.0)
    allowed = parity.tolerance({key: each.plan for key, each in compressed.items()})
    parity.check(exported, plain, [{name: x}], allowed)
    x[0] = 0
    x[0, 0] = 1e4
    # Rows but the first see zeros alone; that one would hide it.
    with pytest.raises(parity.ParityError, match="leave layers out whose inputs are small but for a few"):
        parity.check(_without_first(exported), _without_first(plain), [{name: x}], allowed)


def _without_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the first row of its output left out."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (output,) = copy.graph.output
    for key, value in (("first", 1), ("last", 1 << 30), ("axis", 0)):
        copy.graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), f"rows.{key}"))
    inputs = [output.name, "rows.first", "rows.last", "rows.axis"]
    copy.graph.node.append(helper.make_node("Slice", inputs, ["rows"]))
    output.name = "rows"
    return copy
