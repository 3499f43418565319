"""The training loop: it learns, it stops and goes on exactly, and distils."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.decoding.g2p import edit_distance
from models.training.config import AugmentTable, ConfigError
from models.training.soft_targets import all_posteriors, load_run, posteriors, soft_targets
from models.training.trainer import Trainer
from models.training.validation import collapse, validate
from tests.training.support import config, network, noise_cache, source

TRAIN = {"frame_epochs": 1, "epochs": 4, "learning_rate": 0.01, "batch_seconds": 2}


def trainer(folder, cache, settings):
    net = network(settings)
    return Trainer(settings, net, source(cache, net), folder, "cpu")


@pytest.mark.parametrize("family", ["tfkaldi", "deepspeech"])
def test_a_stopped_run_goes_on_exactly(tmp_path, family):
    cache = noise_cache(tmp_path)
    settings = config(family, 0.4, train=TRAIN)
    straight = trainer(tmp_path / "a", cache, settings)
    straight.run(stop_after=7)
    trainer(tmp_path / "b", cache, settings).run(stop_after=3)
    resumed = trainer(tmp_path / "b", cache, settings)
    assert resumed.resume()
    resumed.run(stop_after=7)
    for name, value in straight.net.state_dict().items():
        assert torch.equal(value, resumed.net.state_dict()[name]), name
    for name, value in straight.average.items():
        assert torch.equal(value, resumed.average[name]), name


@pytest.mark.parametrize("frame_epochs", [0, 30])
def test_training_fits_noise(tmp_path, frame_epochs):
    cache = noise_cache(tmp_path)
    train = {**TRAIN, "frame_epochs": frame_epochs, "epochs": 30, "average": 0.5}
    settings = config("tfkaldi", 0.6, train=train, augment={"band_limit": 0})
    run = trainer(tmp_path / "run", cache, settings)
    before = validate(run.net, run.source)["held_ctc"]
    run.run(validate=lambda net: validate(net, run.source))
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(log) == 30
    if frame_epochs:
        assert log[-1]["held_frame_accuracy"] > 0.1  # chance is 0.025
    else:
        assert log[-1]["held_ctc"] < 0.6 * before


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    cache = noise_cache(tmp_path)
    trainer(tmp_path / "a", cache, config("tfkaldi", train=TRAIN)).run(stop_after=1)
    other = trainer(tmp_path / "a", cache, config("tfkaldi", train={**TRAIN, "learning_rate": 0.02}))
    with pytest.raises(ConfigError, match="another configuration"):
        other.resume()


@pytest.mark.parametrize("family", ["tfkaldi", "deepspeech"])
def test_posteriors_of_one_do_not_depend_on_those_beside_it(family):
    net = network(config(family, train=TRAIN)).eval()
    rng = np.random.default_rng(0)
    features = [rng.standard_normal((length, net.bins)).astype(np.float16) for length in (91, 30, 32, 200, 3)]
    together = all_posteriors(net, features, "cpu")
    for each, found in zip(features, together, strict=True):
        assert len(found) == net.out_frames(len(each))
        np.testing.assert_allclose(found, posteriors(net, each, "cpu"), rtol=2e-3, atol=1e-3)


def test_a_student_moves_towards_its_parent(tmp_path):
    cache = noise_cache(tmp_path)
    trainer(tmp_path / "parent", cache, config("tfkaldi", train=TRAIN)).run()
    soft = soft_targets(tmp_path / "parent", cache, "cpu")
    parent = load_run(tmp_path / "parent")
    np.testing.assert_allclose(soft.get(3, 0), posteriors(parent, cache.get(3, 0), "cpu"), rtol=2e-3, atol=1e-3)
    settings = config(
        "tfkaldi",
        0.5,
        train={**TRAIN, "frame_epochs": 0, "epochs": 20},
        distill={"parent": str(tmp_path / "parent"), "weight": 1.0},
    )
    net = network(settings)
    batches = source(cache, net)
    batches._soft = soft
    student = Trainer(settings, net, batches, tmp_path / "student", "cpu")
    seen = []
    student.run(progress=lambda done, running: seen.append(running["distill"]))
    assert seen[-1] < 0.7 * seen[0]


def test_batches_are_the_same_for_the_same_seed_and_epoch(tmp_path):
    cache = noise_cache(tmp_path)
    batches = source(cache, network(config("tfkaldi")))
    table = AugmentTable(time_masks_per_second=5, time_width=10)
    first = list(batches.epoch(3, 2, 0, table))
    again = list(batches.epoch(3, 2, 1, table))
    assert len(again) == len(first) - 1
    for a, b in zip(first[1:], again, strict=True):
        assert torch.equal(a.features, b.features)
        assert torch.equal(a.labels, b.labels)
    assert batches.plan(3, 2) != batches.plan(3, 3)
    used = sorted(index for pairs in batches.plan(3, 2) for index, _ in pairs)
    assert used == list(range(12))


def test_a_run_that_goes_on_from_another_does_not_repeat_its_draws(tmp_path, monkeypatch):
    first, second = config("tfkaldi", name="one"), config("tfkaldi", name="two", start="runs/one")
    assert config("tfkaldi", name="one", train=TRAIN).drawing_seed == first.drawing_seed
    assert len({first.drawing_seed, second.drawing_seed, config("tfkaldi", name="one", seed=2).drawing_seed}) == 3
    going_on = trainer(tmp_path / "run", noise_cache(tmp_path), second)
    plan, drawn = going_on.source.plan, set()
    monkeypatch.setattr(going_on.source, "plan", lambda seed, epoch: drawn.add(seed) or plan(seed, epoch))
    going_on.run(stop_after=2)
    assert drawn == {second.drawing_seed}


def test_phone_error_counts():
    assert collapse([0, 1, 1, 0, 1, 2, 2]) == [1, 1, 2]
    assert edit_distance([1, 2, 3], [1, 3]) == 1
    assert edit_distance([1, 2], []) == 2
    assert edit_distance([], [4]) == 1
    assert edit_distance([1, 2, 3, 4], [2, 3, 4, 5]) == 2
