"""Deep Compression in steps of pruning and training."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.compression.registry import method
from models.training.finetune import fine_tune
from models.training.gradual import compress_gradually, step_plans
from models.training.onnx_net import OnnxNet
from tests.compression import networks
from tests.compression.jobs import FRONT_END, Desk
from tests.training.test_finetune import classifier, recordings

METHOD = method("deep-compression")


def plans(size):
    net = OnnxNet(classifier())
    return {name: METHOD.plan(*net.matrix(name).shape, size) for name in ("first", "second")}


def test_steps_are_better_than_one_step_of_the_same_bytes():
    model, steps, told = classifier(), [plans(0.5), plans(0.25)], []
    net = OnnxNet(model)
    at_once = {name: METHOD.compress(net.matrix(name), plan) for name, plan in steps[-1].items()}
    single = fine_tune(model, at_once, recordings(24), epochs=18, batch_rows=32)
    found = list(
        compress_gradually(
            model, steps, recordings(24), epochs=9, batch_rows=32, progress=lambda done, loss: told.append(done)
        )
    )
    assert found[-1].after < 0.9 * single.after
    assert found[0].after < found[-1].after
    assert told == sorted(told) and told[-1] == 1.0
    for tuned, step in zip(found, steps, strict=True):
        for name, plan in step.items():
            layer = tuned.layers[name]
            assert layer.plan == plan
            assert sum(array.nbytes for array in layer.arrays.values()) == plan.disk_bytes
            assert METHOD.decode(METHOD.encode(layer), plan).keys() == layer.arrays.keys()
            assert np.count_nonzero(METHOD.decompress(layer)) <= int(plan.geometry["entries"])


def test_entries_learn_which_value_they_have():
    model = classifier()
    net = OnnxNet(model)
    layers = {"first": METHOD.compress(net.matrix("first"), plans(0.3)["first"])}
    tuned = fine_tune(model, layers, recordings(24), epochs=6, batch_rows=32, pick=True)
    assert tuned.after < tuned.before
    assert not np.array_equal(tuned.layers["first"].arrays["symbols"], layers["first"].arrays["symbols"])
    assert np.array_equal(tuned.layers["first"].arrays["gaps"], layers["first"].arrays["gaps"])
    own, rounded = tuned.entries["first"], METHOD.decompress(tuned.layers["first"])
    levels = tuned.layers["first"].arrays["codebook"][1:]
    places = np.nonzero(rounded)
    nearest = levels[np.abs(own[places][:, None] - levels).argmin(axis=1)]
    np.testing.assert_allclose(rounded[places], nearest, rtol=1e-6)
    assert not own[rounded == 0].any()


def test_targets_take_the_place_of_the_parents_outputs():
    model, feeds = classifier(), recordings(12)
    net = OnnxNet(model)
    layers = {"first": METHOD.compress(net.matrix("first"), plans(0.5)["first"])}
    targets = [np.log(np.full((len(feed["x"]), 8), 1e-3) + 0.992 * np.eye(8)[0]).astype(np.float32) for feed in feeds]
    tuned = fine_tune(model, layers, feeds, targets=targets, epochs=20, batch_rows=32)
    assert tuned.after < 0.3 * tuned.before
    assert (tuned.values["second.bias"] - net.value("second.bias")).argmax() == 0


def test_a_job_prunes_in_steps(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward())
    outcome = desk.run(
        method="deep-compression", size=0.2, calibration=["first"], front_end=FRONT_END, allow_slower=True,
        fine_tune={"epochs": 2, "steps": 3},
    )  # fmt: skip
    report = desk.report()
    assert outcome.accepted
    assert report["weights"]["relative_size"] <= 0.2
    messages = [event.message for event in desk.events if event.stage == "fine-tune"]
    assert any("of 6" in message for message in messages)


def test_steps_end_in_the_plan_that_was_asked_for():
    net = OnnxNet(classifier())
    last = {name: METHOD.compress(net.matrix(name), plan) for name, plan in plans(0.2).items()}
    first, second, third = step_plans(last, 3)
    assert third == plans(0.2)
    for name in last:
        assert METHOD.sizes(*net.matrix(name).shape)[1] >= first[name].relative_size
        assert first[name].relative_size >= second[name].relative_size > third[name].relative_size
