"""Compressing one weight after the other, each on the inputs that the compressed ones before it give."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from models.compression.base import Array, Compressed, Plan, relative_error
from models.compression.calibrate import Calibrator
from models.compression.directions import RECURRENT
from models.compression.export import bias_of
from models.compression.folding import attributes, values
from models.compression.network import LOOKED_UP, Layer, Network, as_stored, with_weights
from models.compression.normalise import consumers
from models.compression.registry import method


@dataclass(frozen=True, slots=True)
class Result:
    """One compressed weight in its network.

    Attributes:
        compressed: the weight; its errors are against the original weight and, with calibration, the original output.
        changed: biases that take up the mean error, by initialiser.
        seconds: time taken, calibration included.
    """

    compressed: Compressed
    changed: Mapping[str, Array]
    seconds: float


def compress_layer(
    network: Network,
    layer: Layer,
    plan: Plan,
    calibrator: Calibrator | None,
    so_far: Callable[[], onnx.ModelProto] | None,
    biases: Mapping[str, Array],
) -> Result:
    """Compress the weight of `layer`.

    Args:
        network: the original network.
        layer: the layer.
        plan: what to store.
        calibrator: runs the network on calibration data; None: the weight's own error is made small.
        so_far: makes the network with the weights before this one compressed; None where none is.
        biases: those that have changed so far.
    """
    start = time.perf_counter()
    chosen, weight = method(plan.method), network.weight(layer)
    if calibrator is None:
        return Result(chosen.compress(weight, plan), {}, time.perf_counter() - start)
    moments = calibrator.moments(layer, so_far)
    bias = free_bias(network, layer)
    inner = moments.centred() if bias is not None else moments
    # What is looked up in the weight too must stay what it is.
    target = weight if so_far is None or layer.lookups else inner.target(weight)
    draft = chosen.compress(target, plan, inner.calibration())
    approximation = chosen.decompress(draft)
    error = inner.output_error(weight, approximation)
    compressed = Compressed(plan, draft.arrays, relative_error(weight, approximation), error)
    changed = {} if bias is None else _moved(network, layer, bias, biases, moments.bias_change(weight, approximation))
    return Result(compressed, changed, time.perf_counter() - start)


def approximated(network: Network, results: Mapping[str, Compressed], changed: Mapping[str, Array]) -> onnx.ModelProto:
    """The original graph with the dense weights that the compressed ones stand for: the reference."""
    return with_weights(network.model, {**stored_weights(network, results), **changed})


def stored_weights(network: Network, results: Mapping[str, Compressed]) -> dict[str, Array]:
    """The initialisers, dense, that compressed weights stand for."""
    layers = (layer for layer in network.layers if layer.name in results)
    return {layer.name: stored_weight(network, layer, results[layer.name]) for layer in layers}


def stored_weight(network: Network, layer: Layer, compressed: Compressed) -> Array:
    """The initialiser, dense, that a compressed weight stands for."""
    dense = method(compressed.plan.method).decompress(compressed)
    return as_stored(layer, network.nodes(layer)[0], dense)


def free_bias(network: Network, layer: Layer) -> str | None:
    """The bias that may be changed along with a weight: one of R values that nothing else uses."""
    nodes = network.nodes(layer)
    if len(nodes) != 1 or layer.op == LOOKED_UP:
        return None
    name = bias_of(network, layer, nodes[0])
    if name is None or consumers(network.model.graph)[name] != 1:
        return None
    stored = next(tensor for tensor in network.model.graph.initializer if tensor.name == name)
    size = int(np.prod(stored.dims))
    return name if size == (2 * layer.R if layer.op in RECURRENT else layer.R) else None


def _moved(network: Network, layer: Layer, bias: str, biases: Mapping[str, Array], change: Array) -> dict[str, Array]:
    stored = biases.get(bias)
    if stored is None:
        stored = values(next(tensor for tensor in network.model.graph.initializer if tensor.name == bias))
    moved = stored.astype(np.float32).reshape(-1).copy()
    fixed = attributes(network.nodes(layer)[0])
    if layer.op == "Gemm":
        beta = float(fixed.get("beta", 1.0))
        if beta == 0:
            return {}
        change = change * np.float32(fixed.get("alpha", 1.0) / beta)
    # The bias of a GRU or LSTM holds that of the input weight, then that of the recurrent one.
    start = layer.R if layer.op in RECURRENT and layer.operand == 2 else 0
    moved[start : start + layer.R] += change
    return {bias: moved.reshape(stored.shape)}
