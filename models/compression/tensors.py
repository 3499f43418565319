"""Checkpoints of our own families as tensors: `.safetensors` and the training configuration that belongs to it.

Tensors have the names and shapes of the PyTorch networks in `models.families`; PyTorch itself is not needed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from pydantic import BaseModel, ConfigDict, ValidationError

from models.compression.base import CompressionError
from models.compression.builder import OnnxBuilder
from models.decoding.lexicon import UNITS
from models.families.dimensions import DeepSpeechConfig, TfKaldiConfig
from models.features import FrontEnd, FrontEndError
from models.package import Manifest, State

Tensors = Mapping[str, npt.NDArray[np.float32]]

_OPSET: Final = 17
_END: Final = int(np.iinfo(np.int64).max)
_LARGEST_CONFIG: Final = 1 << 20


class TensorsError(CompressionError):
    """A safetensors checkpoint or its configuration that cannot be used."""


class ConfigError(TensorsError):
    """A configuration that is missing or cannot be read."""


class _Config(BaseModel):
    # The other tables of a training configuration say how the network was trained, which does not matter here.
    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    family: Literal["tfkaldi", "deepspeech"]
    description: str = ""
    front_end: dict[str, Any] = {}
    tfkaldi: TfKaldiConfig = TfKaldiConfig()  # type: ignore[call-arg]
    deepspeech: DeepSpeechConfig = DeepSpeechConfig()  # type: ignore[call-arg]


def read_safetensors(path: Path, config: Path) -> tuple[onnx.ModelProto, Manifest]:
    """The network of a safetensors file as an ONNX model, and its manifest.

    Args:
        path: the tensors.
        config: the training configuration (TOML): `name`, `family`, `[front_end]` and the family's dimensions.

    Raises:
        ConfigError: the configuration is missing or wrong.
        TensorsError: the file is damaged, or a tensor is missing, left over, or of another shape.
    """
    settings = _read_config(config)
    try:
        front_end = FrontEnd.from_dict(settings.front_end)
    except FrontEndError as error:
        raise ConfigError(f"{config.name}: front_end: {error}") from error
    tensors = _Tensors(_read_tensors(path))
    graph = _Graph(tensors)
    if settings.family == "tfkaldi":
        dims = settings.tfkaldi
        left = dims.context + dims.wide_context * dims.subsampling
        subsampling, logits = dims.subsampling, graph.tfkaldi(dims, front_end.dim)
    else:
        (time1, _), (time2, _) = settings.deepspeech.kernels
        left = time1 // 2 + time2 // 2 * settings.deepspeech.subsampling
        subsampling, logits = settings.deepspeech.subsampling, graph.deepspeech(settings.deepspeech, front_end.dim)
    tensors.check_all_used()
    try:
        manifest = Manifest(
            name=settings.name,
            family=settings.family,
            description=settings.description,
            sample_rate=front_end.sample_rate,
            front_end=front_end.to_dict(),
            units=UNITS,
            subsampling=subsampling,
            left_context=left,
            right_context=left,
            states=tuple(graph.states),
            weights={"parameters": 0, "dense_parameters": 0, "disk_bytes": 0, "resident_bytes": 0},  # type: ignore[arg-type]
        )
    except ValidationError as error:
        raise ConfigError(f"{config.name}: {error.errors(include_url=False)[0]['msg']}") from error
    return graph.model(logits, front_end.dim), manifest


def _read_config(path: Path) -> _Config:
    if not path.is_file():
        raise ConfigError(f"a .safetensors checkpoint needs its training configuration, {path.name}")
    if path.stat().st_size > _LARGEST_CONFIG:
        raise ConfigError(f"{path.name} is larger than {_LARGEST_CONFIG} bytes")
    try:
        return _Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path.name} is not TOML: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False)]
        raise ConfigError(f"{path.name}: {'; '.join(lines)}") from error


def _read_tensors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    from safetensors import SafetensorError, safe_open

    found = {}
    try:
        with safe_open(str(path), framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                found[name] = np.ascontiguousarray(file.get_tensor(name))
    except (SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
        raise TensorsError(f"the safetensors file cannot be read: {error}") from error
    wrong = [name for name, array in found.items() if array.dtype not in (np.float32, np.float16, np.float64)]
    if wrong:
        raise TensorsError(f"tensor {wrong[0]} is {found[wrong[0]].dtype}; floating-point numbers are needed")
    return {name: array.astype(np.float32) for name, array in found.items()}


class _Tensors:
    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._used: set[str] = set()

    def take(self, name: str, *shape: int) -> npt.NDArray[np.float32]:
        if name not in self._tensors:
            if any(".parametrizations." in other for other in self._tensors):
                raise TensorsError(
                    f"tensor {name} is missing: the checkpoint is compressed already; use its dense parent"
                )
            raise TensorsError(f"tensor {name} is missing; the file has {', '.join(sorted(self._tensors)[:12])}")
        found = self._tensors[name]
        if found.shape != shape:
            raise TensorsError(f"tensor {name} is {list(found.shape)} where the configuration makes it {list(shape)}")
        self._used.add(name)
        return found

    def check_all_used(self) -> None:
        if left := sorted(set(self._tensors) - self._used):
            raise TensorsError(f"the file has tensors that the configuration does not: {', '.join(left[:12])}")


class _Graph:
    def __init__(self, tensors: _Tensors) -> None:
        self._tensors = tensors
        self._builder = OnnxBuilder({"features", "log_probs"})
        self.states: list[State] = []

    def tfkaldi(self, dims: TfKaldiConfig, bins: int) -> str:
        """The logits of `models.families.tfkaldi`."""
        x = self._splice("features", 2 * dims.context + 1, dims.subsampling)
        activation = {"relu": "Relu", "sigmoid": "Sigmoid"}[dims.activation]
        sizes = [(2 * dims.context + 1) * bins, *dims.hidden]
        for number, (Q, R) in enumerate(pairwise(sizes)):
            x = self._linear(f"hidden.{number}", x, Q, R, activation)
        width = 2 * dims.wide_context + 1
        x = self._splice(self._linear("bottleneck", x, sizes[-1], dims.bottleneck), width)
        sizes = [width * dims.bottleneck, *dims.top]
        for number, (Q, R) in enumerate(pairwise(sizes)):
            x = self._linear(f"top.{number}", x, Q, R, "Relu")
        return self._linear("output", x, sizes[-1], len(UNITS))

    def deepspeech(self, dims: DeepSpeechConfig, bins: int) -> str:
        """The logits of `models.families.deepspeech`."""
        builder = self._builder
        x = builder.node("Unsqueeze", ["features", builder.integers(1)])
        low, high = (builder.constant(f"limit{value}", np.asarray(value, np.float32)) for value in (0, 20))
        channels = (1, *dims.channels)
        for number, (time, frequency) in enumerate(dims.kernels):
            weight = self._weight(f"conv.{number}.weight", channels[number + 1], channels[number], time, frequency)
            bias = self._weight(f"conv.{number}.bias", channels[number + 1])
            reach = frequency // 2
            strides = [dims.subsampling if number == 0 else 1, 2]
            x = builder.node("Conv", [x, weight, bias], strides=strides, pads=[0, reach, 0, reach])
            x = builder.node("Clip", [x, low, high])
        x = builder.node("Transpose", [x], perm=[0, 2, 1, 3])
        x = builder.node("Reshape", [x, builder.integers(0, 0, -1)])
        sizes = [channels[-1] * ((bins + 3) // 4)] + [dims.hidden] * dims.layers
        for number, (inputs, hidden) in enumerate(pairwise(sizes)):
            x = self._gru(f"rnn.{number}", x, inputs, hidden)
        x = self._linear("top", x, dims.hidden, dims.top, "Relu")
        return self._linear("output", x, dims.top, len(UNITS))

    def model(self, logits: str, bins: int) -> onnx.ModelProto:
        """The whole model."""
        self._builder.rename(self._builder.node("LogSoftmax", [logits], axis=-1), "log_probs")
        value = helper.make_tensor_value_info
        inputs = [value("features", TensorProto.FLOAT, ["batch", "frames", bins])]
        outputs = [value("log_probs", TensorProto.FLOAT, ["batch", "out_frames", len(UNITS)])]
        for state in self.states:
            inputs.append(value(state.input, TensorProto.FLOAT, ["batch", *state.shape]))
            outputs.append(value(state.output, TensorProto.FLOAT, ["batch", *state.shape]))
        graph = helper.make_graph(self._builder.nodes, "network", inputs, outputs, self._builder.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)

    def _weight(self, name: str, *shape: int) -> str:
        return self._builder.constant(name, self._tensors.take(name, *shape))

    def _linear(self, name: str, x: str, Q: int, R: int, activation: str = "") -> str:
        weight = self._builder.constant(f"{name}.weight", self._tensors.take(f"{name}.weight", R, Q).T)
        y = self._builder.node("Add", [self._builder.node("MatMul", [x, weight]), self._weight(f"{name}.bias", R)])
        return self._builder.node(activation, [y]) if activation else y

    def _splice(self, x: str, width: int, stride: int = 1) -> str:
        builder = self._builder
        parts = []
        for offset in range(width):
            ends = builder.integers(offset - width + 1 or _END)
            inputs = [x, builder.integers(offset), ends, builder.integers(1), builder.integers(stride)]
            parts.append(builder.node("Slice", inputs))
        return builder.node("Concat", parts, axis=2)

    def _gru(self, name: str, x: str, inputs: int, hidden: int) -> str:
        builder, tensors = self._builder, self._tensors
        state = State(input=f"{name}.state", output=f"{name}.state_out", shape=(hidden,))
        self.states.append(state)
        sides = (("ih", inputs), ("hh", hidden))
        weights = [
            builder.constant(
                f"{name}.weight_{side}", _gates(tensors.take(f"{name}.weight_{side}", 3 * hidden, size))[None]
            )
            for side, size in sides
        ]
        biases = [_gates(tensors.take(f"{name}.bias_{side}", 3 * hidden)) for side, _ in sides]
        bias = builder.constant(f"{name}.bias", np.concatenate(biases)[None])
        time_first = builder.node("Transpose", [x], perm=[1, 0, 2])
        initial = builder.node("Unsqueeze", [state.input, builder.integers(0)])
        y = builder.node(
            "GRU", [time_first, *weights, bias, "", initial], outputs=2, hidden_size=hidden, linear_before_reset=1
        )
        builder.rename(builder.node("Squeeze", [f"{y}.1", builder.integers(0)]), state.output)
        return builder.node("Transpose", [builder.node("Squeeze", [y, builder.integers(1)])], perm=[1, 0, 2])


def _gates(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """PyTorch's gate blocks r, z, n in ONNX's order z, r, h."""
    reset, update, new = np.split(values, 3)
    return np.concatenate([update, reset, new])


__all__: Sequence[str] = ("ConfigError", "TensorsError", "read_safetensors")
