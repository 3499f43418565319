"""How much the output of a network suffers from the loss of single weights."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

import onnx
import onnxruntime as ort

from models.compression.assess import agreement
from models.compression.base import Array, Matrix
from models.compression.feeds import Feed
from models.compression.network import Layer, Network, as_stored
from ops import library

_AFFORDABLE: Final = 1.0  # seconds of inputs that are run for every layer
_LEAST: Final = 3


class Sensitivity:
    """Runs a network with one weight at a time replaced.

    All weights are inputs of the one session that there is, whose values are given with a run or else are the
    original ones: a session for each weight would take seconds to make where networks have tens of millions of values.
    """

    def __init__(self, network: Network, feeds: Sequence[Feed], inputs: str, *, threads: int = 1) -> None:
        """`feeds`: what goes into the network; `inputs`: what kind of feeds these are, as of `assess.agreement`.

        Networks that write token by token take seconds for a recording, and there are as many runs as layers: no more
        feeds are used than can be run in a second or so, three at least.
        """
        self._network = network
        self._inputs = inputs
        self._session = library.session(_with_inputs(network).SerializeToString(), threads=threads)
        self._parent = _Remembering(self._session)
        start = time.thread_time()
        self._parent.run([self._session.get_outputs()[0].name], dict(feeds[0]))
        affordable = int(_AFFORDABLE / max(time.thread_time() - start, 1e-6))
        self._feeds = feeds[: max(_LEAST, affordable)]

    def output_error(self, layer: Layer, weight: Matrix) -> float:
        """Root mean squared error of the network's first output, by its spread, with this weight [Q, R] of `layer`."""
        stored = as_stored(layer, self._network.nodes(layer)[0], weight)
        changed = _Answering(self._session, {layer.name: stored})
        return agreement(self._parent, changed, self._feeds, self._inputs).output_error


def _with_inputs(network: Network) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    known = {value.name for value in model.graph.input}
    for layer in network.layers:
        if layer.name not in known:
            kind = onnx.TensorProto.FLOAT
            model.graph.input.append(onnx.helper.make_tensor_value_info(layer.name, kind, layer.shape))
    return model


class _Answering:
    """A session that is given some of its weights with each run."""

    def __init__(self, session: ort.InferenceSession, weights: Mapping[str, Array]) -> None:
        self._session, self._weights = session, weights

    def get_outputs(self) -> Sequence[ort.NodeArg]:
        """As the session has them."""
        outputs: Sequence[ort.NodeArg] = self._session.get_outputs()
        return outputs

    def run(self, names: list[str], feed: dict[str, Array]) -> list[Array]:
        """As the session does."""
        answers: list[Array] = self._session.run(names, {**feed, **self._weights})
        return answers


class _Remembering(_Answering):
    """The original, which every comparison is with: its answers are kept, for feeds that live as long as this."""

    def __init__(self, session: ort.InferenceSession) -> None:
        super().__init__(session, {})
        self._answers: dict[int, list[Array]] = {}

    def run(self, names: list[str], feed: dict[str, Array]) -> list[Array]:
        """The session's first output."""
        key = id(next(iter(feed.values())))
        if key not in self._answers:
            self._answers[key] = super().run(names, feed)
        return self._answers[key]
