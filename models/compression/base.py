"""The seam between the compression methods and everything that uses them.

A method turns one weight matrix ``W`` of shape ``Q x R`` (Q inputs, R outputs, ``Y = X · W``) into a few arrays that
take fewer bytes. A convolution's kernel ``[N, C, ...]`` counts as the matrix of all the taps of each output channel:
``Q`` is ``C`` times the taps, ``R`` is ``N``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ops.errors import DeepThinError

_DAMPING: Final = 0.01

Matrix = npt.NDArray[np.float32]
Array = npt.NDArray[Any]

RankWish = int | Literal["fastest"]
"""A rank, or that one (with all that goes with it) is chosen for the least time on this processor."""


class CompressionError(DeepThinError, ValueError):
    """A compression that cannot be done as asked."""


class SizeError(CompressionError):
    """A relative size that a weight cannot have; the message names the reachable range."""


class StreamError(CompressionError):
    """A transport stream that is truncated, corrupted or of another kind."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of one or more compressed weights; indices, codebooks and tables are part of each figure.

    Attributes:
        transport: as an entropy-coded stream, for download.
        disk: as initialisers in an ONNX file.
        resident: as an inference session keeps them, with the copies that the operators pack for themselves.
    """

    transport: int
    disk: int
    resident: int

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(self.transport + other.transport, self.disk + other.disk, self.resident + other.resident)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a method will store for one weight.

    Attributes:
        method: name of the method.
        Q: rows of the weight (inputs of the layer).
        R: columns of the weight (outputs of the layer).
        disk_bytes: bytes of the arrays that will be stored, exactly.
        geometry: the method's own numbers, such as n, m and r, for reports and for `compress`; JSON values.
    """

    method: str
    Q: int
    R: int
    disk_bytes: int
    geometry: Mapping[str, int | float | str] = field(default_factory=dict)

    @property
    def relative_size(self) -> float:
        """Bytes stored by the bytes of the dense fp32 matrix."""
        return self.disk_bytes / (4 * self.Q * self.R)


def damping(rows: int, Q: int) -> float:
    """The share of its mean diagonal to add to a second moment of `rows` inputs, [Q, Q], before it is relied on.

    Errors are put where the rows say that nothing comes in. Where they are not many times Q, that is true of themselves
    alone: on other recordings, shares of .15 to .5 of Q by `rows` were best, for rows of .12, .5 and 6 times Q.
    """
    return max(_DAMPING, Q / (4 * rows)) if rows else _DAMPING


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a layer's inputs look like on calibration data.

    A method given this minimises the error of the layer's output, ``trace((W - V)' · moment · (W - V))``, instead of
    the plain error of the weight. Where the inputs come from layers that are compressed already, the caller has
    replaced the weight by the one that does best on those inputs.

    Attributes:
        moment: float64 [Q, Q], mean of the outer products ``x' · x`` of the input rows.
        rows: how many input rows were averaged.
    """

    moment: npt.NDArray[np.float64]
    rows: int

    def damped(self, share: float | None = None) -> npt.NDArray[np.float64]:
        """`moment` with at least `share` of its mean diagonal added to the diagonal, so that it can be inverted.

        `damping` says how much that is where no share is given.

        Inputs that hardly vary leave little but rounding errors when their mean is taken off; it takes more then.
        """
        share = damping(self.rows, len(self.moment)) if share is None else share
        extra = max(share * float(np.trace(self.moment)) / len(self.moment), 1e-12)
        while True:
            moment: npt.NDArray[np.float64] = self.moment + extra * np.eye(len(self.moment))
            try:
                np.linalg.cholesky(moment)
            except np.linalg.LinAlgError:
                if not np.isfinite(self.moment).all():
                    raise
                extra *= 10
            else:
                return moment


@dataclass(frozen=True, slots=True)
class Compressed:
    """One compressed weight.

    Attributes:
        plan: what was asked for.
        arrays: what is stored, by name; `plan.disk_bytes` is the sum of their bytes.
        relative_error: Frobenius norm of the weight's error by that of the weight.
        output_error: the same for the layer's output on the calibration data; None without any.
    """

    plan: Plan
    arrays: Mapping[str, Array]
    relative_error: float
    output_error: float | None = None


class GraphBuilder(Protocol):
    """Adds to an ONNX graph; both methods return the name of the (first) output."""

    def constant(self, name: str, values: Array) -> str:
        """Add an initialiser called `name` or, if that is taken, something like it."""
        ...

    def node(self, op: str, inputs: Sequence[str], *, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        """Add a node; further outputs have `.1`, `.2` ... behind the name of the first."""
        ...

    def prepared(self, key: str, make: Callable[[GraphBuilder], str]) -> str:
        """What `make` adds, from constants alone, to the outermost graph: a session computes it once, when it starts.

        It is added once for each `key`, however many nodes read it, in whatever bodies.
        """
        ...


class Method(Protocol):
    """One way to store a weight matrix.

    Attributes:
        name: as users write it, such as `low-rank`.
        summary: one line of what it does.
        source: where it is from.
    """

    name: str
    summary: str
    source: str

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """Smallest and largest relative size that a Q x R weight can have."""
        ...

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """The plan whose size is nearest to the wish without exceeding it.

        Raises:
            SizeError: no plan is that small; the message names the reachable range.
        """
        ...

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Compress `weight` [Q, R] as planned."""
        ...

    def decompress(self, compressed: Compressed) -> Matrix:
        """The dense weight [Q, R] that the arrays stand for: the reference, never used for inference."""
        ...

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add the layer ``x · W + bias`` to a graph, running on the compressed arrays.

        Args:
            compressed: the weight.
            builder: the graph.
            name: the weight's name, for the names of the initialisers.
            x: name of the input, of shape [..., Q].
            bias: name of the bias [R], if there is one.

        Returns:
            The name of the output, of shape [..., R].
        """
        ...

    def resident_bytes(self, compressed: Compressed) -> int:
        """Bytes that an inference session keeps for the exported weight."""
        ...

    def encode(self, compressed: Compressed) -> bytes:
        """The arrays as a self-contained, entropy-coded stream."""
        ...

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The arrays of a stream that `encode` made for `plan`, bit for bit.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        ...


@runtime_checkable
class ConvMethod(Protocol):
    """What a `Method` has besides, where a compressed convolution is convolutions again.

    The weight is the matrix [Q, R] of the kernel [N, C, ...]: ``kernel.reshape(N, -1).T``.
    """

    def plan_conv(self, shape: Sequence[int], relative_size: float) -> Plan:
        """The plan for a kernel of `shape` [N, C, ...].

        Raises:
            SizeError: no plan is that small; the message names the reachable range.
            CompressionError: the method takes no kernel of that shape.
        """
        ...

    def export_conv(
        self,
        compressed: Compressed,
        builder: GraphBuilder,
        name: str,
        x: str,
        bias: str | None,
        attributes: Mapping[str, Any],
    ) -> str:
        """Add the convolution of `x` [batch, C, ...] to a graph; arguments as of `Method.export`.

        Args:
            compressed: the weight.
            builder: the graph.
            name: the weight's name.
            x: name of the input.
            bias: name of the bias [N], if there is one.
            attributes: of the Conv node that is replaced; `kernel_shape` is among them.

        Returns:
            The name of the output [batch, N, ...].

        Raises:
            CompressionError: the method takes no convolution with these attributes.
        """
        ...


@runtime_checkable
class FastestMethod(Protocol):
    """What a `Method` has besides, where several geometries of a size differ in the time that they take."""

    def plan_fastest(self, Q: int, R: int, relative_size: float) -> Plan:
        """As `Method.plan`, with the geometry of about that size of which a row takes the least time here.

        Raises:
            SizeError: no plan is that small; the message names the reachable range.
        """
        ...


@runtime_checkable
class TableMethod(Protocol):
    """What a `Method` has besides, where columns of a compressed weight can be looked up without the others."""

    def export_lookup(self, compressed: Compressed, builder: GraphBuilder, name: str, indices: str) -> str:
        """Add what gives columns of the weight [Q, R] to a graph.

        Args:
            compressed: the weight.
            builder: the graph.
            name: the weight's name.
            indices: name of whole numbers [count], of columns.

        Returns:
            The name of the columns, [Q, count].
        """
        ...


def relative_error(weight: Matrix, approximation: Matrix) -> float:
    """Frobenius norm of the difference by that of `weight`; 0 for an exact copy of a zero matrix."""
    difference = float(np.linalg.norm(weight.astype(np.float64) - approximation))
    norm = float(np.linalg.norm(weight.astype(np.float64)))
    return difference / norm if norm > 0 else float(difference > 0)


def output_error(weight: Matrix, approximation: Matrix, calibration: Calibration) -> float:
    """Root of the mean squared error of the layer's output by that of the output itself."""

    def energy(matrix: npt.NDArray[np.float64]) -> float:
        return max(float(np.einsum("qr,qr->", matrix, calibration.moment @ matrix)), 0.0)

    error, total = energy(weight.astype(np.float64) - approximation), energy(weight.astype(np.float64))
    return float(np.sqrt(error / total)) if total > 0 else float(error > 0)


def finish(
    method: Method, weight: Matrix, plan: Plan, arrays: Mapping[str, Array], calibration: Calibration | None
) -> Compressed:
    """A `Compressed` with its errors measured on the weight that `method` gives back."""
    draft = Compressed(plan, arrays, 0.0)
    stored = sum(array.nbytes for array in arrays.values())
    if stored != plan.disk_bytes:
        raise CompressionError(f"{plan.method} stored {stored} bytes where {plan.disk_bytes} were planned")
    approximation = method.decompress(draft)
    measured = None if calibration is None else output_error(weight, approximation, calibration)
    return Compressed(plan, arrays, relative_error(weight, approximation), measured)
