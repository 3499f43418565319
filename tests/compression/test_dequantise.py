"""Integer-quantised checkpoints: what ONNX Runtime's own tools write is taken back to fp32 and compressed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime import quantization

from models.compression.base import CompressionError
from models.compression.network import find
from models.compression.normalise import normalise
from models.compression.report import weight_bytes
from ops import library
from tests.compression import networks
from tests.compression.networks import random
from tests.compression.test_export import check

FEEDS = {"features": random(40, 24, seed=9, scale=1.0)}


class Data(quantization.CalibrationDataReader):  # type: ignore[misc]
    """The one feed."""

    def __init__(self, feeds: dict[str, Any]) -> None:
        self._left: Iterator[dict[str, Any]] = iter([feeds])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> np.ndarray:
    result: np.ndarray = library.session(model.SerializeToString()).run(None, feeds)[0]
    return result


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """By the size of what was wanted. Single values may be far off: kernels for AVX2 add products in 16 bits."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def quantised(model: onnx.ModelProto, folder: Path, feeds: dict[str, Any], kind: str) -> onnx.ModelProto:
    """`model` as one of ONNX Runtime's tools writes it."""
    onnx.save(model, folder / "dense.onnx")
    paths = str(folder / "dense.onnx"), str(folder / "quantised.onnx")
    if kind.startswith("dynamic"):
        quantization.quantize_dynamic(*paths, per_channel=kind.endswith("channels"))
    else:
        form = quantization.QuantFormat.QDQ if kind == "pairs" else quantization.QuantFormat.QOperator
        quantization.quantize_static(*paths, Data(feeds), quant_format=form, per_channel=kind == "pairs")
    return onnx.load(paths[1])


KINDS = ("dynamic", "dynamic channels", "pairs", "operators")


@pytest.mark.parametrize("kind", KINDS)
def test_products(tmp_path: Path, kind: str):
    dense = networks.feed_forward(softmax=False)
    model = quantised(dense, tmp_path, FEEDS, kind)
    assert any("Integer" in node.op_type or "Linear" in node.op_type for node in model.graph.node)
    normalised = normalise(model)
    network = find(normalised.model)
    assert [(layer.Q, layer.R) for layer in network.layers] == [(24, 48), (48, 40), (40, 10)]
    assert normalised.quantised == {layer.name: layer.Q * layer.R for layer in network.layers}
    for layer in network.layers:
        number = layer.name.removeprefix("layer")[0]
        assert layer.name.startswith(f"layer{number}.weight")
        original = numpy_helper.to_array(next(t for t in dense.graph.initializer if t.name == f"layer{number}.weight"))
        step = np.abs(original).max() / 127
        assert np.abs(network.weight(layer) - original).max() < 1.01 * step
    wanted = run(model, FEEDS)
    assert difference(run(network.model, FEEDS), wanted) < 0.1
    types = {node.op_type for node in network.model.graph.node}
    assert not any("Integer" in kind or "Dynamic" in kind for kind in types)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axes", [1, 2])
def test_convolutions(tmp_path: Path, kind: str, axes: int):
    feeds = {"x": random(2, 6, *(11, 9)[:axes], seed=3, scale=1.0)}
    model = quantised(networks.conv(axes, strides=[2] * axes), tmp_path, feeds, kind)
    network = find(normalise(model).model)
    assert [layer.op for layer in network.layers] == ["Conv"]
    wanted = run(model, feeds)
    assert difference(run(network.model, feeds), wanted) < 0.1


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_fused_product(zero: bool, bias: bool):
    W = np.random.default_rng(0).integers(0, 64, (24, 32)).astype(np.uint8 if zero else np.int8)
    constants = {"w_quantized": W, "scale": random(32, seed=1) ** 2 + np.float32(0.001)}
    constants["zero"] = np.full(32, 30, np.uint8)
    constants["b"] = random(32, seed=2)
    names = ["x", "w_quantized", "scale", "zero" if zero else "", "b" if bias else ""]
    node = helper.make_node("DynamicQuantizeMatMul", names, ["y"], domain="com.microsoft")
    model = networks.model([node], constants, {"x": ["n", 24]}, {"y": ["n", 32]})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    network = find(normalise(model).model)
    assert [layer.name for layer in network.layers] == ["w"]
    expected = (W.astype(np.float64) - (30 if zero else 0)) * constants["scale"]
    np.testing.assert_allclose(network.weight(network.layers[0]), expected, rtol=1e-6)
    feeds = {"x": random(7, 24, seed=4)}
    wanted = run(model, feeds)
    assert difference(run(network.model, feeds), wanted) < 0.1


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_blocks_of_few_bits(bits: int, zero: bool, bias: bool):
    rng = np.random.default_rng(bits)
    K, N, blocks = 40, 24, 3  # the last block of 16 is half full
    constants = {
        "w_quantized": rng.integers(0, 256, (N, blocks, 2 * bits)).astype(np.uint8),
        "scale": np.abs(random(N * blocks, seed=1)) + np.float32(0.01),
        "zero": rng.integers(0, 256, N * -(-blocks * bits // 8)).astype(np.uint8),
        "b": random(N, seed=2),
    }
    names = ["x", "w_quantized", "scale", "zero" if zero else "", "", "b" if bias else ""]
    fixed = {"K": K, "N": N, "bits": bits, "block_size": 16}
    node = helper.make_node("MatMulNBits", names, ["y"], domain="com.microsoft", **fixed)
    constants = {name: values for name, values in constants.items() if name in names}
    model = networks.model([node], constants, {"x": ["n", K]}, {"y": ["n", N]})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    normalised = normalise(model)
    network = find(normalised.model)
    assert [(layer.name, layer.Q, layer.R) for layer in network.layers] == [("w", K, N)]
    assert normalised.quantised == {"w": constants["w_quantized"].nbytes}
    feeds = {"x": random(7, K, seed=4)}
    np.testing.assert_allclose(run(network.model, feeds), run(model, feeds), rtol=1e-4, atol=1e-4)


def test_they_are_compressed_like_others(tmp_path: Path):
    model = quantised(networks.feed_forward(), tmp_path, FEEDS, "dynamic channels")
    exported = check(normalise(model).model, FEEDS, "deepthin", 3)
    assert weight_bytes(exported, {})[1] < 4 * weight_bytes(model, {})[1]


@pytest.mark.parametrize("kind", ["dynamic", "dynamic channels"])
@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_recurrent_layers(tmp_path: Path, kind: str, last_only: bool, direction: str):
    dense = networks.recurrent("LSTM", direction=direction, last_only=last_only)
    feeds = {"x": random(9, 2, 12, seed=5)}
    ways = 2 if direction == "bidirectional" else 1
    feeds |= {name: random(ways, 2, 16, seed=seed) for name, seed in (("state", 6), ("cell", 7))}
    model = quantised(dense, tmp_path, feeds, kind)
    assert [node.op_type for node in model.graph.node] == ["DynamicQuantizeLSTM"]
    normalised = normalise(model)
    network = find(normalised.model)
    assert sorted((layer.op, layer.Q, layer.R) for layer in network.layers) == sorted(
        [("LSTM", 12, 64), ("LSTM", 16, 64)] * ways
    )
    assert normalised.quantised == {layer.name: layer.Q * layer.R for layer in network.layers}
    np.testing.assert_allclose(run(normalised.model, feeds), run(dense, feeds), atol=0.02)


def test_other_forms_are_refused_by_name():
    model = networks.model(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])], {"w": np.ones((20, 20), np.int8)}, {}, {}
    )
    model.graph.input.append(helper.make_tensor_value_info("x", onnx.TensorProto.INT8, [3, 20]))
    model.graph.output.append(helper.make_tensor_value_info("y", onnx.TensorProto.INT32, [3, 20]))
    with pytest.raises(CompressionError, match=r"not taken back: it has MatMulInteger"):
        find(normalise(model).model)
