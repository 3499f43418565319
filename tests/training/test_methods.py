"""Networks of our families with weights compressed by any method: from rules to training, packages and ONNX."""

import numpy as np
import pytest
from pydantic import ValidationError

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.compression.base import SizeError
from models.compression.registry import METHODS
from models.package import ModelPackage
from models.training.config import ConfigError
from models.training.export import export, package
from models.training.network import compress, compressed_weights, sizes
from models.training.soft_targets import load_run
from tests.training.support import config, network, noise_cache
from tests.training.test_export import run_onnx
from tests.training.test_trainer import TRAIN, trainer

OTHERS = [name for name in METHODS if name not in ("dense", "deepthin", "separable-conv")]
# Every int8 product rounds its inputs too, and so do those of 4 and 2 bits.
ROUNDED = ("int8", "int4", "int4-compact", "int3-compact", "int2-compact")


def rules(family, name, size=0.5):
    pattern = {"tfkaldi": "*weight", "deepspeech": "*weight*"}[family]
    kept = [{"pattern": "conv.0.weight", "method": "dense"}] if family == "deepspeech" else []
    return [{"pattern": pattern, "method": name, "size": size}, *kept]


@pytest.mark.parametrize("family", ["tfkaldi", "deepspeech"])
@pytest.mark.parametrize("name", OTHERS)
def test_onnx_equals_torch(family, name):
    net = network(config(family, compress=rules(family, name)))
    for key, parameter in net.named_parameters():
        if key.endswith("bias") or "bias_" in key:  # equal ones would be stored once
            torch.nn.init.normal_(parameter, std=0.1)
    model, builder, states = export(net, half=False)
    features = np.random.default_rng(1).normal(size=(2, net.left_context + 30 + net.right_context, net.bins))
    outputs, expected = run_onnx(model, net, states, features.astype(np.float32))
    np.testing.assert_allclose(outputs[0], expected, atol=0.3 if name in ROUNDED else 5e-5)
    stored = sum(len(tensor.raw_data) for tensor in model.graph.initializer if tensor.data_type != 7)
    inside = [a.g for node in model.graph.node for a in node.attribute if a.HasField("g")]
    stored += sum(len(tensor.raw_data) for body in inside for tensor in body.initializer if tensor.data_type != 7)
    # What two weights have alike, such as the numbers of their entries, is stored once.
    arrays = [array.tobytes() for each in compressed_weights(net).values() for array in each.arrays.values()]
    alike = sum(map(len, arrays)) - sum(map(len, set(arrays)))
    assert builder.disk_bytes - alike == pytest.approx(stored, abs=64)


@pytest.mark.parametrize("name", [*OTHERS])
def test_a_dense_start_keeps_what_can_be_kept(name):
    settings = config("tfkaldi", compress=rules("tfkaldi", name))
    dense = network(config("tfkaldi"))
    weight = dense.hidden[1].weight.detach().clone()
    compress(dense, settings.compress, keep=True)
    kept = dense.hidden[1].weight.detach()
    assert float((kept - weight).norm() / weight.norm()) == pytest.approx(
        METHODS[name]
        .compress(weight.numpy().T.copy(), compressed_weights(dense)["hidden.1.weight"].plan)
        .relative_error,
        abs=1e-5,
    )
    scaled = network(settings).hidden[1].weight.detach()
    assert float(scaled.norm()) == pytest.approx(float(weight.norm()), rel=0.08 if name == "int2-compact" else 0.05)


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_is_trained_stopped_and_packaged(tmp_path, name):
    cache = noise_cache(tmp_path)
    # A code of 2 bits is far from the next one.
    train = TRAIN | {"learning_rate": 0.2} if name == "int2-compact" else TRAIN
    settings = config("tfkaldi", compress=rules("tfkaldi", name), train=train, parent="tiny-parent")
    straight = trainer(tmp_path / "a", cache, settings)
    before = compressed_weights(straight.net)["hidden.1.weight"]
    straight.run(stop_after=5)
    trainer(tmp_path / "b", cache, settings).run(stop_after=3)
    resumed = trainer(tmp_path / "b", cache, settings)
    assert resumed.resume()
    resumed.run(stop_after=5)
    resumed.save()
    for key, value in straight.net.state_dict().items():
        assert torch.equal(value, resumed.net.state_dict()[key]), key
    net = load_run(tmp_path / "b")
    after = compressed_weights(net)["hidden.1.weight"]
    assert after.plan == before.plan
    assert any(not np.array_equal(after.arrays[key], before.arrays[key]) for key in after.arrays)
    manifest = package(settings, net, tmp_path / "packages").manifest
    assert ModelPackage.load(tmp_path / "packages" / "tiny").manifest == manifest
    assert manifest.method == name
    stored, dense, _, _ = sizes(net)
    assert manifest.relative_size == pytest.approx(stored / dense)
    plans = [weight.plan for weight in compressed_weights(net).values()]
    assert stored == pytest.approx(sum(plan.disk_bytes for plan in plans) / 4, abs=len(plans))
    biases = sum(p.numel() for key, p in net.named_parameters() if key.endswith("bias"))
    assert manifest.weights.disk_bytes == sum(plan.disk_bytes for plan in plans) + 4 * biases


def test_a_separable_front_end():
    separable = [{"pattern": "conv.*.weight", "method": "separable-conv", "size": 0.6}]
    net = network(config("deepspeech", compress=separable))
    model, _, states = export(net, half=False)
    features = np.random.default_rng(1).normal(size=(2, net.left_context + 30 + net.right_context, net.bins))
    outputs, expected = run_onnx(model, net, states, features.astype(np.float32))
    np.testing.assert_allclose(outputs[0], expected, atol=5e-5)
    assert [node.op_type for node in model.graph.node].count("Conv") == 4
    net(torch.from_numpy(features.astype(np.float32))).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for key, p in net.named_parameters() if key.startswith("conv"))


def test_methods_and_sizes_that_cannot_be_had_are_named():
    with pytest.raises(ValidationError, match=r"'magic' can be trained: use .*low-rank"):
        config("tfkaldi", compress=rules("tfkaldi", "magic"))
    with pytest.raises(SizeError, match="low-rank"):
        network(config("tfkaldi", compress=rules("tfkaldi", "low-rank", 1e-4)))
    with pytest.raises(ConfigError, match=r"hidden\.0\.weight.*convolutions"):
        network(config("tfkaldi", compress=rules("tfkaldi", "separable-conv")))


def test_half_a_recurrent_layer_can_be_compressed_by_other_methods_but_not_beside_deepthin():
    only = [{"pattern": "rnn.0.weight_ih", "method": "low-rank", "size": 0.5}]
    net = network(config("deepspeech", compress=only))
    model, _, states = export(net, half=False)
    features = np.random.default_rng(1).normal(size=(1, net.left_context + 20 + net.right_context, net.bins))
    outputs, expected = run_onnx(model, net, states, features.astype(np.float32))
    np.testing.assert_allclose(outputs[0], expected, atol=5e-5)
    mixed = [*only, {"pattern": "rnn.0.weight_hh", "size": 0.5}]
    with pytest.raises(ConfigError, match=r"rnn\.0"):
        export(network(config("deepspeech", compress=mixed)), half=False)
