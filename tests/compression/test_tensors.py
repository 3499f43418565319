"""Checkpoints as tensors with a training configuration, read without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from models.compression.tensors import TensorsError, read_safetensors
from models.decoding.lexicon import UNITS
from models.package import ModelPackage
from ops import library
from tests.compression.jobs import Desk
from tests.compression.networks import random

TFKALDI = """
name = "tiny"
family = "tfkaldi"
[front_end]
bins = 6
[tfkaldi]
context = 1
hidden = [24, 20]
bottleneck = 8
wide_context = 1
top = [16]
[train]
epochs = 3.0
"""
DEEPSPEECH = """
name = "tiny"
family = "deepspeech"
[front_end]
bins = 8
[deepspeech]
channels = [4, 6]
kernels = [[3, 3], [3, 5]]
hidden = 16
layers = 2
top = 12
"""


def tfkaldi() -> dict[str, np.ndarray[Any, Any]]:
    shapes = {"hidden.0": (24, 18), "hidden.1": (20, 24), "bottleneck": (8, 20), "top.0": (16, 24)}
    return linear({**shapes, "output": (len(UNITS), 16)})


def deepspeech() -> dict[str, np.ndarray[Any, Any]]:
    tensors = linear({"top": (12, 16), "output": (len(UNITS), 12)})
    for number, shape in enumerate(((4, 1, 3, 3), (6, 4, 3, 5))):
        tensors[f"conv.{number}.weight"] = random(*shape, seed=number)
        tensors[f"conv.{number}.bias"] = random(shape[0], seed=number)
    for number, inputs in enumerate((12, 16)):
        tensors[f"rnn.{number}.weight_ih"] = random(48, inputs, seed=number)
        tensors[f"rnn.{number}.weight_hh"] = random(48, 16, seed=number + 5)
        tensors[f"rnn.{number}.bias_ih"] = random(48, seed=number + 6)
        tensors[f"rnn.{number}.bias_hh"] = random(48, seed=number + 7)
    return tensors


def linear(shapes: dict[str, tuple[int, int]]) -> dict[str, np.ndarray[Any, Any]]:
    tensors = {}
    for number, (name, shape) in enumerate(shapes.items()):
        tensors[f"{name}.weight"] = random(*shape, seed=number)
        tensors[f"{name}.bias"] = random(shape[0], seed=number + 50)
    return tensors


def written(folder: Path, tensors: dict[str, np.ndarray[Any, Any]], config: str) -> tuple[Path, Path]:
    save_file(tensors, folder / "checkpoint.safetensors")
    (folder / "config.toml").write_text(config)
    return folder / "checkpoint.safetensors", folder / "config.toml"


@pytest.mark.parametrize(("tensors", "config"), [(tfkaldi(), TFKALDI), (deepspeech(), DEEPSPEECH)])
def test_a_job_takes_tensors(tmp_path: Path, tensors: dict[str, np.ndarray[Any, Any]], config: str):
    desk = Desk(tmp_path)
    written(desk.folder, tensors, config)
    outcome = desk.run(method="low-rank", size=0.6, evaluation=["first"], allow_slower=True, name="thin")
    manifest = ModelPackage.load(outcome.package).manifest
    assert manifest.parent == "tiny" and manifest.units == UNITS and manifest.quality["first"].words == 6


@pytest.mark.parametrize(("tensors", "config"), [(tfkaldi(), TFKALDI), (deepspeech(), DEEPSPEECH)])
def test_the_network_is_that_of_pytorch(tmp_path: Path, tensors: dict[str, np.ndarray[Any, Any]], config: str):
    torch = pytest.importorskip("torch")
    from models.training.config import load_config
    from models.training.network import build

    paths = written(tmp_path, tensors, config)
    net = build(load_config(paths[1])).eval()
    net.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()})
    model, manifest = read_safetensors(*paths)
    assert (manifest.left_context, manifest.subsampling) == (net.left_context, net.subsampling)
    x = random(2, 40, net.bins, scale=1.0)
    states = {state.input: np.zeros((2, *state.shape), np.float32) for state in manifest.states}
    (found, *_) = library.session(model.SerializeToString()).run(None, {"features": x, **states})
    np.testing.assert_allclose(found, net(torch.tensor(x)).detach().numpy(), atol=1e-5)


def test_what_is_wrong_is_named(tmp_path: Path):
    tensors = tfkaldi()
    cases = [
        ({**tensors, "extra": random(3)}, TFKALDI, "does not: extra"),
        ({name: array for name, array in tensors.items() if name != "top.0.bias"}, TFKALDI, r"top\.0\.bias is missing"),
        ({**tensors, "bottleneck.weight": random(8, 21)}, TFKALDI, r"bottleneck\.weight is \[8, 21\] where"),
        ({**tensors, "top.0.bias": np.zeros(16, np.int32)}, TFKALDI, "int32; floating-point"),
        (tensors, TFKALDI.replace("bins = 6", "bins = 600"), "front_end: bins"),
        (tensors, TFKALDI.replace('"tfkaldi"', '"other"'), "family"),
        (tensors, TFKALDI + "[", "not TOML"),
        ({"hidden.0.parametrizations.weight.original0": random(3, 1)}, TFKALDI, "compressed already"),
    ]
    for given, config, complaint in cases:
        with pytest.raises(TensorsError, match=complaint):
            read_safetensors(*written(tmp_path, given, config))
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(TensorsError, match="cannot be read"):
        read_safetensors(tmp_path / "checkpoint.safetensors", tmp_path / "config.toml")
    (tmp_path / "config.toml").unlink()
    with pytest.raises(TensorsError, match="needs its training configuration"):
        read_safetensors(tmp_path / "checkpoint.safetensors", tmp_path / "config.toml")
