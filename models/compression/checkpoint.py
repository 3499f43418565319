"""Reading checkpoints from strangers: ONNX files, model packages and safetensors, none of which can run code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from models.compression.archive import Archive
from models.compression.base import CompressionError
from models.compression.bodies import inner_graphs
from models.compression.external import take_in
from models.compression.joined import join
from models.package import GRAPH_FILE, MANIFEST_FILE, Manifest, parse_manifest

MAX_BYTES: Final = 1 << 30
"""Largest checkpoint, unpacked."""

NAMES: Final = ("checkpoint.onnx", "checkpoint.zip", "checkpoint.safetensors")
CONFIG_NAME: Final = "config.toml"

_MAX_MANIFEST: Final = 1 << 20
_MAX_NODES: Final = 200_000
_MAX_CALLS: Final = 100  # functions that call each other, one inside the other


class CheckpointError(CompressionError):
    """A checkpoint that is damaged, of an unknown kind, or not allowed."""


Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that has passed the checks.

    Attributes:
        model: the network, all weights inside.
        manifest: what the package (or the training configuration) says about it; None for a bare network.
        bytes: size of the file that was read.
        files: the files of a package that are not one network alone, by name; its networks are joined in `model`.
    """

    model: onnx.ModelProto
    manifest: Manifest | None
    bytes: int
    files: Files = field(default_factory=dict)


def read(folder: Path, *, max_bytes: int = MAX_BYTES) -> Checkpoint:
    """The checkpoint in a job's folder: the one file of `NAMES` that is there.

    Raises:
        CheckpointError: none or several of them are there, or it cannot be used; the message says why.
        ManifestError: the manifest of a package is wrong.
    """
    found = [name for name in NAMES if (folder / name).is_file()]
    if len(found) != 1:
        raise CheckpointError(f"one checkpoint is needed, as one of {', '.join(NAMES)}; there are {len(found)}")
    path = folder / found[0]
    size = path.stat().st_size
    if size > max_bytes:
        raise CheckpointError(f"the checkpoint has {size} bytes; {max_bytes} are allowed")
    if path.suffix == ".onnx":
        return Checkpoint(parse(path.read_bytes()), None, size)
    if path.suffix == ".zip":
        model, manifest, files = _package(path, max_bytes)
        return Checkpoint(model, manifest, size, files)
    from models.compression.tensors import read_safetensors

    model, manifest = read_safetensors(path, folder / CONFIG_NAME)
    check(model)
    return Checkpoint(model, manifest, size)


def parse(data: bytes) -> onnx.ModelProto:
    """The ONNX model in `data`, checked.

    Raises:
        CheckpointError: it is not one, is damaged, or refers to other files.
    """
    model = _parsed(data)
    check(model)
    return model


def check(model: onnx.ModelProto) -> None:
    """Check a model without running it.

    Raises:
        CheckpointError: it refers to other files, a tensor does not have the bytes of its shape, or it breaks ONNX's
            rules.
    """
    nodes = 0
    for graph in _graphs(model):
        nodes += len(graph.node)
        if nodes > _MAX_NODES:
            raise CheckpointError(f"the network has more than {_MAX_NODES} nodes")
        if graph.sparse_initializer:
            raise CheckpointError("the network has sparse initialisers, which are not supported: make them dense")
        _check_text(graph)
    _check_functions(model)
    for tensor in _tensors(model):
        _check_tensor(tensor)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise CheckpointError(f"the checkpoint breaks the rules of ONNX: {error}") from error
    except Exception as error:  # Serialising a model that is too large for one message raises others.
        raise CheckpointError(f"the checkpoint cannot be checked: {error}") from error


def _parsed(data: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise CheckpointError(f"the checkpoint is not an ONNX model{_looks_like(data)}") from error
    if not model.graph.node:
        raise CheckpointError(f"the checkpoint is not an ONNX model, or an empty one{_looks_like(data)}")
    return model


def _package(path: Path, max_bytes: int) -> tuple[onnx.ModelProto, Manifest | None, dict[str, bytes]]:
    with Archive(path, max_bytes=max_bytes, max_members=64) as archive:
        names = archive.names()
        manifests = [name for name in names if name.split("/")[-1] == MANIFEST_FILE]
        networks = [name for name in names if name.endswith(".onnx")]
        if not manifests and len(networks) == 1:
            return _with_files(archive, networks[0], max_bytes), None, {}
        if len(manifests) != 1 or manifests[0].count("/") > 1:
            raise CheckpointError(
                f"a model package has one {MANIFEST_FILE} and one {GRAPH_FILE}, in one folder at most; without a "
                f"manifest there is one .onnx file; this zip file has {', '.join(names[:8]) or 'nothing'}"
            )
        manifest = parse_manifest(archive.read(manifests[0], _MAX_MANIFEST))
        folder = manifests[0].removesuffix(MANIFEST_FILE)
        if missing := [name for name in manifest.files if folder + name not in names]:
            raise CheckpointError(f"the package of family {manifest.family!r} has no {', '.join(missing)}")
        read = {name: _with_files(archive, folder + name, max_bytes) for name in manifest.networks}
        model = join(manifest, read)
        if manifest.files == (GRAPH_FILE,):
            return model, manifest, {}
        check(model)
        files = {name: archive.read(folder + name, max_bytes) for name in manifest.files if name not in read}
        return model, manifest, files | {name: network.SerializeToString() for name, network in read.items()}


def _with_files(archive: Archive, name: str, max_bytes: int) -> onnx.ModelProto:
    """The network in a member of a zip file, with the weights that it keeps in other members beside it."""
    model = _parsed(archive.read(name, max_bytes))
    folder = name[: name.rfind("/") + 1]
    take_in(_tensors(model), lambda location: archive.read(folder + location, max_bytes), max_bytes)
    check(model)
    return model


def _check_functions(model: onnx.ModelProto) -> None:
    """See that functions, put in the place of their calls, come to an end and to no giant network."""
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    open_calls: list[tuple[str, str]] = []

    def size(nodes: Iterable[onnx.NodeProto]) -> int:
        calls = Counter((node.domain, node.op_type) for node in _nodes(nodes))
        return sum(count * (function_size(call) if call in functions else 1) for call, count in calls.items())

    def function_size(call: tuple[str, str]) -> int:
        if call in open_calls or len(open_calls) > _MAX_CALLS:
            raise CheckpointError(f"function {call[1]!r} of the network calls itself, or others too many times over")
        if call not in sizes:
            open_calls.append(call)
            sizes[call] = size(functions[call].node)
            open_calls.pop()
        return sizes[call]

    if functions and size(model.graph.node) > _MAX_NODES:
        raise CheckpointError(f"the network has more than {_MAX_NODES} nodes once its functions are put in place")


def _check_text(graph: onnx.GraphProto) -> None:
    # Protocol buffers give what is no UTF-8 as bytes; on it ONNX's checker fails in ways that Python's version decides.
    for node in graph.node:
        names = (node.op_type, node.domain, node.name, *node.input, *node.output)
        if any(isinstance(name, bytes) for name in names):
            label = node.name or node.op_type
            raise CheckpointError(f"the network has a name that is no text in UTF-8, in node {label!r}")


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for inner in inner_graphs(node):
            yield from _nodes(inner.node)


def _looks_like(data: bytes) -> str:
    if data[:2] == b"PK":
        return ": it looks like a zip file, or like a PyTorch checkpoint, which is never opened; export it to ONNX"
    if data[:1] == b"\x80":
        return ": it looks like a pickle, which is never opened; export the network to ONNX"
    if data[:4] == b"\x89HDF":
        return ": it looks like HDF5; export the network to ONNX"
    return ""


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    waiting = [model.graph]
    for function in model.functions:
        for node in function.node:
            waiting.extend(inner_graphs(node))
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            waiting.extend(inner_graphs(node))


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    nodes = [node for function in model.functions for node in function.node]
    for graph in _graphs(model):
        yield from graph.initializer
        nodes.extend(graph.node)
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise CheckpointError(f"node {node.name or node.op_type!r} has a sparse tensor, which is not supported")


def _check_tensor(tensor: TensorProto) -> None:
    name = tensor.name or "a constant"
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise CheckpointError(
            f"{name} is kept in another file (external data): put all weights into the .onnx "
            "file, or send a .zip of it and the files beside it"
        )
    if any(size < 0 for size in tensor.dims):
        raise CheckpointError(f"{name} has a negative axis")
    if tensor.HasField("raw_data") and tensor.data_type != TensorProto.STRING:
        try:
            width = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{name} has an unknown element type {tensor.data_type}") from error
        expected = width
        for size in tensor.dims:
            expected *= int(size)
        # Types narrower than a byte are packed.
        if len(tensor.raw_data) > expected or (len(tensor.raw_data) < expected and tensor.data_type in _WHOLE):
            raise CheckpointError(f"{name} has {len(tensor.raw_data)} bytes where its shape takes {expected}")


_WHOLE: Final = frozenset(
    getattr(TensorProto, name)
    for name in ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8", "BOOL")
)


def values_are_finite(model: onnx.ModelProto) -> None:
    """Check that no array holds a NaN; masks may be infinite.

    Raises:
        CheckpointError: one does; the message names it.
    """
    for tensor in model.graph.initializer:
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
            array = onnx.numpy_helper.to_array(tensor)
            if array.size > 1 and np.isnan(array).any():
                raise CheckpointError(f"{tensor.name} holds values that are not numbers")
