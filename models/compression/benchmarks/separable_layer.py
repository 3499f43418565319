"""How long a convolution takes as it is and as two separable ones: the layer alone, in ONNX Runtime on one thread.

``python -m models.compression.benchmarks.separable_layer deepspeech-dense`` cuts the convolutions out of a network and
runs each, and each in the form that ``separable-conv`` gives it at several sizes, in turn on the same inputs, those
that the layers before it make of ten seconds of noise. The clock is the processor time of the thread, so that other
programs on the machine matter little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from models.compression.base import Array, Compressed
from models.compression.cutting import cut
from models.compression.export import export
from models.compression.feeds import Feed, given, inputs_for
from models.compression.network import Layer, Network, find
from models.compression.normalise import normalise
from models.compression.planning import plan
from models.compression.separable_conv import SeparableConv
from models.package import GRAPH_FILE, ModelPackage
from models.store import BUNDLED
from ops import library
from ops.benchmarks.timing import time_in_turn

SIZES: Final = (0.6, 0.45, 0.3, 0.2)
_FRAMES: Final = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """One convolution in both forms.

    Attributes:
        layer: name of the kernel.
        shape: of the kernel, [N, C, kh, kw].
        filters: between the two convolutions.
        size: bytes of the filters by those of the kernel.
        seconds: of the two convolutions.
        dense_seconds: of the one.
    """

    layer: str
    shape: tuple[int, ...]
    filters: int
    size: float
    seconds: float
    dense_seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Time the layers from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="separable_layer", description="Time convolutions, as they are and separable."
    )
    parser.add_argument("model", type=Path, help="a bundled package, or the folder of another one")
    parser.add_argument("--layers", default="*", help="pattern of the kernels' names")
    parser.add_argument("--sizes", type=float, nargs="+", default=list(SIZES), help="relative sizes of the kernels")
    parser.add_argument("--rounds", type=int, default=30, help="turns of timing (30)")
    options = parser.parse_args(argv)
    package = ModelPackage.load(options.model if options.model.is_dir() else BUNDLED / options.model)
    model = onnx.load(str(package.path / GRAPH_FILE))
    inputs = inputs_for(model, package.manifest, None)
    if inputs is None:
        raise SystemExit(f"{options.model} has no front end")
    noise = np.random.default_rng(1).standard_normal((_FRAMES, inputs.front_end.dim)).astype(np.float32)
    network = find(normalise(model).model)
    rows = list(measure(network, inputs.feed(noise), options.layers, options.sizes, options.rounds))
    print("\n".join(table(rows)))
    return 0


def measure(network: Network, feed: Feed, layers: str, sizes: Sequence[float], rounds: int) -> Iterator[Row]:
    """Time the convolutions whose names match `layers`."""
    method = SeparableConv()
    found = [layer for layer in network.matching(layers) if layer.op == "Conv" and len(layer.shape) == 4]
    if not found:
        raise SystemExit(f"the network has no 2-D convolution whose name matches {layers!r}")
    for layer in found:
        weight = network.weight(layer)
        forms = [method.compress(weight, plan(method, layer, size)) for size in sizes]
        x = _inputs(network, layer, feed)
        models = [network.model, *(export(network, {layer.name: form}) for form in forms)]
        sessions = [library.session(_alone(model, network, layer).SerializeToString(), threads=1) for model in models]
        calls = [partial(session.run, None, {"x": x}) for session in sessions]
        dense, *times = time_in_turn(calls, rounds, time.thread_time)
        for form, seconds in zip(forms, times, strict=True):
            yield _row(layer, form, seconds, dense)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The rows as Markdown."""
    yield "| Kernel | Shape | Filters between | Size | Time | by the dense one's |"
    yield "| --- | --- | --: | --: | --: | --: |"
    for row in rows:
        shape = " x ".join(map(str, row.shape))
        times = f"{1e3 * row.seconds:.3f} ms | {row.seconds / row.dense_seconds:.2f}"
        yield f"| {row.layer} | {shape} | {row.filters} | {row.size:.2f} | {times} |"


def _row(layer: Layer, form: Compressed, seconds: float, dense: float) -> Row:
    return Row(layer.name, layer.shape, int(form.plan.geometry["K"]), form.plan.relative_size, seconds, dense)


def _inputs(network: Network, layer: Layer, feed: Feed) -> Array:
    name = network.nodes(layer)[0].input[0]
    if name in feed:
        return feed[name]
    part = cut(network.model, [name])
    wanted = {value.name for value in given(part)}
    needed = {key: value for key, value in feed.items() if key in wanted}
    (x,) = library.session(part.SerializeToString(), threads=1).run([name], needed)
    return x  # type: ignore[no-any-return]


def _alone(model: onnx.ModelProto, network: Network, layer: Layer) -> onnx.ModelProto:
    """The nodes of `model` from the layer's input, called x here, to its output."""
    node = network.nodes(layer)[0]
    made = {name: each for each in model.graph.node for name in each.output}
    nodes: list[onnx.NodeProto] = []
    wanted = [node.output[0]]
    while wanted:
        name = wanted.pop()
        if name == node.input[0] or name not in made:
            continue
        copy = onnx.NodeProto.FromString(made[name].SerializeToString())
        wanted += copy.input
        copy.input[:] = ["x" if each == node.input[0] else each for each in copy.input]
        nodes.insert(0, copy)
    used = {name for each in nodes for name in each.input}
    stored = [tensor for tensor in model.graph.initializer if tensor.name in used]
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", node.output[0]))
    graph = onnx.helper.make_graph(nodes, "layer", [x], [y], stored)
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


if __name__ == "__main__":
    raise SystemExit(main())
