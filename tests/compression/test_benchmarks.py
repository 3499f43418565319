"""The commands behind the figures in docs/compression.md, on tiny networks."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from models.compression.benchmarks import against_nncodec, at_equal_loss, separable_layer
from models.compression.benchmarks.against_nncodec import interpolated
from models.compression.benchmarks.at_equal_loss import Point
from models.compression.network import find
from models.compression.registry import METHODS
from models.decoding.lexicon import PHONES
from models.features import FrontEnd
from tests.compression.jobs import corpus
from tests.compression.networks import conv, feed_forward

_HALVES = """
import sys, json, numpy as np
w = np.load(sys.argv[1])
for q in sys.argv[3:]: np.save(f"{sys.argv[2]}{q}.npy", w * (1 - 1 / int(q)))
print(json.dumps([[int(q), 100 * int(q)] for q in sys.argv[3:]]))
"""


def test_bytes_at_equal_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(against_nncodec, "_NNCODEC", _HALVES)
    monkeypatch.setattr(at_equal_loss, "preset", lambda name: FrontEnd(bins=24))
    monkeypatch.setattr(at_equal_loss, "corpus_folder", lambda name: corpus(tmp_path / name))
    onnx.save(feed_forward(), tmp_path / "net.onnx")
    argv = [str(tmp_path / "net.onnx"), "-o", str(tmp_path / "points.json"), "--nncodec", sys.executable]
    argv += ["--calibration", "calls", "--held-out", "others", "--sizes", ".3", ".15", "--qp", "4", "8"]
    argv += ["--forms", "data-aware", "plain"]
    assert at_equal_loss.main(argv) == 0
    points = json.loads((tmp_path / "points.json").read_text())
    ways = {"low-rank-codebook", "deepthin-codebook", "deep-compression"}
    assert {each["way"] for each in points} == {"nncodec", *ways, *(f"{way}, plain" for way in ways)}
    halves = {each["setting"]: each for each in points if each["way"] == "nncodec"}
    assert halves[4]["bytes"] == 3 * 400 and halves[8]["divergence"] < halves[4]["divergence"]
    for way in ways:
        small, large = (next(p for p in points if (p["way"], p["setting"]) == (way, size)) for size in (0.15, 0.3))
        assert small["bytes"] < large["bytes"] and small["divergence"] > large["divergence"] > 0
    said = capsys.readouterr().out
    assert said.count("out of its range") + said.count("| 4 | 1,200 |") > 1
    monkeypatch.setattr(at_equal_loss.Bench, "point", lambda *_: pytest.fail("a point that is there was made again"))
    assert at_equal_loss.main(argv) == 0


def test_fine_tuned_points_have_the_tuned_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")
    from models.training import finetune

    def doubled(model, layers, feeds, *, parent, epochs):
        assert parent is not model and feeds and epochs == 4
        arrays = {name: {**each.arrays, "scale": 2 * each.arrays["scale"]} for name, each in layers.items()}
        made = {name: replace(each, arrays=arrays[name]) for name, each in layers.items()}
        return finetune.FineTuned(made, {}, {}, "kl", 1.0, 0.5, 1, (0.5,))

    monkeypatch.setattr(finetune, "fine_tune", doubled)
    monkeypatch.setattr(at_equal_loss, "preset", lambda name: FrontEnd(bins=24))
    monkeypatch.setattr(at_equal_loss, "corpus_folder", lambda name: corpus(tmp_path / name))
    onnx.save(feed_forward(), tmp_path / "net.onnx")
    argv = [str(tmp_path / "net.onnx"), "-o", str(tmp_path / "points.json"), "--ways", "low-rank-codebook"]
    argv += ["--calibration", "calls", "--held-out", "calls", "--sizes", ".2", "--epochs", "4"]
    assert at_equal_loss.main(argv) == 0
    fitted, tuned = json.loads((tmp_path / "points.json").read_text())
    assert tuned["way"] == "low-rank-codebook, tuned" and tuned["divergence"] > 2 * fitted["divergence"]
    assert tuned["bytes"] == pytest.approx(fitted["bytes"], rel=0.02)


def test_bytes_are_compared_at_the_same_loss():
    coder = [Point("nncodec", 1, 1000, 0.04, 0.1, 9), Point("nncodec", 2, 100, 0.4, 0.5, 9)]
    lines = list(at_equal_loss.table([*coder, Point("mine", 0.1, 500, 0.04, 0.6, 9)]))
    assert lines[2] == "| mine | 0.1 | 500 | 0.0400 | 0.50 | 60.0% | out of its range |"
    assert lines[3] == "| nncodec | 2 | 100 | 0.4000 |  | 50.0% |  |"


def test_interpolation_is_log_to_log():
    assert interpolated([(0.4, 100), (0.04, 1000)], 0.04) == pytest.approx(1000)
    assert interpolated([(0.4, 100), (0.04, 1000)], np.sqrt(0.4 * 0.04)) == pytest.approx(np.sqrt(1e5))
    assert interpolated([(0.4, 100)], 0.5) is None


def test_a_layer_is_timed_in_both_forms():
    network = find(conv(strides=[1, 2], pads=[0, 1, 0, 1]))
    feed = {"x": np.ones((1, 6, 40, 12), np.float32)}
    rows = list(separable_layer.measure(network, feed, "*", [0.5, 0.2], rounds=1))
    assert [row.filters for row in rows] == sorted((row.filters for row in rows), reverse=True)
    assert all(row.shape == (12, 6, 5, 3) and row.seconds > 0 and row.dense_seconds > 0 for row in rows)
    assert len(list(separable_layer.table(rows))) == 4
    with pytest.raises(SystemExit, match="no 2-D convolution"):
        list(separable_layer.measure(network, feed, "nothing*", [0.5], rounds=1))


def test_deep_compression_in_steps():
    pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")
    from models.compression.benchmarks import deep_compression
    from models.compression.benchmarks.deep_compression import Speech, Units, measure

    names = ["sil", *PHONES, "noise", "laughter", "other"]
    units = Units(names)
    network = find(feed_forward(sizes=(24, 48, 40, len(names))))
    rng = np.random.default_rng(0)
    feeds = [{"features": rng.standard_normal((60, 24)).astype(np.float32)} for _ in range(6)]
    labels = [rng.integers(-1, 40, 60) for _ in feeds]
    speech = Speech(feeds, labels)
    options = argparse.Namespace(sizes=[0.4, 0.2], epochs=1, rate=0.02, batch=64)
    points = list(measure(network, units, speech, speech, options))
    assert [each.size for each in points] == [1.0, 0.4, 0.2] and points[0].ratio == 1 and points[0].agreement == 1
    assert points[0].bytes > points[1].bytes > points[2].bytes and points[1].agreement < 1
    assert len(list(deep_compression.table(points))) == 5
    assert METHODS[deep_compression.METHOD].name == "deep-compression"


def test_targets_are_half_the_label():
    pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")
    from models.compression.benchmarks.deep_compression import Units

    units = Units(["sil", *PHONES, "noise", "laughter"])
    log_probs = np.log(np.full((3, 42), 1 / 42))
    found = np.exp(units.targets(log_probs, np.array([-1, 0, 5])))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found[0], 1 / 42, rtol=1e-5)
    np.testing.assert_allclose(found[1, [0, 40, 41]], 1 / 84 + 1 / 6, rtol=1e-5)
    assert found[2, 5] == pytest.approx(0.5 + 1 / 84) and units.best(found)[2] == 5
