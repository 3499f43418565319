"""Timing one-node models in sessions with the same options, in turn.

In every round each side first runs untimed (its caches warm up, the other side's threads go to sleep) and then timed; a
figure is the least of the medians of windows, so that what else a shared machine does for a while is in none. Times
include what a call to a session costs, on all sides.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ops import graph
from ops.library import session

Float = NDArray[np.float32]

# ONNX Runtime's threads wait for work for some 40 ms and keep a core busy with it. A core that slept is slow for 10 ms.
_PAUSE, _AWAKE = 0.05, 0.03

# Seconds. Neighbours on a shared processor were seen to slow a core down for .1 to 16 ms at a time, each core by
# itself: two of them are seldom left alone for longer than this.
_WINDOW = 0.0015
# Fewer calls have no median to speak of; where so many take longer than this, a window may have fewer.
_CALLS, _LONGEST = 3, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One stored matrix against the dense one.

    Attributes:
        op: Operator measured.
        Q, R: Shape of the weight matrix.
        batch: Rows per call.
        threads: Intra-op threads of both sessions.
        baseline: What it is compared with.
        seconds, baseline_seconds: Time of a call, the least of the windows' medians.
        speedup: The second divided by the first.
    """

    op: str
    Q: int
    R: int
    batch: int
    threads: int
    baseline: str
    seconds: float
    baseline_seconds: float
    speedup: float


def compare(
    side: int, models: Sequence[bytes], batches: Sequence[int], threads: Sequence[int], rounds: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Time models of one square matrix against ONNX Runtime's own fp32 MatMul.

    Yields:
        The place in `models`, and the values of all attributes of a `Comparison` but `op`.
    """
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((side, side), np.float32)
    for count in threads:
        dense, candidates = session(dense_model(weight), threads=count), [session(m, threads=count) for m in models]
        for batch in batches:
            x = rng.standard_normal((batch, side), np.float32)
            baseline = bound_call(dense, x, side)
            for place, candidate in enumerate(candidates):
                calls = [bound_call(candidate, x, side), baseline]
                seconds, baseline_seconds = time_in_turn(calls, rounds, threads=count)
                yield (
                    place,
                    {
                        "Q": side,
                        "R": side,
                        "batch": batch,
                        "threads": count,
                        "baseline": f"onnxruntime {ort.__version__} MatMul fp32",
                        "seconds": seconds,
                        "baseline_seconds": baseline_seconds,
                        "speedup": baseline_seconds / seconds,
                    },
                )


@contextmanager
def cores_of_their_own(threads: int) -> Iterator[dict[str, str]]:
    """Settings of sessions whose threads each run on another core, with the calling thread on the first one.

    A thread that is woken while something runs on the other core starts behind the thread that woke it, on the same
    core, until the system moves it. No settings where there are too few cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 1 < threads <= len(cores):
        yield {}
        return
    os.sched_setaffinity(0, cores[:1])
    try:
        # ONNX Runtime counts cores from 1, and leaves the calling thread alone.
        yield {"session.intra_op_thread_affinities": ";".join(str(core + 1) for core in cores[1:threads])}
    finally:
        os.sched_setaffinity(0, cores)


def time_in_turn(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    *,
    threads: int = 1,
) -> list[float]:
    """Seconds of a call, for each of the calls, by a clock: the least median of the windows that its turns consist of.

    ``time.thread_time`` is a clock for sessions of one thread on a machine that does other things as well. Sessions of
    more ``threads`` take longer turns, with a pause before each until the last session's threads sleep.
    """
    medians: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, found in zip(calls, medians, strict=True):
            if threads > 1:
                time.sleep(_PAUSE)
            _times(call, 0.003 if threads == 1 else _AWAKE, clock)
            end = clock() + (0.005 if threads == 1 else 0.03)
            while clock() < end:
                found.append(median(_times(call, _WINDOW, clock, fewest=_CALLS)))
    return [min(found) for found in medians]


def time_cold(calls: Sequence[tuple[Callable[[], object], Callable[[], object]]], rounds: int) -> list[float]:
    """Median seconds of a call that finds none of its matrix in the caches, for each of the calls.

    Args:
        calls: Each with one of the same operators and a small matrix, which keeps the way through Python, the runtime
            and the operators' code warm, as the other layers of a network would.
        rounds: Timed calls of each.
    """
    # Twice the largest last-level cache that a core of today's servers shares, or more.
    filler = np.zeros(1 << 24, np.float32)
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for (call, small), found in zip(calls, times, strict=True):
            np.add(filler, 1, out=filler)
            for _ in range(3):
                small()
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
    return [median(found) for found in times]


def _times(call: Callable[[], object], at_least: float, clock: Callable[[], float], *, fewest: int = 1) -> list[float]:
    """Seconds of each of as many calls as take ``at_least`` seconds together, and of `fewest` if these are short."""
    found: list[float] = []
    end = clock() + at_least
    start = 0.0
    while start < end or (len(found) < fewest and start < end + _LONGEST):
        start = clock()
        call()
        found.append(clock() - start)
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
