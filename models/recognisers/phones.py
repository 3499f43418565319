"""The families tfkaldi and deepspeech: a network over phones, and a search for words in a decoding graph."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from models.audio import Audio
from models.decoding import Decoder, Graph, GraphDecoder, GreedyDecoder
from models.errors import GraphMismatchError, InferenceError, PackageError
from models.package import Manifest, ModelPackage
from models.recognisers.base import GRAPH, GREEDY, StagedRecogniser, require_decoder
from models.recognisers.sessions import open_session
from models.segments import is_silent
from models.store import find_graph
from models.transcript import StageSeconds, Transcript, Word

FloatArray = npt.NDArray[np.float32]

_FEATURES = "features"
_LOG_PROBS = "log_probs"
# Spread (5th to 95th percentile) of the mean log-mel of frames: speech has 5.6 and more, steady noise .6 at most.
_STEADY_SPREAD = 1.5
# Feature frames that go through the network at once. Activations of a long recording would otherwise fill an edge box.
_CHUNK_FRAMES = 3000
# Recordings in one lane differ in length by less than this factor.
_LANE_RATIO = 1.5

_graphs: weakref.WeakValueDictionary[Path, Graph] = weakref.WeakValueDictionary()
_graphs_lock = threading.Lock()


class PhoneRecogniser(StagedRecogniser[FloatArray, FloatArray]):
    """See `models.recognisers.base.Recogniser`; features [frames, dim], scores [output frames, units]."""

    def __init__(
        self,
        package: ModelPackage,
        session: ort.InferenceSession,
        decoders: Mapping[str, Decoder],
        default_decoder: str,
    ) -> None:
        """Put the parts together; most callers want `load`.

        Raises:
            GraphMismatchError: the network has other inputs or outputs than the manifest says.
        """
        super().__init__(package, decoders, default_decoder)
        self._decoders = dict(decoders)
        self._session = session
        self._outputs = [_LOG_PROBS, *(state.output for state in package.manifest.states)]
        _check_session(session, package.manifest)

    @property
    def decoders(self) -> Mapping[str, Decoder]:
        """The decoders by name."""
        return self._decoders

    @property
    def graph_bytes(self) -> int:
        """Bytes of the decoding graph's file, which is mapped into memory as it is; 0 without a graph."""
        decoder = self._decoders.get(GRAPH)
        return int(decoder.graph.manifest["bytes"]) if isinstance(decoder, GraphDecoder) else 0

    @classmethod
    def load(cls, package: ModelPackage, *, threads: int = 1, decoder: str | None = None) -> PhoneRecogniser:
        """Load `package`; see `models.recognisers.load`."""
        manifest = package.manifest
        decoders: dict[str, Decoder] = {GREEDY: GreedyDecoder(manifest.units)}
        if manifest.graph is not None and decoder != GREEDY:
            decoders[GRAPH] = _graph_decoder(package)
        chosen = require_decoder(decoders, decoder or (GRAPH if GRAPH in decoders else GREEDY), manifest.name)
        return cls(package, open_session(package.graph_file, threads=threads), decoders, chosen)

    def features(self, audio: Audio) -> FloatArray:
        """Features [frames, dim] of one recording; no frames when it is silence or steady noise throughout."""
        nothing = np.zeros((0, self.manifest.features.dim), np.float32)
        if is_silent(audio.samples):
            return nothing
        features = self.manifest.features.extract(audio)
        low, high = np.percentile(features.mean(axis=1), (5, 95))
        return nothing if high - low < _STEADY_SPREAD else features

    def lane(self, features: FloatArray) -> int:
        """Recordings of about one length, so that little of a batch is padding."""
        return math.ceil(math.log(max(len(features), 1), _LANE_RATIO))

    def infer(self, features: Sequence[FloatArray]) -> list[FloatArray]:
        """Log probabilities [output frames, units] for features [frames, dim] of each recording, as one batch.

        Every recording is continued on both sides by repeating its own first and last frame, and the answer is cut to
        its own length, so that neighbours in the batch have no influence.

        Raises:
            InferenceError: the network gave NaN.
        """
        units = len(self.manifest.units)
        results = [np.zeros((0, units), np.float32) for _ in features]
        spoken = [index for index, frames in enumerate(features) if len(frames)]
        if not spoken:
            return results
        outputs = self._run(self._padded([features[index] for index in spoken]))
        for row, index in enumerate(spoken):
            results[index] = outputs[row, : self._output_frames(len(features[index]))]
            if np.isnan(results[index]).any():
                raise InferenceError(f"model {self.manifest.name} gave values that are not numbers")
        return results

    def transcript(
        self, scores: FloatArray, seconds: float, *, decoder: str | None = None, stages: StageSeconds | None = None
    ) -> Transcript:
        """The words in `scores`, log probabilities [output frames, units]; see `Recogniser`."""
        chosen = self._decoders[self.require_decoder(decoder)]
        stages = stages or StageSeconds()
        start = time.perf_counter()
        words: tuple[Word, ...] = ()
        if len(scores):
            words = tuple(
                Word(
                    text=word.text.lower(),
                    start=round(min(word.start_frame * self.manifest.frame_seconds, seconds), 3),
                    end=round(min((word.end_frame + 1) * self.manifest.frame_seconds, seconds), 3),
                    confidence=min(max(float(word.confidence), 0.0), 1.0),
                )
                for word in chosen.decode(scores).words
            )
        return Transcript(
            text=" ".join(word.text for word in words),
            words=words,
            duration_seconds=seconds,
            stages=StageSeconds(stages.features, stages.infer, stages.postprocess + time.perf_counter() - start),
        )

    def _output_frames(self, frames: int) -> int:
        return (frames - 1) // self.manifest.subsampling + 1

    def _padded(self, features: Sequence[FloatArray]) -> FloatArray:
        left, right = self.manifest.left_context, self.manifest.right_context
        longest = max(len(frames) for frames in features)
        padded = [np.pad(frames, ((left, right + longest - len(frames)), (0, 0)), mode="edge") for frames in features]
        return np.stack(padded).astype(np.float32, copy=False)

    def _run(self, padded: FloatArray) -> FloatArray:
        manifest = self.manifest
        context = manifest.left_context + manifest.right_context
        total = self._output_frames(padded.shape[1] - context)
        step = max(1, _CHUNK_FRAMES // manifest.subsampling)
        states = {state.input: np.zeros((len(padded), *state.shape), np.float32) for state in manifest.states}
        pieces = []
        for first in range(0, total, step):
            last = min(first + step, total) - 1
            window = padded[:, first * manifest.subsampling : last * manifest.subsampling + context + 1]
            log_probs, *finals = self._session.run(self._outputs, {_FEATURES: window, **states})
            states = {state.input: final for state, final in zip(manifest.states, finals, strict=True)}
            pieces.append(log_probs)
        return np.concatenate(pieces, axis=1)


def _graph_decoder(package: ModelPackage) -> GraphDecoder:
    manifest = package.manifest
    assert manifest.graph is not None
    folder = find_graph(manifest.graph, package.path).resolve()
    with _graphs_lock:
        # Most models share one graph, which is larger than they are.
        if (graph := _graphs.get(folder)) is None:
            graph = _graphs[folder] = Graph.load(folder)
    options: dict[str, Any] = dict(manifest.decoder)
    if (scale := options.pop("prior_scale", None)) is not None:
        options["log_priors"] = np.asarray(manifest.log_priors, np.float32) * np.float32(scale)
    try:
        return GraphDecoder(graph, manifest.units, **options)
    except TypeError as error:
        raise PackageError(f"model {manifest.name} has decoder options that are not known: {error}") from error


def _check_session(session: ort.InferenceSession, manifest: Manifest) -> None:
    inputs = {value.name: value for value in session.get_inputs()}
    outputs = {value.name: value for value in session.get_outputs()}
    wanted_inputs = {_FEATURES, *(state.input for state in manifest.states)}
    wanted_outputs = {_LOG_PROBS, *(state.output for state in manifest.states)}
    if set(inputs) != wanted_inputs or not wanted_outputs <= set(outputs):
        raise GraphMismatchError(
            f"model {manifest.name} takes {sorted(inputs)} and gives {sorted(outputs)}; "
            f"its manifest promises {sorted(wanted_inputs)} and {sorted(wanted_outputs)}"
        )
    _check_axes(manifest.name, inputs[_FEATURES], 3, (manifest.features.dim,))
    _check_axes(manifest.name, outputs[_LOG_PROBS], 3, (len(manifest.units),))
    for state in manifest.states:
        _check_axes(manifest.name, inputs[state.input], 1 + len(state.shape), state.shape)


def _check_axes(model: str, value: ort.NodeArg, rank: int, last: tuple[int, ...]) -> None:
    if value.type != "tensor(float)":
        raise GraphMismatchError(f"{value.name} of model {model} is {value.type}, not tensor(float)")
    shape = list(value.shape)
    # ONNX writes an unknown axis as a name, or leaves the shape out.
    known = [(axis, size) for axis, size in zip(shape[rank - len(last) :], last, strict=False) if isinstance(axis, int)]
    if (shape and len(shape) != rank) or any(axis != size for axis, size in known):
        raise GraphMismatchError(
            f"{value.name} of model {model} has shape {shape}; its manifest ends it in {list(last)}"
        )
