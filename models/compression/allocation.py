"""Sharing out bytes among the weights of a network, so that the network's output suffers least."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot, log
from typing import Final

import numpy as np

from models.compression.base import CompressionError, Plan, SizeError, output_error, relative_error
from models.compression.calibrate import Moments
from models.compression.network import Layer, Network
from models.compression.planning import plan, rounds_inputs
from models.compression.registry import METHODS, method

SIZES: Final = (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.006, 0.004, 0.002)
DEFAULT: Final = ("deepthin", "low-rank", "pruned-csr", "deep-compression", "int8", "int4")
"""Methods that a search tries when it is given none: fast to try, and each best at some size."""

_MOST: Final = 1 - 1e-4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to store one weight.

    Attributes:
        plan: what is stored; None: the weight as it is.
        bytes: on disk.
        error: of the layer's output (without calibration: of the weight), relative.
    """

    plan: Plan | None
    bytes: int
    error: float


def candidates(
    network: Network,
    layer: Layer,
    names: Sequence[str],
    moments: Moments | None,
    dense_bytes: int,
    trying: Callable[[float, str], None],
) -> list[Candidate]:
    """Ways to store a weight, by bytes, those that another beats in bytes and error left out.

    Errors are those of a compression that knows nothing of the data, measured on the data: quick, and in the right
    order. `trying` is called before each with the share that is done and the method's name.
    """
    weight = network.weight(layer)
    found = [Candidate(None, dense_bytes, 0.0)]
    seen: set[tuple[str, int]] = set()
    tried = names or [name for name in DEFAULT if name in METHODS]
    for number, name in enumerate(tried):
        chosen = method(name)
        for step, size in enumerate(SIZES):
            trying((number + step / len(SIZES)) / len(tried), name)
            try:
                planned = plan(chosen, layer, size)
            except (SizeError, CompressionError):
                continue
            if (name, planned.disk_bytes) in seen or planned.disk_bytes >= dense_bytes:
                continue
            seen.add((name, planned.disk_bytes))
            approximation = chosen.decompress(chosen.compress(weight, planned))
            if moments is None:
                error = relative_error(weight, approximation)
            else:
                error = output_error(weight, approximation, moments.calibration())
                if rounds_inputs(chosen):
                    error = hypot(error, moments.rounded_error(weight, approximation))
            found.append(Candidate(planned, planned.disk_bytes, error))
    found.sort(key=lambda candidate: (candidate.bytes, candidate.error))
    front: list[Candidate] = []
    for candidate in found:
        if not front or candidate.error < front[-1].error:
            front.append(candidate)
    return front


def allocate(
    options: Mapping[str, Sequence[Candidate]], importance: Mapping[str, float], budget: int
) -> dict[str, Candidate]:
    """The candidate of each weight that makes the sum of importance times `loss` smallest within `budget` bytes.

    Starting from the smallest candidates, the step up that gains most by byte is taken as long as one fits (which is
    optimal on the convex hulls of the options, but for the last step).

    Raises:
        CompressionError: the smallest candidates together are larger; the message says how large.
    """
    hulls = {name: _hull(front, importance[name]) for name, front in options.items()}
    at = dict.fromkeys(hulls, 0)
    spent = sum(hull[0].bytes for hull in hulls.values())
    if spent > budget:
        raise CompressionError(
            f"the weights cannot be stored in {budget} bytes: the smallest that was found is {spent}"
        )
    blocked: set[str] = set()
    while True:
        best, best_rate = None, -1.0
        for name, hull in hulls.items():
            if name in blocked or at[name] + 1 >= len(hull):
                continue
            here, there = hull[at[name]], hull[at[name] + 1]
            rate = importance[name] * (loss(here.error) - loss(there.error)) / (there.bytes - here.bytes)
            if rate > best_rate:
                best, best_rate = name, rate
        if best is None:
            return {name: hull[at[name]] for name, hull in hulls.items()}
        step = hulls[best][at[best] + 1].bytes - hulls[best][at[best]].bytes
        if spent + step > budget:
            blocked.add(best)
        else:
            at[best] += 1
            spent += step


def loss(error: float) -> float:
    """What a relative error costs the network: its square where it is small, and ever more towards one.

    Layers come one after the other, so that what is left of the signal is a product over them, whose logarithm is a
    sum. By the squares alone it would pay to give up whole layers.
    """
    return -log(1.0 - min(error**2, _MOST))


def _hull(front: Sequence[Candidate], importance: float) -> list[Candidate]:
    """The lower convex hull of (bytes, importance times loss)."""
    hull: list[Candidate] = []
    for candidate in front:
        while len(hull) >= 2:
            a, b = hull[-2], hull[-1]
            slope = importance * np.array([loss(a.error) - loss(b.error), loss(b.error) - loss(candidate.error)])
            if slope[0] * (candidate.bytes - b.bytes) < slope[1] * (b.bytes - a.bytes):
                hull.pop()
            else:
                break
        hull.append(candidate)
    return hull
