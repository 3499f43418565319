"""A whole model package as one bitstream, `.dtz`, made to be small on the way and exact on arrival.

Compressed layers travel as the streams of their own methods, from which their initialisers are made again; all other
initialisers are coded without loss, and what is left of the graph and the manifest is deflated:

    magic | manifest | graph | directory | other initialisers | stream of each layer ... | CRC-32 of all before

The graph of a package of several files is each of its networks, then its other files, each with its size in front.

Each part has its size in front of it, as four bytes, little-endian. The directory says which initialiser comes from
which array or exported constant of which layer. The manifest inside does not say how long the bitstream is.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.compression.base import Array, Compressed, CompressionError, Plan, StreamError
from models.compression.builder import OnnxBuilder
from models.compression.bundle import bundle, unbundle
from models.compression.coding import LARGEST, decode_arrays, encode_arrays
from models.compression.registry import method
from models.errors import ManifestError
from models.package import MANIFEST_FILE, Manifest, ModelPackage, manifest_text, parse_manifest

_MAGIC: Final = b"dtz\x01"
_SIZE: Final = struct.Struct("<I")
_LARGEST_MANIFEST: Final = 1 << 20
_LARGEST_GRAPH: Final = 1 << 26  # its initialisers are not in it
_LARGEST_DIRECTORY: Final = 1 << 24
# Shapes and other small constants are cheaper within the deflated graph.
_SMALL: Final = 64
_TYPES: Final = frozenset(
    (
        *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BOOL),
        *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
        *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
    )
)

LayerStream = tuple[str, Plan, bytes]
"""Name of the method, plan, and what `Method.encode` made."""


@dataclass(frozen=True, slots=True)
class LayerPart:
    """One compressed layer of a bitstream.

    Attributes:
        name: the layer's name.
        plan: how it is stored.
        bytes: size of its stream.
    """

    name: str
    plan: Plan
    bytes: int


@dataclass(frozen=True, slots=True)
class Description:
    """What a bitstream is made of, in bytes.

    Attributes:
        name: the model's name.
        bytes: the whole bitstream.
        manifest: the deflated manifest.
        graph: the deflated graph without its initialisers.
        directory: the deflated directory.
        others: initialisers that are of no compressed layer.
        layers: the compressed layers.
    """

    name: str
    bytes: int
    manifest: int
    graph: int
    directory: int
    others: int
    layers: tuple[LayerPart, ...]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Place(_Strict):
    # `source` is the name of an array of the layer, or the number of a constant that its method exports.
    tensor: int = Field(ge=0)
    source: str | int


class _Entry(_Strict):
    name: str
    method: str
    Q: int = Field(gt=0, le=LARGEST)
    R: int = Field(gt=0, le=LARGEST)
    disk_bytes: int = Field(ge=0, le=LARGEST)
    geometry: dict[str, int | float | str]
    places: tuple[_Place, ...] = Field(min_length=1)

    @property
    def plan(self) -> Plan:
        return Plan(self.method, self.Q, self.R, self.disk_bytes, self.geometry)


class _Directory(_Strict):
    layers: tuple[_Entry, ...]
    others: tuple[int, ...]  # tensors of the stream of other initialisers
    check: int  # CRC-32 of the values of all tensors that were taken out


def pack(folder: Path | str, compressed: Mapping[str, LayerStream]) -> bytes:
    """The package in `folder` as one bitstream.

    Args:
        folder: the package.
        compressed: the streams of its compressed layers, by layer; initialisers that none of them gives are coded as
            they are, and so is a layer whose stream would not be smaller.

    Raises:
        PackageError: there is no valid package.
        StreamError: one of the streams is not what its plan says.
        CompressionError: the graph is no ONNX model, or keeps values in other files.
    """
    package = ModelPackage.load(folder)
    models = [_model(package.path / name) for name in package.manifest.networks]
    tensors = [tensor for model in models for tensor in _tensors(model.graph)]
    values = {index: _values(tensor) for index, tensor in enumerate(tensors) if _is_taken(tensor)}
    entries, streams = _layers(values, compressed)
    given = {place.tensor for entry in entries for place in entry.places}
    others = sorted(set(values) - given)
    directory = _Directory(layers=tuple(entries), others=tuple(others), check=_check(values))
    for index in values:
        _empty(tensors[index])
    stream = _join(
        zlib.compress(manifest_text(package.manifest.with_transport_bytes(None)), 9),
        zlib.compress(bundle(package, [model.SerializeToString(deterministic=True) for model in models]), 9),
        zlib.compress(directory.model_dump_json().encode(), 9),
        encode_arrays({str(index): values[index] for index in others}),
        *streams,
    )
    _restored(stream)  # whoever unpacks it has no original to compare with
    return stream


def unpack(stream: bytes, folder: Path | str) -> ModelPackage:
    """Write the package of a bitstream under `folder`, in a folder of the model's name.

    Its manifest says how long the bitstream is.

    Raises:
        StreamError: the bitstream is truncated, corrupted or something else, declares more than it may, or was made by
            a version whose methods export other values.
    """
    manifest, files = _restored(stream)
    return ModelPackage.save(folder, manifest.with_transport_bytes(len(stream)), files)


def note_size(folder: Path | str) -> ModelPackage:
    """Write into the manifest of the package in `folder` how long its bitstream is.

    Raises:
        PackageError, CompressionError: as `pack`.
    """
    package = ModelPackage.load(folder)
    manifest = package.manifest.with_transport_bytes(len(pack(folder, {})))
    (package.path / MANIFEST_FILE).write_bytes(manifest_text(manifest))
    return ModelPackage(package.path, manifest)


def describe(stream: bytes) -> Description:
    """The parts of a bitstream and their sizes; no layer is decoded.

    Raises:
        StreamError: as `unpack`.
    """
    parts = _split(stream)
    directory = _directory(parts)
    try:
        name = parse_manifest(_inflate(parts[0], _LARGEST_MANIFEST)).name
    except ManifestError as error:
        raise StreamError(f"the manifest in the bitstream is not valid: {error}") from error
    layers = tuple(
        LayerPart(entry.name, entry.plan, len(part)) for entry, part in zip(directory.layers, parts[4:], strict=True)
    )
    manifest, graph, names, others = map(len, parts[:4])
    return Description(name, len(stream), manifest, graph, names, others, layers)


def _layers(values: Mapping[int, Array], compressed: Mapping[str, LayerStream]) -> tuple[list[_Entry], list[bytes]]:
    """Directory entries and streams of the layers that are worth it."""
    free: dict[tuple[str, bytes], list[int]] = {}
    for index, array in values.items():
        free.setdefault(_key(array), []).append(index)
    entries, streams = [], []
    for name, (method_name, plan, stream) in compressed.items():
        if method_name != plan.method:
            raise CompressionError(f"layer {name!r} is said to be {method_name} and its plan is of {plan.method}")
        places = [
            _Place(tensor=index, source=source)
            for source, array in _sources(name, plan, stream, constants=True).items()
            for index in free.get(_key(array), ())
        ]
        places = list({place.tensor: place for place in reversed(places)}.values())
        taken = {str(place.tensor): values[place.tensor] for place in places}
        if not places or len(stream) >= len(encode_arrays(taken)):
            continue
        for array in taken.values():
            free.pop(_key(array), None)
        entries.append(_Entry(name=name, places=tuple(places), **asdict(plan)))
        streams.append(stream)
    return entries, streams


def _sources(name: str, plan: Plan, stream: bytes, *, constants: bool) -> dict[str | int, Array]:
    """The arrays of a layer's stream by name and, if asked for, the constants that its method exports, by number.

    Raises:
        StreamError: the stream is broken or not what the plan says.
    """
    try:
        chosen = method(plan.method)
        arrays = chosen.decode(stream, plan)
        sources: dict[str | int, Array] = dict(arrays.items())
        # What is for convolutions alone stores the kernels that it exports.
        if constants and not getattr(chosen, "only_convolutions", False):
            builder = OnnxBuilder()
            chosen.export(Compressed(plan, arrays, 0.0), builder, "weight", "x", None)
            sources |= {number: numpy_helper.to_array(tensor) for number, tensor in enumerate(builder.initializers)}
    except StreamError as error:
        raise StreamError(f"layer {name!r}: {error}") from error
    except (CompressionError, ArithmeticError, IndexError, KeyError, TypeError, ValueError) as error:
        # A plan from a hostile stream may hold any numbers; a method may stumble over them in its own way.
        raise StreamError(f"layer {name!r} is not what its plan says: {error!r}") from error
    return sources


def _model(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(path.read_bytes())
    except DecodeError as error:
        raise CompressionError(f"{path} is not an ONNX model") from error


def _restored(stream: bytes) -> tuple[Manifest, dict[str, bytes | Path]]:
    """Manifest and files of a bitstream."""
    parts = _split(stream)
    directory = _directory(parts)
    try:
        manifest = parse_manifest(_inflate(parts[0], _LARGEST_MANIFEST))
    except ManifestError as error:
        raise StreamError(f"the manifest in the bitstream is not valid: {error}") from error
    files = unbundle(manifest, _inflate(parts[1], _LARGEST_GRAPH))
    models: dict[str, onnx.ModelProto] = {}
    try:
        for name in manifest.networks:
            models[name] = onnx.ModelProto()
            models[name].ParseFromString(files[name])
    except DecodeError as error:
        raise StreamError("the graph in the bitstream is not an ONNX model") from error
    tensors = [tensor for model in models.values() for tensor in _tensors(model.graph)]
    values: dict[int, Array] = {}
    others = decode_arrays(parts[3])
    if sorted(others) != sorted(map(str, directory.others)):
        raise StreamError("the directory of the bitstream does not fit its other initialisers")
    for index in directory.others:
        values[index] = others[str(index)]
    for entry, part in zip(directory.layers, parts[4:], strict=True):
        numbered = any(isinstance(place.source, int) for place in entry.places)
        sources = _sources(entry.name, entry.plan, part, constants=numbered)
        for place in entry.places:
            if place.source not in sources or place.tensor in values:
                raise StreamError(f"layer {entry.name!r} does not fit the directory of the bitstream")
            values[place.tensor] = sources[place.source]
    for index, array in values.items():
        if index >= len(tensors):
            raise StreamError("the directory of the bitstream names an initialiser that the graph does not have")
        _fill(tensors[index], array)
    if _check(values) != directory.check:
        raise StreamError("the bitstream was made by a version of DeepThin whose methods export other values")
    whole: dict[str, bytes | Path] = {**files}
    return manifest, whole | {name: model.SerializeToString(deterministic=True) for name, model in models.items()}


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """The initialisers of a graph and of the graphs in its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _tensors(inner)


def _is_taken(tensor: TensorProto) -> bool:
    if tensor.data_location == TensorProto.EXTERNAL:
        raise CompressionError(f"initialiser {tensor.name!r} keeps its values in another file")
    if tensor.data_type not in _TYPES:
        return False
    return int(np.prod(tensor.dims, dtype=object)) * _dtype(tensor).itemsize > _SMALL


def _dtype(tensor: TensorProto) -> np.dtype[Any]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))


def _values(tensor: TensorProto) -> Array:
    array: Array = numpy_helper.to_array(tensor)
    return array


def _empty(tensor: TensorProto) -> None:
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)


def _fill(tensor: TensorProto, array: Array) -> None:
    size = int(np.prod(tensor.dims, dtype=object))
    if tensor.data_type not in _TYPES or _dtype(tensor) != array.dtype or size != array.size:
        raise StreamError(f"initialiser {tensor.name!r} does not fit the values in the bitstream")
    _empty(tensor)
    tensor.raw_data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _key(array: Array) -> tuple[str, bytes]:
    return array.dtype.str, array.tobytes()


def _check(values: Mapping[int, Array]) -> int:
    crc = 0
    for index in sorted(values):
        array = values[index]
        crc = zlib.crc32(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(), crc)
    return crc


def _join(*parts: bytes) -> bytes:
    if any(len(part) >> 32 for part in parts):
        raise CompressionError("a part of the model is too large for a bitstream")
    body = _MAGIC + b"".join(_SIZE.pack(len(part)) + part for part in parts)
    return body + _SIZE.pack(zlib.crc32(body))


def _split(stream: bytes) -> list[bytes]:
    """Manifest, graph, directory, other initialisers, and the layers' streams."""
    if stream[: len(_MAGIC)] != _MAGIC:
        raise StreamError("not a DeepThin bitstream")
    end = len(stream) - _SIZE.size
    if end < len(_MAGIC) or _SIZE.pack(zlib.crc32(stream[:end])) != stream[end:]:
        raise StreamError("the bitstream is truncated or corrupted: its checksum does not fit")
    parts, position = [], len(_MAGIC)
    while position < end:
        if end - position < _SIZE.size:
            raise StreamError("the bitstream ends too early")
        (size,) = _SIZE.unpack_from(stream, position)
        position += _SIZE.size
        if size > end - position:
            raise StreamError("the bitstream ends too early")
        parts.append(stream[position : position + size])
        position += size
    if len(parts) < 4:
        raise StreamError("the bitstream lacks a part")
    return parts


def _directory(parts: Sequence[bytes]) -> _Directory:
    try:
        directory = _Directory.model_validate_json(_inflate(parts[2], _LARGEST_DIRECTORY))
    except ValidationError as error:
        raise StreamError("the directory of the bitstream is corrupted") from error
    if len(directory.layers) != len(parts) - 4:
        raise StreamError("the directory of the bitstream does not fit its layers")
    return directory


def _inflate(part: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(part, limit)
    except zlib.error as error:
        raise StreamError(f"a part of the bitstream is corrupted ({error})") from error
    if not inflater.eof or inflater.unused_data:
        raise StreamError(f"a part of the bitstream is incomplete or larger than {limit} bytes")
    return data
