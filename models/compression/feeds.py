"""What goes into a network: features of recordings where they fit, random values where nothing else is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from models.audio import Audio
from models.compression.base import Array, CompressionError
from models.features import FrontEnd
from models.package import Manifest
from ops import library

Feed = Mapping[str, Array]
"""A value for every input of a graph, as `InferenceSession.run` takes them."""

_FRAMES: Final = (64, 128, 16, 400, 1000)
_BATCHES: Final = ("batch", "batch_size", "n", "b", "bs")


@dataclass(frozen=True, slots=True)
class Inputs:
    """How recordings are put into a network.

    Attributes:
        name: the input that takes the features.
        front_end: what makes them.
        layout: axes of that input, a text of f (frames), d (dimension) and b (batch of one), such as "bfd".
        left: frames of context to add in front, by repeating the first.
        right: the same behind.
        others: the other inputs and their values.
        lengths: integer inputs that take the number of frames.
    """

    name: str
    front_end: FrontEnd
    layout: str
    left: int
    right: int
    others: Feed
    lengths: tuple[str, ...] = ()

    @property
    def sample_rate(self) -> int:
        """Samples a second of the recordings."""
        return self.front_end.sample_rate

    @property
    def logits(self) -> str | None:
        """None: the first output is that of a Softmax or LogSoftmax, or no distribution."""
        return None

    def of(self, audio: Audio) -> dict[str, Array] | None:
        """The feed for a recording."""
        return self.feed(self.front_end.extract(audio))

    def seconds(self, feed: Feed) -> float:
        """Seconds of audio in a feed."""
        axis = self.layout.index("f")
        return 0.01 * float(feed[self.name].shape[axis] - self.left - self.right)

    def feed(self, features: npt.NDArray[np.float32]) -> dict[str, Array]:
        """The feed for features [frames, dim] of one recording."""
        x = np.pad(features, ((self.left, self.right), (0, 0)), mode="edge")
        x = x if self.layout.replace("b", "") == "fd" else x.T
        x = x[None] if self.layout.startswith("b") else x
        lengths = {name: np.array([len(features)], np.int64) for name in self.lengths}
        return {self.name: np.ascontiguousarray(x, np.float32), **self.others, **lengths}


def inputs_for(model: onnx.ModelProto, manifest: Manifest | None, front_end: FrontEnd | None) -> Inputs | None:
    """How recordings go into `model`; None where no front end is known.

    Raises:
        CompressionError: the network has no input that takes such features; the message lists its inputs.
    """
    if manifest is not None and manifest.front_end is not None and manifest.family != "network":
        states = {state.input: np.zeros((1, *state.shape), np.float32) for state in manifest.states}
        left, right = manifest.left_context, manifest.right_context
        return Inputs("features", manifest.features, "bfd", left, right, states)
    if front_end is None and manifest is not None and manifest.front_end is not None:
        front_end = manifest.features
    if front_end is None:
        return None
    fitting: list[tuple[str, str]] = []
    for value in given(model):
        shape = _shape(value)
        layout = _layout(shape, front_end.dim) if value.type.tensor_type.elem_type == TensorProto.FLOAT else None
        if layout is not None:
            fitting.append((value.name, layout))
    if len(fitting) != 1:
        raise CompressionError(
            f"the front end gives {front_end.dim} values a frame, which {len(fitting) or 'no'} inputs of the network "
            f"take: {describe(model)}"
        )
    name, layout = fitting[0]
    others, lengths = {}, []
    for value in given(model):
        if value.name == name:
            continue
        sizes = [size if isinstance(size, int) else 1 for size in _shape(value)]
        kind = value.type.tensor_type.elem_type
        if kind in (TensorProto.INT64, TensorProto.INT32) and len(sizes) == 1 and "len" in value.name.lower():
            lengths.append(value.name)
        else:
            others[value.name] = np.zeros(sizes, onnx.helper.tensor_dtype_to_np_dtype(kind))
    left, right = (manifest.left_context, manifest.right_context) if manifest is not None else (0, 0)
    return Inputs(name, front_end, layout, left, right, others, tuple(lengths))


def random_feeds(model: onnx.ModelProto, count: int, seed: int = 0) -> list[dict[str, Array]]:
    """Feeds of normally distributed values that the network accepts; axes of any size get sizes that work.

    Raises:
        CompressionError: the network fails on everything that was tried; the message has ONNX Runtime's.
    """
    session = library.session(model.SerializeToString())
    complaint = "it has no inputs"
    for frames in _FRAMES:
        for integer in (0, frames, 1):
            generator = np.random.default_rng(seed)
            feeds = [_random(model, frames, integer, generator) for _ in range(count)]
            try:
                session.run(None, feeds[0])
            except Exception as error:  # ONNX Runtime's exceptions share no base class.
                complaint = str(error).splitlines()[0]
                continue
            return feeds
    raise CompressionError(f"the network does not run on random inputs ({describe(model)}): {complaint}")


def describe(model: onnx.ModelProto) -> str:
    """The inputs of a network for people."""
    parts = []
    for value in given(model):
        kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
        parts.append(f"{value.name} {kind}[{', '.join(str(size) for size in _shape(value))}]")
    return "; ".join(parts) or "no inputs"


def given(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that callers fill; old files list the weights among their inputs too."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else (dim.dim_param or "?")
        for dim in value.type.tensor_type.shape.dim
    ]


def _layout(shape: Sequence[int | str], dim: int) -> str | None:
    free = [not isinstance(size, int) for size in shape]
    if len(shape) == 2 and shape[1] == dim and free[0]:
        return "fd"
    if len(shape) == 3 and (free[0] or shape[0] == 1):
        if shape[2] == dim and free[1]:
            return "bfd"
        if shape[1] == dim and free[2]:
            return "bdf"
    return None


def _random(model: onnx.ModelProto, frames: int, integer: int, generator: np.random.Generator) -> dict[str, Array]:
    feed: dict[str, Any] = {}
    for value in given(model):
        shape = []
        for axis, size in enumerate(_shape(value)):
            known = size if isinstance(size, int) else None
            if known is None:
                first = axis == 0 and len(value.type.tensor_type.shape.dim) > 2
                known = 1 if first or str(size).lower() in _BATCHES else frames
            shape.append(known)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if np.issubdtype(dtype, np.floating):
            feed[value.name] = generator.standard_normal(shape).astype(dtype)
        else:
            feed[value.name] = np.full(shape, integer, dtype)
    return feed
