"""Same-size compression of a whole network: its chains of fully connected layers with fewer units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx
from onnx import NodeProto

from models.compression.base import (
    Array,
    Calibration,
    Compressed,
    CompressionError,
    Matrix,
    Plan,
    SizeError,
    relative_error,
)
from models.compression.calibrate import Calibrator
from models.compression.export import bias_of
from models.compression.folding import attributes, values
from models.compression.narrowing import ChainLayer, Inputs, narrow, plan_chain
from models.compression.network import Layer, Network, with_weights
from models.compression.normalise import consumers

NAME: Final = "same-size"
_CHAIN: Final = "chain"
# Each value of the output depends on the value in its place alone, whatever the width.
_ELEMENTWISE: Final = frozenset(
    ("Relu", "Sigmoid", "Tanh", "Clip", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign", "HardSigmoid", "HardSwish",
     "Gelu", "Mish", "ThresholdedRelu", "Erf", "Identity", "Dropout")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chain:
    """Fully connected layers that feed one another through elementwise operators and splicing of frames.

    Attributes:
        layers: in order.
        biases: the bias of each, None without one.
    """

    layers: tuple[Layer, ...]
    biases: tuple[str | None, ...]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """[Q, R] of each layer."""
        return [(layer.Q, layer.R) for layer in self.layers]


def chains(network: Network) -> list[Chain]:
    """The chains of two and more layers, each as long as it can be."""
    graph = network.model.graph
    uses = consumers(graph)
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    layers = {layer.name: layer for layer in network.layers if _plain(network, layer)}
    biases = {name: bias_of(network, layer, network.nodes(layer)[0]) for name, layer in layers.items()}
    following: dict[str, str] = {}
    for name, layer in layers.items():
        if biases[name] is not None and uses[biases[name] or ""] != 1:
            continue
        reached = _follow(network, layer, biases[name], readers, uses)
        if reached in layers and layers[reached].Q % layer.R == 0:
            following[name] = reached
    starts = [name for name in following if name not in following.values()]
    found = []
    for start in starts:
        names = [start]
        while names[-1] in following:
            names.append(following[names[-1]])
        found.append(Chain(tuple(layers[name] for name in names), tuple(biases[name] for name in names)))
    return found


def chain_plans(network: Network, layers: Sequence[Layer], size: float) -> dict[str, Plan]:
    """Plans that narrow the chains of a network so that all `layers` together take `size` of their dense bytes.

    Raises:
        CompressionError: the network has no chain among `layers`.
        SizeError: the chains cannot be narrowed so far; the message names the reachable range.
    """
    names = {layer.name for layer in layers}
    found = [chain for chain in chains(network) if {layer.name for layer in chain.layers} <= names]
    if not found:
        raise CompressionError(
            f"{NAME} narrows chains of fully connected layers with elementwise operators between, and there are none"
        )
    inside = {layer.name for chain in found for layer in chain.layers}
    dense = sum(layer.dense_bytes for layer in layers)
    others = sum(layer.dense_bytes for layer in layers if layer.name not in inside)
    share = (size * dense - others) / (dense - others)
    least = others + sum(_smallest(chain) for chain in found)
    if size * dense < least:
        raise SizeError(
            f"{NAME} cannot store the network at relative size {size:.6g}: narrowing {', '.join(sorted(inside))}, it "
            f"reaches {least / dense:.6g} to 1"
        )
    plans: dict[str, Plan] = {}
    for number, chain in enumerate(found):
        widths = plan_chain(chain.shapes, share).widths
        inputs = chain.layers[0].Q
        for layer, width, before in zip(chain.layers, widths, [0, *(layer.R for layer in chain.layers)], strict=False):
            taps = layer.Q // before if before else 1
            q, r = taps * inputs if before else inputs, width
            # The whole set of indices is stored beside the weight for the bitstream, and not in the model.
            geometry: dict[str, int | float | str] = {"q": q, "r": r, _CHAIN: number}
            plans[layer.name] = Plan(NAME, layer.Q, layer.R, 4 * q * r, geometry)
            inputs = width
    return plans


def _smallest(chain: Chain) -> int:
    """Bytes of a chain whose hidden layers have one unit each."""
    size, before = 0, 0
    for index, (Q, R) in enumerate(chain.shapes):
        inputs = Q // chain.layers[index - 1].R if before else Q
        before = R if index == len(chain.shapes) - 1 else 1
        size += 4 * inputs * before
    return size


def is_chain(plan: Plan) -> bool:
    """Whether a plan narrows a layer of a chain, so that nothing but the smaller weight is stored."""
    return plan.method == NAME and _CHAIN in plan.geometry


def narrow_chains(
    network: Network, plans: Mapping[str, Plan], calibrator: Calibrator | None
) -> tuple[dict[str, Compressed], dict[str, Array]]:
    """The narrowed layers, with the places of what they keep, and the biases at their full width."""
    results: dict[str, Compressed] = {}
    changed: dict[str, Array] = {}
    stored = {tensor.name: tensor for tensor in network.model.graph.initializer}
    for chain in chains(network):
        if not all(layer.name in plans and is_chain(plans[layer.name]) for layer in chain.layers):
            continue
        given = []
        for layer, name in zip(chain.layers, chain.biases, strict=True):
            bias = None if name is None else values(stored[name]).reshape(-1).astype(np.float32)
            given.append(ChainLayer(network.weight(layer), bias))
        seen = None
        if calibrator is not None:
            moments = [calibrator.moments(layer, None) for layer in chain.layers]
            seen = [Inputs(Calibration(each.oo, each.rows), each.mean_o) for each in moments]
        target = plan_chain(chain.shapes, 1.0)
        widths = tuple(int(plans[layer.name].geometry["r"]) for layer in chain.layers)
        narrowed = narrow(given, type(target)(widths, target.disk_bytes, target.relative_size), seen)
        inputs = np.arange(chain.layers[0].Q)
        for layer, name, small, outputs in zip(chain.layers, chain.biases, narrowed.layers, narrowed.kept, strict=True):
            arrays = {"weight": small.weight, "inputs": _index(inputs), "outputs": _index(outputs)}
            full = scatter(arrays, layer.Q, layer.R)
            results[layer.name] = Compressed(plans[layer.name], arrays, relative_error(network.weight(layer), full))
            if name is not None and small.bias is not None:
                whole = values(stored[name]).astype(np.float32).reshape(-1).copy()
                whole[outputs] = small.bias
                changed[name] = whole.reshape(tuple(stored[name].dims))
            after = chain.layers[chain.layers.index(layer) + 1] if layer is not chain.layers[-1] else None
            if after is not None:
                inputs = (np.arange(after.Q // layer.R)[:, None] * layer.R + outputs).ravel()
    return results, changed


def scatter(arrays: Mapping[str, Array], Q: int, R: int) -> Matrix:
    """The narrowed weight in its places, zero elsewhere."""
    full = np.zeros((Q, R), np.float32)
    full[np.ix_(arrays["inputs"].astype(np.int64), arrays["outputs"].astype(np.int64))] = arrays["weight"]
    return full


def with_narrowed(network: Network, results: Mapping[str, Compressed], changed: Mapping[str, Array]) -> onnx.ModelProto:
    """The network with its narrowed layers: plain operators on smaller weights."""
    new: dict[str, Array] = dict(changed)
    stored = {tensor.name: tensor for tensor in network.model.graph.initializer}
    for layer in network.layers:
        done = results.get(layer.name)
        if done is None or not is_chain(done.plan):
            continue
        node = network.nodes(layer)[0]
        transposed = layer.op == "Gemm" and attributes(node).get("transB", 0)
        new[layer.name] = np.ascontiguousarray(done.arrays["weight"].T if transposed else done.arrays["weight"])
        bias = bias_of(network, layer, node)
        if bias is not None:
            full = changed[bias] if bias in changed else values(stored[bias])
            if full.shape[-1] == layer.R:
                new[bias] = np.ascontiguousarray(full[..., done.arrays["outputs"].astype(np.int64)])
    model = with_weights(network.model, new)
    del model.graph.value_info[:]
    return model


def widened(
    network: Network, results: Mapping[str, Compressed], changed: Mapping[str, Array], tuned: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Compressed]]:
    """Values of a narrowed network after fine-tuning: other initialisers at full width, and the narrowed layers."""
    wide = {**changed, **tuned}
    layers: dict[str, Compressed] = {}
    stored = {tensor.name: tensor for tensor in network.model.graph.initializer}
    for layer in network.layers:
        done = results.get(layer.name)
        if done is None or not is_chain(done.plan):
            continue
        node = network.nodes(layer)[0]
        weight = wide.pop(layer.name, None)
        if weight is not None:
            matrix = weight.T if layer.op == "Gemm" and attributes(node).get("transB", 0) else weight
            done = replace(done, arrays={**done.arrays, "weight": np.ascontiguousarray(matrix, np.float32)})
        layers[layer.name] = done
        bias = bias_of(network, layer, node)
        if bias is not None and bias in tuned and tuned[bias].shape[-1] != layer.R:
            whole = np.array(changed[bias] if bias in changed else values(stored[bias]), np.float32)
            whole[..., done.arrays["outputs"].astype(np.int64)] = tuned[bias]
            wide[bias] = whole
    return wide, layers


def _index(kept: Array) -> Array:
    return kept.astype(np.uint16 if kept.max() < 1 << 16 else np.int32)


def _plain(network: Network, layer: Layer) -> bool:
    if layer.op not in ("MatMul", "Gemm") or len(layer.nodes) != 1 or layer.lookups or layer.inside:
        return False
    fixed = attributes(network.nodes(layer)[0])
    return not fixed.get("transA", 0) and fixed.get("alpha", 1.0) == 1.0 and fixed.get("beta", 1.0) == 1.0


def _follow(
    network: Network,
    layer: Layer,
    bias: str | None,
    readers: Mapping[str, list[NodeProto]],
    uses: Mapping[str, int],
) -> str:
    """The weight that reads the outputs of `layer`, if elementwise operators and splicing are all that is between."""
    stored = {tensor.name for tensor in network.model.graph.initializer}
    value = network.nodes(layer)[0].output[0]
    while True:
        behind = readers.get(value, [])
        if not behind or uses[value] != len(behind):
            return ""
        if len(behind) > 1 or behind[0].op_type == "Slice":
            value = _spliced(network, behind, value, readers, uses)
            if not value:
                return ""
            continue
        (node,) = behind
        if node.op_type in ("MatMul", "Gemm") and node.input[0] == value:
            return str(node.input[1])
        constants = all(name in stored or not name for name in node.input if name != value)
        added = node.op_type == "Add" and bias is not None and bias in node.input
        if not added and not (node.op_type in _ELEMENTWISE and constants):
            return ""
        value = node.output[0]


def _spliced(
    network: Network,
    slices: list[NodeProto],
    value: str,
    readers: Mapping[str, list[NodeProto]],
    uses: Mapping[str, int],
) -> str:
    """What comes of slices of frames put side by side; empty where it is anything else."""
    stored = {tensor.name: tensor for tensor in network.model.graph.initializer}
    outputs = []
    for node in slices:
        axes = node.input[3] if len(node.input) > 3 else ""
        if node.op_type != "Slice" or node.input[0] != value or axes not in stored or uses[node.output[0]] != 1:
            return ""
        if values(stored[axes]).reshape(-1).tolist() != [1]:
            return ""
        outputs.append(node.output[0])
    concat = readers[outputs[0]][0]
    if concat.op_type != "Concat" or attributes(concat).get("axis") not in (2, -1):
        return ""
    return concat.output[0] if sorted(concat.input) == sorted(outputs) else ""
