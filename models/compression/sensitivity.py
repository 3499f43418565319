"""How much the output of a network suffers from the loss of single weights."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from models.compression.assess import agreement
from models.compression.base import Array, Matrix
from models.compression.feeds import Feed
from models.compression.folding import values
from models.compression.network import Layer, Network, as_stored
from ops import library

_AFFORDABLE: Final = 1.0  # seconds of inputs that are run for every layer
_LEAST: Final = 3


class Sensitivity:
    """Runs a network with one weight at a time replaced.

    All weights are inputs of the one session that there is: a session for each weight would take seconds to make where
    networks have tens of millions of values.
    """

    def __init__(self, network: Network, feeds: Sequence[Feed], inputs: str, *, threads: int = 1) -> None:
        """`feeds`: what goes into the network; `inputs`: what kind of feeds these are, as of `assess.agreement`.

        Networks that write token by token take seconds for a recording, and there are as many runs as layers: no more
        feeds are used than can be run in a second or so, three at least.
        """
        self._network = network
        self._inputs = inputs
        model, self._weights = _with_inputs(network)
        self._session = library.session(model.SerializeToString(), threads=threads)
        self._parent = _Remembering(self._session, self._weights)
        start = time.thread_time()
        self._parent.run([self._session.get_outputs()[0].name], dict(feeds[0]))
        affordable = int(_AFFORDABLE / max(time.thread_time() - start, 1e-6))
        self._feeds = feeds[: max(_LEAST, affordable)]

    def output_error(self, layer: Layer, weight: Matrix) -> float:
        """Root mean squared error of the network's first output, by its spread, with this weight [Q, R] of `layer`."""
        stored = as_stored(layer, self._network.nodes(layer)[0], weight)
        changed = _Answering(self._session, {**self._weights, layer.name: stored})
        return agreement(self._parent, changed, self._feeds, self._inputs).output_error


def _with_inputs(network: Network) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The network with its weights as inputs, and what they are."""
    model, names = onnx.ModelProto(), {layer.name for layer in network.layers}
    model.CopyFrom(network.model)
    weights = {tensor.name: values(tensor) for tensor in model.graph.initializer if tensor.name in names}
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in names]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    known = {value.name for value in model.graph.input}
    for name, array in weights.items():
        if name not in known:
            model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    return model, weights


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

    def __init__(self, session: ort.InferenceSession, weights: Mapping[str, Array]) -> None:
        super().__init__(session, weights)
        self._answers: dict[int, list[Array]] = {}

    def run(self, names: list[str], feed: dict[str, Array]) -> list[Array]:
        """The session's first output."""
        key = id(next(iter(feed.values())))
        if key not in self._answers:
            self._answers[key] = super().run(names, feed)
        return self._answers[key]
