"""Does the exported model compute what it should: fused against reference arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from models.compression.base import CompressionError, Plan
from models.compression.bodies import places
from models.compression.feeds import Feed
from ops import library

TOLERANCE: Final = 1e-3
"""Largest root mean squared difference of an output by its spread, for methods that keep fp32 inputs.

Sums of some thousand fp32 products in another order differ by 1e-6 or so, a dozen layers by 1e-5, and nets that
amplify (steep sigmoids, long recurrences) by 1e-4. A transposed, shifted or forgotten operand differs by .1 and more.
"""

ROUNDED: Final[Mapping[str, float]] = dict.fromkeys(
    ("int8", "int4", "int4-compact", "int3-compact", "int2-compact"), 0.03
)
"""Share that a layer may add to the difference where the method also rounds its inputs to 8 bits when it runs.

Eight bits over the range of a whole tensor leave an error of about 1 / (255 · sqrt(12)) of that range, .1 to .3% of it,
and ranges are 5 to 10 times the spread. Layers' errors add up as squares.
"""


_RESOLUTION: Final = 1e-4
"""Least spread that an output is taken to have: a sigmoid far from its middle gives a few times 2^-25, more or less."""

_LEAVE_OUT: Final = "by rules, leave layers out whose inputs are small but for a few, often convolutions"
_ADVICE: Final = {
    "DynamicQuantizeLinear": "; int8 rounds the inputs of a layer to 8 bits over their whole range: "
    f"{_LEAVE_OUT}, or take int4-compact for them",
    "MatMulNBits": f"; the inputs of a layer are rounded to 8 bits in blocks: {_LEAVE_OUT}",
}
"""What to do about inputs that are rounded, by the operator that does it."""


class ParityError(CompressionError):
    """The exported model computes something else than the weights that it stands for."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the exported model is from the reference.

    Attributes:
        difference: root mean squared difference by the spread of the reference's values, of the worst output.
        tolerance: what was allowed.
        output: the worst output.
        runs: how many inputs were compared.
    """

    difference: float
    tolerance: float
    output: str
    runs: int


def tolerance(plans: Mapping[str, Plan]) -> float:
    """What is allowed for these weights."""
    rounded = sum(ROUNDED.get(plan.method, 0.0) ** 2 for plan in plans.values())
    return TOLERANCE + float(np.sqrt(rounded))


def check(
    exported: onnx.ModelProto, reference: onnx.ModelProto, feeds: Sequence[Feed], allowed: float, *, threads: int = 1
) -> Parity:
    """Run both models on `feeds` and compare all outputs.

    Raises:
        ParityError: an output differs by more than `allowed`, or in shape, or is not finite where the other is.
        CompressionError: the exported model does not run.
    """
    try:
        fused = library.session(exported.SerializeToString(), threads=threads)
    except Exception as error:  # ONNX Runtime's exceptions share no base class.
        raise ParityError(f"the exported model cannot be opened: {error}") from error
    plain = library.session(reference.SerializeToString(), threads=threads)
    names = [value.name for value in plain.get_outputs()]
    squares: dict[str, list[float]] = {name: [0.0, 0.0, 0.0, 0.0] for name in names}
    for feed in feeds:
        wanted = plain.run(names, dict(feed))
        try:
            found = fused.run(names, dict(feed))
        except Exception as error:
            raise ParityError(f"the exported model does not run: {error}") from error
        for name, one, other in zip(names, found, wanted, strict=True):
            _add(squares[name], name, one, other)
    worst = Parity(0.0, allowed, names[0], len(feeds))
    for name, (wrong, count, total, square) in squares.items():
        if not count:
            continue
        spread = max(square / count - (total / count) ** 2, 0.0)
        level = square / count
        # An output that hardly varies is compared by its level instead.
        scale = max(spread if spread > 1e-12 * level else level, _RESOLUTION**2)
        difference = float(np.sqrt(wrong / count / scale))
        if difference > worst.difference:
            worst = Parity(difference, allowed, name, len(feeds))
    if worst.difference > allowed:
        raise ParityError(
            f"the exported model is not what was compressed: output {worst.output} differs by {worst.difference:.2e} "
            f"of its spread from the reference; {allowed:.2e} is allowed"
            + next((_ADVICE[op] for op in _operators(exported) if op in _ADVICE), "")
        )
    return worst


def _operators(model: onnx.ModelProto) -> list[str]:
    return [place.node.op_type for place in places(model.graph)]


def _add(sums: list[float], name: str, found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> None:
    if found.shape != wanted.shape:
        raise ParityError(f"output {name} of the exported model is {found.shape} where it should be {wanted.shape}")
    if not np.issubdtype(np.asarray(wanted).dtype, np.floating):
        return
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(found)):
        raise ParityError(f"output {name} of the exported model has other values that are not finite")
    one, other = found[finite].astype(np.float64), wanted[finite].astype(np.float64)
    sums[0] += float(np.square(one - other).sum())
    sums[1] += one.size
    sums[2] += float(other.sum())
    sums[3] += float(np.square(other).sum())
