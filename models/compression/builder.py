"""Adding nodes and initialisers to an ONNX graph under names that nothing else has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from models.compression.base import Array


class OnnxBuilder:
    """Collects nodes and initialisers, to be put into a graph by the caller.

    Attributes:
        nodes: nodes added so far, in order.
        initializers: initialisers added so far.
        domains: operator domains of the nodes.
    """

    def __init__(self, taken: Collection[str] = ()) -> None:
        """`taken`: names that the graph has already."""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.domains: set[str] = set()
        self._taken = taken if isinstance(taken, set) else set(taken)
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._prepared: dict[str, str] = {}
        self._outermost = self

    def constant(self, name: str, values: Array) -> str:
        """Add an initialiser; values that are there already, bit for bit, are not stored a second time."""
        values = np.ascontiguousarray(values).reshape(np.shape(values))
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._known:
            self._known[key] = self._free(name)
            self.initializers.append(numpy_helper.from_array(values, self._known[key]))
        return self._known[key]

    def node(self, op: str, inputs: Sequence[str], *, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its first output, the others have `.1`, `.2` ... behind it."""
        name = self._free(f"{op.lower()}{len(self.nodes)}")
        names = [name] + [f"{name}.{index}" for index in range(1, outputs)]
        self._taken.update(names)
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, domain=domain, **attributes))
        self.domains.add(domain)
        return name

    def prepared(self, key: str, make: Callable[[OnnxBuilder], str]) -> str:
        """What `make` gives, which adds to the outermost graph, once for each `key`, from constants alone."""
        outer = self._outermost
        if key not in outer._prepared:
            outer._prepared[key] = make(outer)
        return outer._prepared[key]

    def body(self) -> OnnxBuilder:
        """A builder for the nodes of a body of this graph, whose constants go to this graph."""
        body = OnnxBuilder(self._taken)
        body.initializers, body.domains, body._known = self.initializers, self.domains, self._known
        body._outermost = self._outermost
        return body

    def name(self, wish: str) -> str:
        """A name that nothing else has."""
        return self._free(wish)

    def integers(self, *values: int) -> str:
        """A constant int64 vector."""
        return self.constant("ints", np.asarray(values, np.int64))

    def copy(self, node: onnx.NodeProto) -> None:
        """Add a node as it is."""
        self.nodes.append(node)
        self.domains.add(node.domain)

    def rename(self, old: str, new: str) -> None:
        """Give the value `old`, which a node added here makes, the name `new`."""
        for node in self.nodes:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == old:
                        names[index] = new

    def _free(self, name: str) -> str:
        free, number = name, 1
        while free in self._taken:
            number += 1
            free = f"{name}.{number}"
        self._taken.add(free)
        return free
