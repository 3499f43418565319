"""Timing one-node models in sessions with the same options, in turn.

In every round each side first runs untimed (its caches warm up, the other side's threads go to sleep) and then timed; a
figure is the median over the calls of all rounds. Times include what a call to a session costs, on all sides.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ops import graph

Float = NDArray[np.float32]


def time_in_turn(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of a call, for each of the calls."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, found in zip(calls, times, strict=True):
            _times(call, at_least=0.003)
            found.extend(_times(call, at_least=0.005))
    return [median(found) for found in times]


def _times(call: Callable[[], object], at_least: float) -> list[float]:
    """Seconds of each of as many calls as take ``at_least`` seconds together."""
    found: list[float] = []
    end = time.perf_counter() + at_least
    start = 0.0
    while start < end:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def bound_call(ready: ort.InferenceSession, x: Float, outputs: int) -> Callable[[], object]:
    # Bound inputs and outputs keep the copies that Python would make out of both figures.
    binding = ready.io_binding()
    y = np.empty((len(x), outputs), np.float32)
    binding.bind_ortvalue_input("X", ort.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_output("Y", ort.OrtValue.ortvalue_from_numpy(y))
    return lambda: ready.run_with_iobinding(binding)


def dense_model(weight: Float) -> bytes:
    """ONNX Runtime's own fp32 MatMul with a constant weight [Q, R]."""
    Q, R = weight.shape
    return one_node_model(graph.node("MatMul", ["X", "W"], ["Y"]), Q, R, {"W": weight})


def one_node_model(node: bytes, Q: int, R: int, constants: Mapping[str, NDArray[Any]]) -> bytes:
    """A model of one node that takes X [rows, Q] and the constants to Y [rows, R]."""
    initializers = [graph.tensor(name, values) for name, values in constants.items()]
    return graph.model([node], [graph.value("X", ["rows", Q])], [graph.value("Y", ["rows", R])], initializers)
