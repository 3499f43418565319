"""Checkpoints from strangers: none of them may hurt, and what is wrong is said."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from models.compression import archive
from models.compression.archive import Archive, ArchiveError
from models.compression.base import CompressionError
from models.compression.checkpoint import CheckpointError, parse, read
from models.errors import ManifestError
from models.package import ModelPackage
from ops.errors import DeepThinError
from tests.compression import networks
from tests.compression.jobs import Desk, zipped
from tests.support import tiny_graph, tiny_manifest


def changed(change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = networks.feed_forward()
    change(model)
    return model.SerializeToString()


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def hidden_external(model: onnx.ModelProto) -> None:
    tensor = helper.make_tensor("c", TensorProto.FLOAT, [1], [0.0])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    body = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "body", [], [])
    model.graph.node.append(helper.make_node("If", ["features"], ["q"], then_branch=body, else_branch=body))


def shorter(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def enormous(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 40]


def negative(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [-1, 48]


def sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.name = "layer0.weight"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "empty one"),
        (b"not a model at all", "not an ONNX model"),
        (pickle.dumps({"weight": [1.0]}), "pickle, which is never opened"),
        (changed(lambda model: None)[:-100], "not an ONNX model|breaks the rules|bytes where"),
        (changed(external), "external data"),
        (changed(hidden_external), "external data"),
        (changed(shorter), "bytes where its shape takes"),
        (changed(enormous), "bytes where its shape takes"),
        (changed(negative), "negative axis"),
        (changed(sparse), "sparse"),
        (changed(lambda model: model.graph.node[0].input.__setitem__(0, "nowhere")), "breaks the rules"),
        (changed(lambda model: setattr(model.graph.node[0], "op_type", "Frobnicate")), "breaks the rules.*Frobnicate"),
    ],
)
def test_bad_onnx_files_are_named(data: bytes, complaint: str):
    with pytest.raises(CheckpointError, match=complaint):
        parse(data)


def test_a_zip_posing_as_onnx_is_named():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    with pytest.raises(CheckpointError, match="PyTorch checkpoint, which is never opened"):
        parse(buffer.getvalue())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_model_is_an_error_or_a_model(data: st.DataObject):
    original = bytearray(networks.feed_forward(sizes=(4, 3, 2)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CheckpointError):
        parse(bytes(original))


@pytest.mark.parametrize(("value", "complaint"), [(np.nan, "are not numbers"), (-np.inf, "are not finite")])
def test_numbers_that_are_none_are_named(tmp_path: Path, value: float, complaint: str):
    def poison(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        array = onnx.numpy_helper.to_array(tensor).copy()
        array[0, 0] = value
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))

    with pytest.raises(CheckpointError, match=rf"layer0\.weight holds values that {complaint}"):
        Desk(tmp_path, changed(poison)).run(method="dense")


def member(name: str, content: bytes = b"x", **changes: int) -> Callable[[zipfile.ZipFile], None]:
    def add(file: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        for key, value in changes.items():
            setattr(info, key, value)
        info.compress_type = changes.get("compress_type", zipfile.ZIP_DEFLATED)
        file.writestr(info, content)

    return add


@pytest.mark.parametrize(
    ("add", "complaint"),
    [
        (member("../evil"), "path that is not allowed"),
        (member("/etc/evil"), "path that is not allowed"),
        (member("a/../../evil"), "path that is not allowed"),
        (member("a\\..\\evil"), "path that is not allowed"),
        (member("c:evil"), "path that is not allowed"),
        (member("link", b"/etc/passwd", external_attr=0o120777 << 16), "link or device"),
        (member("bomb", bytes(50 << 20)), "zip bomb"),
        (member("odd", compress_type=zipfile.ZIP_LZMA), "only deflate"),
    ],
)
def test_hostile_zip_files_are_refused(tmp_path: Path, add: Callable[[zipfile.ZipFile], None], complaint: str):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        add(file)
    with pytest.raises(ArchiveError, match=complaint):
        Archive(tmp_path / "x.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_a_member_that_lies_about_its_size_is_cut_off(tmp_path: Path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(1 << 20))
    data = bytearray(path.read_bytes())
    size = (1 << 20).to_bytes(4, "little")
    while (at := data.find(size)) >= 0:
        data[at : at + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    with Archive(path) as opened, pytest.raises(ArchiveError):
        opened.extract(tmp_path / "out")
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*")) <= 1000 + archive._CHUNK


def test_too_many_members_and_bytes_are_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for number in range(20):
            file.writestr(str(number), b"12345")
    with pytest.raises(ArchiveError, match="20 members"):
        Archive(tmp_path / "x.zip", max_members=10)
    with pytest.raises(ArchiveError, match="100 bytes"):
        Archive(tmp_path / "x.zip", max_bytes=99)


def test_a_damaged_zip_file_is_named(tmp_path: Path):
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 nothing more")
    with pytest.raises(ArchiveError, match=r"x\.zip is not a zip file"):
        Archive(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as file:
        file.writestr("a", zlib.compress(bytes(1000)))
    data = (tmp_path / "y.zip").read_bytes().replace(b"\x78\x9c", b"\x00\x00", 1)
    (tmp_path / "y.zip").write_bytes(data)
    with Archive(tmp_path / "y.zip") as opened, pytest.raises(ArchiveError, match="a of the zip file"):
        opened.read("a", 1000)


def test_a_package_is_read_with_and_without_a_folder_around_it(tmp_path: Path):
    package = ModelPackage.save(tmp_path / "models", tiny_manifest("tiny"), tiny_graph(recurrent=False))
    for number, root in enumerate((package.path, package.path.parent)):
        folder = tmp_path / str(number)
        folder.mkdir()
        zipped(root, folder / "checkpoint.zip")
        found = read(folder)
        assert found.manifest == package.manifest
        assert len(found.model.graph.initializer) == 2


def split(path: Path, *, name: str = "net/model.onnx", location: str = "weights.data", **reference: str) -> None:
    """A zip file of a network and, beside it, a file with the weights of its layers."""
    model = networks.feed_forward()
    content = b"head"
    for tensor in model.graph.initializer:
        given = {"location": location, "offset": str(len(content)), "length": str(len(tensor.raw_data)), **reference}
        content += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in given.items():
            tensor.external_data.add(key=key, value=value)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, model.SerializeToString())
        file.writestr("net/weights.data", content)
        file.writestr("secret", bytes(1 << 10))


def test_weights_in_files_of_the_package_are_taken_in(tmp_path: Path):
    split(tmp_path / "checkpoint.zip")
    found = read(tmp_path)
    assert found.manifest is None
    assert found.model.SerializeToString() == networks.feed_forward().SerializeToString()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"location": "../secret"}, "no file of the package"),
        ({"location": "/etc/passwd"}, "no file of the package"),
        ({"location": "a\\b"}, "no file of the package"),
        ({"location": ""}, "no file of the package"),
        ({"location": "other"}, r"has no net/other"),
        ({"name": "model.onnx"}, "has no weights.data"),
        ({"offset": "1000000"}, "bytes 1000000 to"),
        ({"length": "99999999"}, "which has"),
        ({"offset": "-4"}, "no number of bytes"),
        ({"length": "1e3"}, "no number of bytes"),
        ({"length": "8"}, "bytes where its shape takes"),
    ],
    ids=str,
)
def test_weights_elsewhere_are_not(tmp_path: Path, changes: dict[str, str], complaint: str):
    split(tmp_path / "checkpoint.zip", **changes)
    with pytest.raises(CompressionError, match=complaint):
        read(tmp_path)


def test_many_tensors_of_one_part_of_a_file_count_each(tmp_path: Path):
    split(tmp_path / "checkpoint.zip", offset="0", length="12000")
    with pytest.raises(CompressionError, match="more than 20000 bytes of other files"):
        read(tmp_path, max_bytes=20_000)


def test_a_zip_that_is_no_package_says_what_it_has(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "checkpoint.zip", "w") as file:
        file.writestr("data.pkl", b"x")
    with pytest.raises(CheckpointError, match=r"this zip file has data\.pkl"):
        read(tmp_path)
    with zipfile.ZipFile(tmp_path / "checkpoint.zip", "w") as file:
        file.writestr("manifest.json", b"{}")
        file.writestr("model.onnx", b"x")
    with pytest.raises(ManifestError):
        read(tmp_path)


def test_the_size_is_limited_and_there_is_one_checkpoint(tmp_path: Path):
    with pytest.raises(CheckpointError, match="there are 0"):
        read(tmp_path)
    (tmp_path / "checkpoint.onnx").write_bytes(changed(lambda model: None))
    with pytest.raises(CheckpointError, match="1000 are allowed"):
        read(tmp_path, max_bytes=1000)
    (tmp_path / "checkpoint.zip").write_bytes(b"")
    with pytest.raises(CheckpointError, match="there are 2"):
        read(tmp_path)


def test_what_onnx_runtime_cannot_open_is_an_error_of_the_checkpoint(tmp_path: Path):
    # The rules of ONNX allow it; the shapes do not fit each other.
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = networks.model([node], {"w": networks.random(20, 24)}, {"x": [3, 19]}, {"y": [3, 24]})
    with pytest.raises(CheckpointError, match="ONNX Runtime cannot open the network"):
        Desk(tmp_path, model).run(method="dense")


def test_every_failure_is_an_error_of_the_library(tmp_path: Path):
    assert issubclass(ArchiveError, CompressionError) and issubclass(CheckpointError, DeepThinError)
