"""A moonshine-shaped pair of networks made on the spot, whose decoder says what the test wants it to say."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.package import ModelPackage
from models.store import ModelStore
from tests.support import tiny_manifest

HEADS, SIZE, DIM, HOP, UNITS = 2, 4, 3, 400, 128
START, END = 1, 2
PIECES = {0: "<unk>", START: "<s>", END: "</s>", 3: "▁hello", 4: "▁wor", 5: "ld", 6: "<0xC3>", 7: "<0xA9>", 8: "▁no"}
VOCABULARY = len(PIECES)
ANY = (None, None, None, None)


def encoder() -> bytes:
    """`input_values` [batch, samples] to `last_hidden_state` [batch, steps, DIM], one step every HOP samples."""
    kernel = np.full((DIM, 1, HOP), 1.0 / HOP, np.float32)
    nodes = [
        helper.make_node("Unsqueeze", ["input_values", "one"], ["channel"]),
        helper.make_node("Conv", ["channel", "kernel"], ["conv"], strides=[HOP]),
        helper.make_node("Transpose", ["conv"], ["last_hidden_state"], perm=[0, 2, 1]),
    ]
    weights = [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(np.array([1], np.int64), "one")]
    return _model(
        nodes,
        [_value("input_values", ["batch", "samples"])],
        [_value("last_hidden_state", ["batch", "steps", DIM])],
        weights,
    )


def decoder(following: Mapping[int, int], *, sure: float = 9.0, hears: bool = False) -> bytes:
    """A decoder in which each token calls for one other: `following` (END for those not in it).

    Its keys and values are of no use to it, but they are there: the cache grows by one step with each token. One that
    `hears` adds two layers of what the encoder says to its logits, whose weights each branch has for itself.
    """
    table = np.zeros((VOCABULARY, VOCABULARY), np.float32)
    for token in range(VOCABULARY):
        table[token, following.get(token, END)] = sure
    names = [f"past_key_values.0.{side}.{part}" for side in ("decoder", "encoder") for part in ("key", "value")]
    cache = [_value(name, ["batch", HEADS, "past" if "decoder" in name else "source", SIZE]) for name in names]
    then = _branch("then", with_past=True, hears=hears)
    otherwise = _branch("else", with_past=False, hears=hears)
    presents = [name.replace("past_key_values", "present") for name in names]
    made = [*presents, "heard"] if hears else presents
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["said" if hears else "logits"], axis=0),
        helper.make_node("If", ["use_cache_branch"], made, then_branch=then, else_branch=otherwise),
        *([helper.make_node("Add", ["said", "heard"], ["logits"])] if hears else []),
    ]
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"]),
        _value("encoder_hidden_states", ["batch", "source", DIM]),
        *cache,
        helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1]),
    ]
    outputs = [_value("logits", ["batch", "length", VOCABULARY]), *(_value(name, ANY) for name in presents)]
    return _model(nodes, inputs, outputs, [numpy_helper.from_array(table, "table")])


def save(
    folder: Path, name: str, following: Mapping[int, int], *, sure: float = 9.0, hears: bool = False, **settings: Any
) -> ModelPackage:
    """Write a package with that decoder."""
    files = folder / ".files"
    files.mkdir(parents=True, exist_ok=True)
    tokenizer = {
        "added_tokens": [{"id": token, "content": PIECES[token], "special": True} for token in (0, START, END)],
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "vocab": {piece: token for token, piece in PIECES.items()},
        },
    }
    (files / "encoder_model.onnx").write_bytes(encoder())
    (files / "decoder_model_merged.onnx").write_bytes(decoder(following, sure=sure, hears=hears))
    (files / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    manifest = tiny_manifest(
        name, family="moonshine", method="int8", relative_size=0.25, front_end=None, units=(), moonshine=settings
    )
    return ModelPackage.save(folder, manifest, {file: files / file for file in manifest.files})


def pulled() -> ModelPackage:
    """The published network, where `deepthin models pull moonshine-tiny` has put it; without it the test is skipped."""
    folder = os.environ.get("DEEPTHIN_MOONSHINE")
    if folder is not None:
        return ModelPackage.load(Path(folder))
    store = ModelStore()
    if "moonshine-tiny" not in store.names():
        pytest.skip("moonshine-tiny is not there (deepthin models pull moonshine-tiny, or DEEPTHIN_MOONSHINE)")
    return store.load("moonshine-tiny")


def _branch(name: str, *, with_past: bool, hears: bool) -> onnx.GraphProto:
    """The new keys and values: one step more of the decoder's, and the encoder's made from its output or passed on."""
    nodes, outputs = [], []
    for part in ("key", "value"):
        # One step [1, HEADS, 1, SIZE] of ones.
        step = f"{name}_{part}_step"
        shape = helper.make_tensor(f"{step}_shape", TensorProto.INT64, [4], [1, HEADS, 1, SIZE])
        one = helper.make_tensor(f"{step}_one", TensorProto.FLOAT, [1], [1.0])
        nodes.append(helper.make_node("Constant", [], [f"{step}_dims"], value=shape))
        nodes.append(helper.make_node("ConstantOfShape", [f"{step}_dims"], [step], value=one))
        grown = f"{name}_decoder_{part}"
        if with_past:
            past = f"past_key_values.0.decoder.{part}"
            nodes.append(helper.make_node("Concat", [past, step], [grown], axis=2))
        else:
            nodes.append(helper.make_node("Identity", [step], [grown]))
        outputs.append(grown)
    for part in ("key", "value"):
        kept = f"{name}_encoder_{part}"
        source = f"past_key_values.0.encoder.{part}" if with_past else f"{name}_key_step"
        nodes.append(helper.make_node("Identity", [source], [kept]))
        outputs.append(kept)
    values = [_value(output, ANY) for output in outputs]
    if not hears:
        return helper.make_graph(nodes, name, [], values)
    loudest, hidden, heard = (f"{name}_{value}" for value in ("loudest", "hidden", "heard"))
    nodes += [
        helper.make_node("ReduceMax", ["encoder_hidden_states"], [loudest], axes=[1]),
        helper.make_node("MatMul", [loudest, f"{name}_first"], [f"{hidden}_sum"]),
        helper.make_node("Tanh", [f"{hidden}_sum"], [hidden]),
        helper.make_node("MatMul", [hidden, f"{name}_second"], [heard]),
    ]
    rng = np.random.default_rng(5)
    weights = {
        f"{name}_first": rng.normal(scale=20.0, size=(DIM, UNITS)),
        f"{name}_second": rng.normal(scale=0.2, size=(UNITS, VOCABULARY)),
    }
    stored = [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()]
    return helper.make_graph(nodes, name, [], [*values, _value(heard, (None, None, None))], stored)


def _value(name: str, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
) -> bytes:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
