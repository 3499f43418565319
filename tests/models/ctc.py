"""A CTC network made on the spot that spells what the loudness of the recording says, and recordings to spell with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.audio import Audio
from tests.support import tiny_manifest

HOP = 160
TOKENS = ("▁HE", "LLO", "▁", "WORLD", "|", "<blank>")


def network(*, hop: int = HOP, lengths: bool = True, tokens: int = len(TOKENS)) -> bytes:
    """`speech` [batch, samples] to `logits`: token k where the peak of `hop` samples is (k + 1) / 10."""
    levels = (np.arange(tokens, dtype=np.float32) + 1) / 10
    weights = [
        numpy_helper.from_array(np.array([0, -1, hop], np.int64), "shape"),
        numpy_helper.from_array(levels, "levels"),
        numpy_helper.from_array(np.array(-2000, np.float32), "sharpness"),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
    ]
    nodes = [
        helper.make_node("Reshape", ["speech", "shape"], ["frames"]),
        helper.make_node("ReduceMax", ["frames"], ["peaks"], axes=[2], keepdims=1),
        helper.make_node("Sub", ["peaks", "levels"], ["off"]),
        helper.make_node("Mul", ["off", "off"], ["squared"]),
        helper.make_node("Mul", ["squared", "sharpness"], ["scores"]),
    ]
    inputs = [helper.make_tensor_value_info("speech", TensorProto.FLOAT, ["batch", "samples"])]
    if lengths:
        inputs.append(helper.make_tensor_value_info("speech_lengths", TensorProto.INT64, ["batch"]))
        nodes += [
            helper.make_node("Cast", ["speech_lengths"], ["counted"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["counted", "zero"], ["nothing"]),
            helper.make_node("Add", ["scores", "nothing"], ["logits"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["scores"], ["logits"]))
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "steps", tokens])]
    graph = helper.make_graph(nodes, "tiny-ctc", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def save(folder: Path, name: str, graph: bytes | None = None, **settings: Any) -> Path:
    """Write a package's folder, without the size of its weights, as a user would."""
    package = folder / name
    package.mkdir(parents=True, exist_ok=True)
    fields = tiny_manifest("unused").model_dump(mode="json", exclude_defaults=True)
    fields = {
        "name": name,
        "family": "ctc",
        "licence": fields["licence"],
        "ctc": {"front_end": {"kind": "waveform"}, "blank": "<blank>", **settings},
    }
    (package / "manifest.json").write_text(json.dumps(fields), encoding="utf-8")
    (package / "model.onnx").write_bytes(network() if graph is None else graph)
    lines = "".join(f"{token} {number}\n" for number, token in enumerate(TOKENS))
    (package / "tokens.txt").write_text(lines, encoding="utf-8")
    return package


def saying(*tokens: str, frames: int = 20) -> Audio:
    """A recording in which each of `tokens` lasts `frames` hops."""
    levels = np.repeat([(TOKENS.index(token) + 1) / 10 for token in tokens], frames)
    wave: npt.NDArray[np.float64] = np.repeat(levels, HOP) * np.tile([1.0, -1.0], len(levels) * HOP // 2)
    return Audio(wave.astype(np.float32))
