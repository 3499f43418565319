"""Fine-tuning: it comes closer to the parent in the bytes it was given, it never gets worse, and it can be stopped."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.audio import decode
from models.compression.base import CompressionError
from models.compression.registry import METHODS, method
from models.evaluation import read_corpus
from models.features import preset
from models.training.export import export
from models.training.finetune import fine_tune
from models.training.onnx_net import OnnxNet
from models.training.recordings import Recordings, parent_outputs
from tests.compression import networks
from tests.compression.jobs import FRONT_END, Desk
from tests.training.support import config, network

SIZES = {"int8": 0.35, "int4": 0.35, "int4-compact": 0.35, "dense": 1.0}
DIM, HIDDEN, CLASSES = 16, 32, 8


def graph(nodes, constants, output, rows="rows", classes=CLASSES):
    made = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, DIM])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [rows, classes])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def classifier(last="LogSoftmax"):
    """Two layers [DIM, HIDDEN] and [HIDDEN, CLASSES], ending in `last` ("": nothing)."""
    rng = np.random.default_rng(0)
    constants = {
        "first": (rng.normal(size=(HIDDEN, DIM)) / 3).astype(np.float32),
        "first.bias": rng.normal(size=HIDDEN).astype(np.float32),
        "second": (rng.normal(size=(HIDDEN, CLASSES)) / 2).astype(np.float32),
        "second.bias": rng.normal(size=CLASSES).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "first", "first.bias"], ["h"], transB=1),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", "second"], ["m"]),
        helper.make_node("Add", ["m", "second.bias"], ["z"]),
    ]
    if last:
        nodes.append(helper.make_node(last, ["z"], ["y"], axis=-1))
    return graph(nodes, constants, "y" if last else "z")


def recordings(count=12, seed=1):
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(int(rng.integers(20, 60)), DIM)).astype(np.float32)} for _ in range(count)]


def compressed(model, name, *weights):
    net, chosen = OnnxNet(model), method(name)
    matrices = {weight: net.matrix(weight) for weight in weights or ("first",)}
    return {w: chosen.compress(m, chosen.plan(*m.shape, SIZES.get(name, 0.3))) for w, m in matrices.items()}


@pytest.mark.parametrize("name", [name for name in METHODS if name != "separable-conv"])
def test_every_method_comes_closer_to_the_parent(name):
    model = classifier()
    layers = compressed(model, name)
    if name in SIZES:  # next to nothing to gain from a copy
        noisy = OnnxNet(model).matrix("first") + 0.1
        layers = {"first": method(name).compress(noisy, layers["first"].plan)}
    tuned = fine_tune(model, layers, recordings(), epochs=6, batch_rows=32)
    assert tuned.loss == "kl"
    assert 0 < tuned.after < 0.97 * tuned.before
    assert tuned.epoch >= 1
    assert tuned.after == min(tuned.history)
    assert set(tuned.values) == {"first.bias", "second", "second.bias"}
    plan = tuned.layers["first"].plan
    assert plan == layers["first"].plan
    assert sum(array.nbytes for array in tuned.layers["first"].arrays.values()) == plan.disk_bytes
    # The losses are those of the network with exactly what was returned.
    assert loss_of(model, tuned.layers, tuned.values) == pytest.approx(tuned.after, rel=1e-4)
    assert loss_of(model, layers, {}) == pytest.approx(tuned.before, rel=1e-4)


def loss_of(model, layers, values):
    """Held-out divergence of a network, by ONNX Runtime on dense weights."""
    feeds = recordings()
    held = [feeds[int(i)] for i in np.random.default_rng(1).permutation(len(feeds))[:1]]
    replaced = {**values, **{name: method(c.plan.method).decompress(c) for name, c in layers.items()}}
    student = onnx.load_from_string(model.SerializeToString())
    for tensor in student.graph.initializer:
        if tensor.name in replaced:
            new = (
                replaced[tensor.name].reshape(-1, tensor.dims[0]).T if tensor.name == "first" else replaced[tensor.name]
            )
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new), tensor.name))
    targets, outputs = (map(parent_outputs(m, "y", held, threads=1)[0], range(len(held))) for m in (model, student))
    pairs = [(np.exp(t) * (t - o)).sum(-1) for t, o in zip(targets, outputs, strict=True)]
    return float(np.concatenate(pairs).mean())


@pytest.mark.parametrize(("last", "loss"), [("", "mse"), ("Softmax", "kl"), ("LogSoftmax", "kl")])
def test_the_loss_follows_the_output(last, loss):
    model = classifier(last)
    tuned = fine_tune(model, compressed(model, "low-rank", "first", "second"), recordings(), epochs=6, batch_rows=32)
    assert tuned.loss == loss
    assert tuned.after < 0.9 * tuned.before


def test_what_is_frozen_stays():
    model = classifier()
    layers = compressed(model, "low-rank", "first", "second")
    tuned = fine_tune(model, layers, recordings(), epochs=1, batch_rows=32, frozen=["second", "first.bias"])
    assert set(tuned.values) == {"second.bias"}
    np.testing.assert_array_equal(tuned.layers["second"].arrays["A"], layers["second"].arrays["A"])
    assert not np.array_equal(tuned.layers["first"].arrays["A"], layers["first"].arrays["A"])


def test_training_that_makes_it_worse_returns_what_was_given():
    model = classifier()
    layers = compressed(model, "low-rank")
    tuned = fine_tune(model, layers, recordings(), epochs=1, learning_rate=50.0)
    assert tuned.epoch == 0
    assert tuned.after == tuned.before < min(tuned.history)
    assert not tuned.values
    for key, array in layers["first"].arrays.items():
        np.testing.assert_array_equal(tuned.layers["first"].arrays[key], array)


def test_the_same_seed_gives_the_same_weights_and_progress_runs_to_the_end():
    model = classifier()
    layers = compressed(model, "deepthin")
    seen = []
    torch.set_num_threads(2)
    first, again = (
        fine_tune(model, layers, recordings(), epochs=2, seed=3, progress=lambda *told: seen.append(told))
        for _ in range(2)
    )
    assert torch.get_num_threads() == 2
    assert first.history == again.history
    np.testing.assert_array_equal(first.layers["first"].arrays["Xf"], again.layers["first"].arrays["Xf"])
    fractions = [fraction for fraction, _ in seen[: len(seen) // 2]]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(np.isfinite(loss) for _, loss in seen)


class Stopped(Exception):
    pass


def test_a_stopped_run_goes_on_exactly(tmp_path):
    model = classifier()
    layers = compressed(model, "low-rank")
    straight = fine_tune(model, layers, recordings(), epochs=3)

    def stop(fraction, loss):
        if fraction > 0.8:
            raise Stopped

    path = tmp_path / "state.pt"
    with pytest.raises(Stopped):
        fine_tune(model, layers, recordings(), epochs=3, checkpoint=path, progress=stop)
    told = []
    resumed = fine_tune(
        model, layers, recordings(), epochs=3, checkpoint=path, progress=lambda fraction, loss: told.append(fraction)
    )
    assert min(told) > 0.6
    assert resumed.history == straight.history
    np.testing.assert_array_equal(resumed.layers["first"].arrays["A"], straight.layers["first"].arrays["A"])
    # A checkpoint of another run is not taken up.
    other = fine_tune(model, layers, recordings(), epochs=2, checkpoint=path)
    assert len(other.history) == 2


def test_a_narrowed_network_learns_from_its_parent():
    parent = classifier()
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in parent.graph.initializer}
    narrow = onnx.load_from_string(parent.SerializeToString())
    kept = {"first": values["first"][:12], "first.bias": values["first.bias"][:12], "second": values["second"][:12]}
    for tensor in narrow.graph.initializer:
        if tensor.name in kept:
            tensor.CopyFrom(numpy_helper.from_array(kept[tensor.name], tensor.name))
    tuned = fine_tune(narrow, {}, recordings(), parent=parent, epochs=3, batch_rows=32)
    assert tuned.after < 0.9 * tuned.before
    assert tuned.values["first"].shape == (12, DIM)


@pytest.mark.parametrize("family", ["tfkaldi", "deepspeech"])
def test_our_families(family):
    net = network(config(family))
    model, _, states = export(net, half=family == "tfkaldi")
    zero = {state.input: np.zeros((1, *state.shape), np.float32) for state in states}
    rng = np.random.default_rng(2)
    frames = [net.left_context + length + net.right_context for length in (30, 30, 30, 42, 30)]
    feeds = [{"features": rng.normal(size=(1, n, net.bins)).astype(np.float32), **zero} for n in frames]
    matrices = OnnxNet(model)
    names = ["hidden.1.weight", "output.weight"] if family == "tfkaldi" else ["rnn.0.weight_ih", "rnn.0.weight_hh"]
    layers = compressed(model, "low-rank", *names)
    if family == "deepspeech":
        chosen = method("separable-conv")
        plan = chosen.plan_conv(matrices.shape("conv.1.weight"), 0.4)
        layers["conv.1.weight"] = chosen.compress(matrices.matrix("conv.1.weight"), plan)
    tuned = fine_tune(model, layers, feeds, epochs=8, batch_rows=10, hold_out=0.3)
    assert tuned.after < 0.95 * tuned.before
    assert any(name.endswith("bias") for name in tuned.values)
    assert all(tuned.values[name].dtype == np.float16 for name in tuned.values if name.endswith(".fp16"))


def asked(feeds, outputs):
    return [(feed, partial(outputs, number)) for number, feed in enumerate(feeds)]


def test_outputs_that_are_too_much_to_keep_are_worked_out_again(monkeypatch):
    from models.training import recordings as module

    feeds = recordings(3)
    kept, _ = parent_outputs(classifier(), "y", feeds, threads=1)
    assert kept(1) is kept(1)
    monkeypatch.setattr(module, "_KEPT", kept(0).nbytes)
    anew, _ = parent_outputs(classifier(), "y", feeds, threads=1)
    assert anew(0) is anew(0) and anew(1) is not anew(1)
    np.testing.assert_array_equal(anew(1), kept(1))


def test_logits_are_distributions_too_when_it_is_said():
    model, whole = classifier(""), classifier()
    layers = compressed(model, "low-rank", "first", "second")
    apart = fine_tune(model, layers, recordings(), epochs=2, batch_rows=32)
    told = fine_tune(model, layers, recordings(), epochs=2, batch_rows=32, logits=True)
    known = fine_tune(whole, layers, recordings(), epochs=2, batch_rows=32)
    assert (apart.loss, told.loss, known.loss) == ("mse", "kl", "kl")
    np.testing.assert_allclose(told.history, known.history, rtol=1e-4)


def test_recordings_are_put_together_only_where_that_changes_nothing():
    whole = classifier()
    feeds = recordings(3)
    targets, independent = parent_outputs(whole, "y", feeds, threads=1)
    assert independent
    pooled = Recordings(asked(feeds, targets), True, 16)
    batches = list(pooled.batches(np.random.default_rng(0)))
    assert len(batches) == pooled.steps()
    assert sum(batch.rows for batch in batches) == sum(len(feed["x"]) for feed in feeds)
    seen = np.concatenate([batch.feeds["x"] for batch in batches])
    given = np.concatenate([feed["x"] for feed in feeds])
    assert not np.array_equal(seen, given)
    np.testing.assert_array_equal(np.sort(seen, axis=0), np.sort(given, axis=0))
    mean = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0]),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    targets, independent = parent_outputs(graph(mean, {}, "y", classes=DIM), "y", feeds, threads=1)
    assert not independent
    alone = Recordings(asked(feeds, targets), False, 16)
    assert [batch.rows for batch in alone.batches()] == [len(feed["x"]) for feed in feeds]
    assert alone.steps() == 3


def test_mistakes_are_named():
    model = classifier()
    layers = compressed(model, "low-rank")
    feeds = recordings(2)
    with pytest.raises(CompressionError, match="recordings"):
        fine_tune(model, layers, [])
    with pytest.raises(CompressionError, match="no output 'nothing'"):
        fine_tune(model, layers, feeds, output="nothing")
    with pytest.raises(CompressionError, match="no initialiser 'third'"):
        fine_tune(model, {"third": layers["first"]}, feeds)
    with pytest.raises(CompressionError, match="no initialiser 'third'"):
        fine_tune(model, layers, feeds, frozen=["third"])
    with pytest.raises(CompressionError, match="'second' is 32 x 8, not 16 x 32"):
        fine_tune(model, {"second": layers["first"]}, feeds)
    with pytest.raises(CompressionError, match="does not fit the network"):
        fine_tune(model, layers, [{"x": np.zeros((4, DIM + 1), np.float32)}])


def test_a_real_checkpoint_comes_closer_to_itself(corpora):
    """Third-party weights at a fiftieth of their size, one short epoch on a few recordings of another corpus."""
    model = onnx.load(corpora / "ami-dnn" / "ami-dnn.onnx")
    front_end = preset("ami-dnn")
    utterances = read_corpus(corpora / "an4-train", limit=24)
    feeds = [{"features": front_end.extract(decode(utterance.path))} for utterance in utterances]
    net, chosen = OnnxNet(model), method("low-rank")
    names = [f"layer{number}.weight" for number in (2, 4, 6, 8)]
    matrices = {name: net.matrix(name) for name in names}
    layers = {name: chosen.compress(matrix, chosen.plan(*matrix.shape, 0.0195)) for name, matrix in matrices.items()}
    tuned = fine_tune(model, layers, feeds, epochs=1, batch_rows=256)
    assert tuned.loss == "kl"
    assert tuned.epoch == 1
    assert tuned.after < 0.8 * tuned.before


def test_a_network_that_cannot_be_trained_is_refused_before_it_is_compressed(tmp_path: Path):
    network = networks.feed_forward()
    network.graph.node[-1].op_type = "Hardmax"
    desk = Desk(tmp_path, network)
    with pytest.raises(CompressionError, match="Hardmax"):
        desk.run(method="low-rank", size=0.5, calibration=["first"], front_end=FRONT_END, fine_tune={"epochs": 1})
    assert {event.stage for event in desk.events} == {"validate"}


def test_a_job_says_which_epoch_it_is_in(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward())
    desk.run(
        method="low-rank", size=0.5, calibration=["first"], front_end=FRONT_END, fine_tune={"epochs": 2},
        allow_slower=True,
    )  # fmt: skip
    said = [event.message for event in desk.events if event.stage == "fine-tune"]
    assert "reading calibration audio" in said
    assert any(text.startswith("fine-tuning, epoch 1 of 2, loss") for text in said)
    assert any(text.startswith("fine-tuning, epoch 2 of 2, loss") for text in said)
    facts = desk.report()["fine_tune"]
    assert facts["after"] <= facts["before"]
