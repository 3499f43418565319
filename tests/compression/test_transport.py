"""Whole models as one bitstream."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.compression.base import Compressed, CompressionError, Plan, StreamError
from models.compression.builder import OnnxBuilder
from models.compression.registry import method
from models.compression.transport import LayerStream, describe, note_size, pack, unpack
from models.package import ModelPackage
from tests.support import tiny_manifest

Q, R = 160, 120
SIZES = {"dense": 1.0, "deepthin": 0.05, "low-rank": 0.2, "pruned-csr": 0.3, "deep-compression": 0.1, "int8": 0.3}


def compressed(name: str, seed: int) -> Compressed:
    weight = np.random.default_rng(seed).normal(0, 0.1, (Q, R)).astype(np.float32)
    chosen = method(name)
    return chosen.compress(weight, chosen.plan(Q, R, SIZES[name]))


def layer_stream(weight: Compressed) -> LayerStream:
    return weight.plan.method, weight.plan, method(weight.plan.method).encode(weight)


def graph_of(layers: dict[str, Compressed], *, inner: bool = False) -> bytes:
    """Layers side by side, each with a bias of its own; `inner` puts them into the branch of an If."""
    builder = OnnxBuilder({"x"})
    outputs = []
    for index, (name, weight) in enumerate(layers.items()):
        bias = builder.constant(f"{name}.bias", np.linspace(index, index + 1, R, dtype=np.float32))
        outputs.append(method(weight.plan.method).export(weight, builder, name, "x", bias))
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, Q])]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    if not inner:
        graph = helper.make_graph(builder.nodes, "layers", given, made, builder.initializers)
    else:
        branch = helper.make_graph(builder.nodes, "branch", [], made, builder.initializers)
        node = helper.make_node(
            "If", ["on"], [f"{name}.out" for name in outputs], then_branch=branch, else_branch=branch
        )
        on = numpy_helper.from_array(np.array(True), "on")
        graph = helper.make_graph([node], "layers", given, [], [on])
    return helper.make_model(graph).SerializeToString()


def saved(folder: Path, graph: bytes) -> ModelPackage:
    return ModelPackage.save(folder, tiny_manifest("tiny-packed"), graph)


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from tensors(attribute.g)


def values(package: ModelPackage) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    found = [(tensor.name, numpy_helper.to_array(tensor)) for tensor in tensors(onnx.load(package.graph_file).graph)]
    return [(name, array.dtype.str, array.shape, array.tobytes()) for name, array in found]


@pytest.mark.parametrize("name", ["tiny-dense", "tiny-thin", "tiny-recurrent"])
def test_any_package_comes_back(home: Path, tmp_path: Path, name: str):
    package = ModelPackage.load(home / "models" / name)
    stream = pack(package.path, {})
    restored = unpack(stream, tmp_path / "out")
    assert restored.path == tmp_path / "out" / name
    assert restored.manifest == package.manifest.with_transport_bytes(len(stream))
    assert restored.graph_file.read_bytes() == package.graph_file.read_bytes()
    files = (package.graph_file, package.path / "manifest.json")
    assert len(stream) < sum(len(zlib.compress(file.read_bytes())) for file in files)


def test_the_manifest_says_how_long_the_bitstream_is(home: Path, tmp_path: Path):
    folder = home / "models" / "tiny-thin"
    noted = note_size(folder)
    stream = pack(folder, {})
    assert noted.manifest.weights.transport_bytes == len(stream)
    assert ModelPackage.load(folder).manifest == noted.manifest
    restored = unpack(stream, tmp_path / "out")
    assert restored.manifest == noted.manifest
    assert pack(restored.path, {}) == stream


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("inner", [False, True], ids=["graph", "branch"])
def test_compressed_layers_come_back_bit_for_bit(tmp_path: Path, name: str, inner: bool):
    layers = {"first": compressed(name, 0), "second": compressed(name, 1)}
    package = saved(tmp_path, graph_of(layers, inner=inner))
    restored = unpack(pack(package.path, {key: layer_stream(layer) for key, layer in layers.items()}), tmp_path / "out")
    assert values(restored) == values(package)
    assert restored.graph_file.read_bytes() == package.graph_file.read_bytes()


def test_the_methods_streams_are_what_travels(tmp_path: Path):
    layers = {"first": compressed("deep-compression", 0), "second": compressed("deep-compression", 1)}
    streams = {key: layer_stream(layer) for key, layer in layers.items()}
    package = saved(tmp_path, graph_of(layers))
    stream = pack(package.path, streams)
    assert all(part in stream for _, _, part in streams.values())
    parts = describe(stream)
    assert (parts.name, parts.bytes) == ("tiny-packed", len(stream))
    assert [(layer.name, layer.plan, layer.bytes) for layer in parts.layers] == [
        (key, plan, len(part)) for key, (_, plan, part) in streams.items()
    ]
    # What is described is all there is: sizes of the parts, magic and checksum.
    framed = parts.manifest + parts.graph + parts.directory + parts.others + sum(part.bytes for part in parts.layers)
    assert len(stream) == framed + 4 * (4 + len(parts.layers)) + 8


def test_a_stream_that_gives_no_initialiser_stays_at_home(tmp_path: Path):
    package = saved(tmp_path, graph_of({"first": compressed("low-rank", 0)}))
    stream = pack(package.path, {"other": layer_stream(compressed("low-rank", 5))})
    assert describe(stream).layers == ()
    assert values(unpack(stream, tmp_path / "out")) == values(package)


def test_values_in_typed_fields_and_odd_types_survive(tmp_path: Path):
    typed = helper.make_tensor("typed", TensorProto.FLOAT, [40], [0.5] * 40)
    text = helper.make_tensor("text", TensorProto.STRING, [2], [b"a" * 50, b"b" * 50])
    half = helper.make_tensor("half", TensorProto.BFLOAT16, [64], np.arange(64.0))
    package = saved(
        tmp_path, helper.make_model(helper.make_graph([], "g", [], [], [typed, text, half])).SerializeToString()
    )
    restored = onnx.load(unpack(pack(package.path, {}), tmp_path / "out").graph_file).graph.initializer
    assert numpy_helper.to_array(restored[0]).tolist() == [0.5] * 40
    assert list(restored[1:]) == [text, half]


def test_what_cannot_be_packed_is_refused(tmp_path: Path):
    layer = compressed("low-rank", 0)
    package = saved(tmp_path, graph_of({"first": layer}))
    name, plan, part = layer_stream(layer)
    with pytest.raises(CompressionError, match="its plan is of low-rank"):
        pack(package.path, {"first": ("dense", plan, part)})
    with pytest.raises(StreamError, match="'first'"):
        pack(package.path, {"first": (name, plan, part[:-1])})
    with pytest.raises(StreamError, match="'first'"):
        pack(package.path, {"first": (name, Plan(name, Q, R, plan.disk_bytes), part)})
    outside = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[99], data_location=TensorProto.EXTERNAL)
    external = saved(tmp_path, helper.make_model(helper.make_graph([], "g", [], [], [outside])).SerializeToString())
    with pytest.raises(CompressionError, match="another file"):
        pack(external.path, {})
    with pytest.raises(CompressionError, match="not an ONNX model"):
        pack(saved(tmp_path, b"\xff\xff\xff").path, {})


@pytest.fixture(scope="module")
def bitstream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    layers = {"first": compressed("deep-compression", 0), "second": compressed("pruned-csr", 1)}
    package = saved(tmp_path_factory.mktemp("package"), graph_of(layers))
    return pack(package.path, {key: layer_stream(layer) for key, layer in layers.items()})


def test_a_bitstream_cut_off_anywhere_is_refused(bitstream: bytes, tmp_path: Path):
    for end in range(0, len(bitstream), 7):
        for read in (lambda part: unpack(part, tmp_path), describe):
            with pytest.raises(StreamError):
                read(bitstream[:end])
    assert list(tmp_path.iterdir()) == []


def test_hostile_changes_behind_a_right_checksum_are_refused_or_seen(bitstream: bytes, tmp_path: Path):
    rng = np.random.default_rng(0)
    original = values(unpack(bitstream, tmp_path / "original"))
    body = bitstream[:-4]
    for place in rng.integers(4, len(body), 150):
        changed = bytearray(body)
        changed[place] ^= int(rng.integers(1, 256))
        hostile = bytes(changed) + zlib.crc32(changed).to_bytes(4, "little")
        try:
            assert values(unpack(hostile, tmp_path / "hostile")) == original
        except StreamError:
            continue


def part_of(bitstream: bytes, wanted: int, new: bytes) -> bytes:
    """The bitstream with one of its parts replaced, and the checksum made right."""
    parts, position = [], 4
    while position < len(bitstream) - 4:
        size = int.from_bytes(bitstream[position : position + 4], "little")
        parts.append(bitstream[position + 4 : position + 4 + size])
        position += 4 + size
    parts[wanted] = new
    body = bitstream[:4] + b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return body + zlib.crc32(body).to_bytes(4, "little")


@pytest.mark.parametrize("part", [0, 1, 2])
def test_deflate_bombs_are_refused(bitstream: bytes, tmp_path: Path, part: int):
    bomb = zlib.compress(bytes(1 << 27), 9)
    with pytest.raises(StreamError, match="larger than"):
        unpack(part_of(bitstream, part, bomb), tmp_path)


@pytest.mark.parametrize("name", ["../outside", "/outside", "..", ""])
def test_no_name_leads_out_of_the_folder(bitstream: bytes, tmp_path: Path, name: str):
    manifest = tiny_manifest("tiny-packed").model_dump_json().replace("tiny-packed", name).encode()
    with pytest.raises(StreamError, match="name"):
        unpack(part_of(bitstream, 0, zlib.compress(manifest)), tmp_path / "in")
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize(
    "change",
    [
        (b'"Q":160', b'"Q":16'),
        (b'"Q":160', b'"Q":1000000000'),
        (b'"method":"deep-compression"', b'"method":"dense"'),
        (b'"method":"deep-compression"', b'"method":"nonsense"'),
        (b'"geometry":{"', b'"geometry":{"x'),
        (b'"check":', b'"check":1'),
        (b'"tensor":', b'"tensor":9'),
        (b'"source":"symbols"', b'"source":77'),
        (b'"source":"symbols"', b'"source":"Z"'),
    ],
    ids=lambda change: f"{change[1].decode()}",
)
def test_a_directory_that_lies_is_refused(bitstream: bytes, tmp_path: Path, change: tuple[bytes, bytes]):
    position = 4
    for _ in range(2):
        position += 4 + int.from_bytes(bitstream[position : position + 4], "little")
    size = int.from_bytes(bitstream[position : position + 4], "little")
    directory = zlib.decompress(bitstream[position + 4 : position + 4 + size])
    assert change[0] in directory
    with pytest.raises(StreamError):
        unpack(part_of(bitstream, 2, zlib.compress(directory.replace(*change))), tmp_path)
    assert list(tmp_path.iterdir()) == []
