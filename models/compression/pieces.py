"""Weights that a network cuts into pieces and puts together in another order, as exporters of cells of an LSTM do."""

from __future__ import annotations

from typing import Final

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from models.compression.base import Array
from models.compression.bodies import graphs, places
from models.compression.folding import attributes, values

_FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def put_together(graph: GraphProto) -> bool:
    """Make what Concat gives for constant pieces of constants (Slice), or again for what it gave of such, initialisers,
    in place; whether there was any.

    Names are those that `bodies.flatten_names` leaves. Pieces that are read otherwise too stay, with their weights.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    everything = [place.node for place in places(graph)]
    pieces = {node.output[0]: node for node in everything if node.op_type == "Slice" and _constant(node, stored)}
    ends = {value.name for each in graphs(graph) for value in each.output}
    made: dict[str, Array] = {}
    for node in everything:
        if node.op_type != "Concat" or node.output[0] in ends:
            continue
        if all(name in pieces or name in made for name in node.input):
            parts = [made[name] if name in made else _piece(pieces[name], stored) for name in node.input]
            made[node.output[0]] = np.concatenate(parts, attributes(node)["axis"])
    known: dict[tuple[bytes, tuple[int, ...]], str] = {}
    renamed: dict[str, str] = {}
    for name, array in made.items():
        renamed[name] = known.setdefault((array.tobytes(), array.shape), name)
        if renamed[name] == name:
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    for each in graphs(graph):
        kept = [node for node in each.node if not (node.op_type == "Concat" and node.output[0] in made)]
        for node in kept:
            for index, name in enumerate(node.input):
                node.input[index] = renamed.get(name, name)
        del each.node[:]
        each.node.extend(kept)
    return bool(made)


def _constant(node: NodeProto, stored: dict[str, TensorProto]) -> bool:
    known = len(node.input) > 2 and all(not name or name in stored for name in node.input)
    return known and stored[node.input[0]].data_type in _FLOATS


def _piece(node: NodeProto, stored: dict[str, TensorProto]) -> Array:
    array = values(stored[node.input[0]])
    starts, ends, axes, steps = ([int(x) for x in values(stored[n]).reshape(-1)] if n else [] for n in _padded(node))
    cuts = [slice(None)] * array.ndim
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        step = steps[index] if steps else 1
        # The least number that there is stands for everything to the front.
        last = None if step < 0 and end < -array.shape[axes[index] if axes else index] else end
        cuts[axes[index] if axes else index] = slice(start, last, step)
    return array[tuple(cuts)]


def _padded(node: NodeProto) -> list[str]:
    return [*node.input[1:], "", ""][:4]
