"""A network in PyTorch and its ONNX model with the custom ops give the same log posteriors."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.package import ModelPackage
from models.training.config import ConfigError
from models.training.export import export, package
from ops.library import session
from tests.training.support import config, network


def run_onnx(model, net, states, features):
    feeds = {"features": features}
    for state in states:
        feeds[state.input] = np.zeros((len(features), *state.shape), np.float32)
    with torch.no_grad():
        net.eval()
        expected = net(torch.from_numpy(features)).numpy()
    return session(model.SerializeToString()).run(None, feeds), expected


@pytest.mark.parametrize("family", ["tfkaldi", "deepspeech"])
@pytest.mark.parametrize(
    "size, rank, half", [(None, 1, False), (None, 1, True), (0.3, 1, False), (0.3, 1, True), (0.6, 2, False)]
)
@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (3, 50), (2, 51), (1, 52)])
def test_onnx_equals_torch(family, size, rank, half, batch, frames):
    net = network(config(family, size, rank))
    model, _, states = export(net, half=half)
    shape = (batch, net.left_context + frames + net.right_context, net.bins)
    features = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    outputs, expected = run_onnx(model, net, states, features)
    assert outputs[0].shape == (batch, net.out_frames(frames), net.units)
    np.testing.assert_allclose(outputs[0], expected, atol=5e-3 if half else 2e-5)
    assert len(outputs) == 1 + len(states)


def test_a_recurrent_model_goes_on_from_its_state():
    net = network(config("deepspeech", 0.3))
    model, _, states = export(net, half=False)
    onnx_session = session(model.SerializeToString())
    features = np.random.default_rng(2).normal(size=(1, 90, net.bins)).astype(np.float32)
    zero = {s.input: np.zeros((1, *s.shape), np.float32) for s in states}
    whole = onnx_session.run(None, {"features": features, **zero})[0]
    cut = 15 * net.subsampling
    window = net.left_context + net.right_context
    first = onnx_session.run(None, {"features": features[:, : cut + window], **zero})
    carried = dict(zip((s.input for s in states), first[1:], strict=True))
    second = onnx_session.run(None, {"features": features[:, first[0].shape[1] * net.subsampling :], **carried})
    np.testing.assert_allclose(np.concatenate([first[0], second[0]], axis=1), whole, atol=1e-5)


def test_half_a_recurrent_layer_cannot_be_compressed():
    rules = [{"pattern": "rnn.0.weight_ih", "size": 0.5}]
    with pytest.raises(ConfigError, match=r"rnn\.0"):
        export(network(config("deepspeech", compress=rules)), half=False)


@pytest.mark.parametrize("size", [None, 0.3])
def test_the_package_says_what_it_holds(tmp_path, size):
    settings = config("tfkaldi", size, parent="tiny-parent", search={"max_active": 700})
    net = network(settings)
    written = package(settings, net, tmp_path, graph="english", priors=[-1.0] * net.units)
    manifest = ModelPackage.load(tmp_path / "tiny").manifest
    assert manifest == written.manifest
    assert manifest.decoder["prior_scale"] > 0
    assert (manifest.decoder["beam"], manifest.decoder["max_active"]) == (16, 700)
    assert manifest.method == ("dense" if size is None else "deepthin")
    stored = sum(p.numel() for p in net.parameters())
    assert manifest.weights.parameters == stored
    matrices = sum(p.numel() for p in net.parameters() if p.dim() >= 2)
    assert manifest.weights.disk_bytes == 4 * stored - 2 * matrices
    assert manifest.weights.disk_bytes < written.graph_file.stat().st_size < manifest.weights.disk_bytes + 20_000
