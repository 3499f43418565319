"""What tests share: tiny models with random weights, and recordings made on the spot."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.audio import Audio
from models.decoding import graph_file
from models.decoding.graph import Domain, sections
from models.decoding.kneser_ney import count, estimate
from models.decoding.lexicon import UNITS, Lexicon
from models.decoding.ngram import Vocabulary
from models.features import FrontEnd
from models.package import Manifest

RATE = 16_000
LEFT, RIGHT, SUBSAMPLING, HIDDEN = 4, 5, 3, 16


def tiny_graph(*, recurrent: bool, seed: int = 0) -> bytes:
    """A network of one strided convolution, with a recurrent layer behind it or not."""
    rng = np.random.default_rng(seed)
    dim, taps = FrontEnd().dim, LEFT + RIGHT + 1

    def weight(name: str, *shape: int, scale: float = 0.3) -> onnx.TensorProto:
        return numpy_helper.from_array((scale * rng.standard_normal(shape)).astype(np.float32), name)

    weights = [weight("kernel", HIDDEN, dim, taps, scale=0.05), weight("out", HIDDEN, len(UNITS), scale=3.0)]
    nodes = [
        helper.make_node("Transpose", ["features"], ["channels"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["channels", "kernel"], ["conv"], strides=[SUBSAMPLING]),
        helper.make_node("Tanh", ["conv"], ["tanh"]),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", "frames", dim])]
    outputs = [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["batch", "steps", len(UNITS)])]
    if recurrent:
        weights += [weight("w", 1, 3 * HIDDEN, HIDDEN), weight("r", 1, 3 * HIDDEN, HIDDEN)]
        weights.append(numpy_helper.from_array(np.array([0], np.int64), "zero"))
        weights.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
        nodes += [
            helper.make_node("Transpose", ["tanh"], ["steps_first"], perm=[2, 0, 1]),
            helper.make_node("Unsqueeze", ["state", "zero"], ["initial"]),
            helper.make_node("GRU", ["steps_first", "w", "r", "", "", "initial"], ["gru", "last"], hidden_size=HIDDEN),
            helper.make_node("Squeeze", ["last", "zero"], ["state_out"]),
            helper.make_node("Squeeze", ["gru", "one"], ["squeezed"]),
            helper.make_node("Transpose", ["squeezed"], ["hidden"], perm=[1, 0, 2]),
        ]
        inputs.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", HIDDEN]))
        outputs.append(helper.make_tensor_value_info("state_out", TensorProto.FLOAT, ["batch", HIDDEN]))
    else:
        nodes.append(helper.make_node("Transpose", ["tanh"], ["hidden"], perm=[0, 2, 1]))
    nodes += [
        helper.make_node("MatMul", ["hidden", "out"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    # An old version of the format, so that every supported ONNX Runtime reads it.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


# A language of four words; HELLO and WORLD like each other's company.
WORDS = {"HELLO": "HH AH L OW", "WORLD": "W ER L D", "HOLLOW": "HH AA L OW", "WORD": "W ER D"}


def tiny_decoding_graph(folder: Path) -> None:
    """Write a decoding graph for `WORDS`."""
    sentences = [["HELLO", "WORLD"]] * 6 + [["HOLLOW", "WORD"]] * 2 + [[word] for word in WORDS]
    vocabulary = Vocabulary(sorted(WORDS))
    model = estimate(count(vocabulary.encode(sentences), vocabulary, 2)).model()
    lexicon = Lexicon({word: (tuple(phones.split()),) for word, phones in WORDS.items()})
    graph_file.write(folder, sections([Domain("test", model, lexicon, 1.0)]), {"name": folder.name})


def spoken(phones: str, *, frames: int = 3, seed: int = 0) -> npt.NDArray[np.float32]:
    """Log probabilities [output frames, units] of somebody who clearly says `phones`, each for `frames` frames."""
    rng = np.random.default_rng(seed)
    path = [unit for phone in phones.split() for unit in (UNITS.index(phone), *[0] * (frames - 1))]
    scores = rng.standard_normal((len(path), len(UNITS))).astype(np.float32)
    scores[np.arange(len(path)), path] += 9
    normalised: npt.NDArray[np.float32] = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return normalised


def tiny_manifest(name: str, *, recurrent: bool = False, **changes: Any) -> Manifest:
    """The manifest that fits `tiny_graph`."""
    fields: dict[str, Any] = {
        "name": name,
        "family": "deepspeech" if recurrent else "tfkaldi",
        "front_end": FrontEnd().to_dict(),
        "units": UNITS,
        "subsampling": SUBSAMPLING,
        "left_context": LEFT,
        "right_context": RIGHT,
        "states": [{"input": "state", "output": "state_out", "shape": [HIDDEN]}] if recurrent else [],
        "weights": {"parameters": 100, "dense_parameters": 5000, "disk_bytes": 400, "resident_bytes": 400},
        "licence": "MIT",
    }
    return Manifest.model_validate_json(json.dumps({**fields, **changes}))


def babble(seconds: float, *, rate: int = RATE, seed: int = 0) -> npt.NDArray[np.float32]:
    """Noise in changing bands and levels: not speech, but no two stretches of it look alike to a network."""
    rng = np.random.default_rng(seed)
    count = int(seconds * rate)
    time = np.arange(count) / rate
    sweep = np.sin(2 * np.pi * (200 + 900 * np.sin(2.1 * time + seed)) * time)
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * 3.1 * time + seed)
    return (0.3 * loudness * (sweep + 0.5 * rng.standard_normal(count))).clip(-1, 1).astype(np.float32)


def recording(seconds: float, seed: int = 0) -> Audio:
    """`babble` as audio."""
    return Audio(babble(seconds, seed=seed), RATE)


def encode(
    samples: npt.NDArray[np.float32],
    *,
    container: str = "wav",
    codec: str = "pcm_s16le",
    rate: int = RATE,
    layout: str = "mono",
) -> bytes:
    """`samples` (mono, the same in every channel) as a file."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        channels = len(stream.layout.channels)
        planes = np.repeat(samples[:, None], channels, axis=1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="flt", layout=layout)
        frame.sample_rate = rate
        frame.pts = 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return buffer.getvalue()
