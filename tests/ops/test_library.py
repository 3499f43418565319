"""Finding and checking the compiled library: every way it can be wrong has its own message."""

import ctypes
import shutil
import struct
from pathlib import Path

import onnxruntime as ort
import pytest

from ops import library
from ops.errors import DeepThinError, LibraryMismatchError, LibraryMissingError


@pytest.fixture
def altered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the library that is the one used from now on."""
    copy = tmp_path / library.LIBRARY_NAME
    shutil.copy(library.library_path(), copy)
    monkeypatch.setenv("DEEPTHIN_OPS_LIBRARY", str(copy))
    return copy


def test_the_library_is_there_and_fits() -> None:
    path = library.library_path()
    library.check_library(path)
    assert "scalar" in library.available_instruction_sets()
    assert library.instruction_set() in library.available_instruction_sets()
    library.register(ort.SessionOptions())


def test_a_function_that_is_not_there_is_named() -> None:
    path = library.library_path()
    assert library.bind(path, {"ops_version": (ctypes.c_char_p, ())}).deepthin_ops_version()
    with pytest.raises(LibraryMismatchError, match="has no function deepthin_fly: reinstall"):
        library.bind(path, {"fly": (None, ())})


def test_a_copy_elsewhere_can_be_named(altered: Path) -> None:
    assert library.library_path() == altered
    library.register(ort.SessionOptions())


def test_a_named_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEEPTHIN_OPS_LIBRARY", str(tmp_path / "nowhere.so"))
    with pytest.raises(LibraryMissingError, match=r"DEEPTHIN_OPS_LIBRARY names .*nowhere\.so"):
        library.register(ort.SessionOptions())


def test_a_package_without_its_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DEEPTHIN_OPS_LIBRARY", raising=False)
    monkeypatch.setattr("ops.__path__", [str(tmp_path)])
    with pytest.raises(LibraryMissingError, match="reinstall the package") as caught:
        library.register(ort.SessionOptions())
    assert isinstance(caught.value, DeepThinError)
    assert isinstance(caught.value, ImportError)


def test_a_library_for_another_processor(altered: Path) -> None:
    machine = struct.unpack("<H", altered.read_bytes()[18:20])[0]
    foreign, name = (183, "aarch64") if machine != 183 else (62, "x86_64")
    content = bytearray(altered.read_bytes())
    content[18:20] = struct.pack("<H", foreign)
    altered.write_bytes(content)
    with pytest.raises(LibraryMismatchError, match=f"is built for {name}"):
        library.register(ort.SessionOptions())


@pytest.mark.parametrize("content", [b"", b"not a library at all, however long"])
def test_a_file_that_is_no_library(altered: Path, content: bytes) -> None:
    altered.write_bytes(content)
    with pytest.raises(LibraryMismatchError, match="is not a shared library"):
        library.register(ort.SessionOptions())


def test_a_damaged_library(altered: Path) -> None:
    altered.write_bytes(altered.read_bytes()[:400])
    with pytest.raises(LibraryMismatchError, match="cannot be loaded"):
        library.register(ort.SessionOptions())


def test_a_library_of_another_version(altered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "version", lambda _: "999.0")
    with pytest.raises(LibraryMismatchError, match=r"and the package is 999\.0"):
        library.register(ort.SessionOptions())


def test_an_onnx_runtime_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "__version__", "1.17.3")
    with pytest.raises(LibraryMismatchError, match=r"1\.17\.3 is too old .*>=1\.18"):
        library.register(ort.SessionOptions())


def test_the_library_itself_refuses_an_old_runtime() -> None:
    """A runtime that has no API of the version asked for gets a status with a message, not a crash."""
    messages: list[bytes] = []

    def create_status(code: int, message: bytes) -> int:
        messages.append(message)
        return 1

    def get_api(version: int) -> int | None:
        return ctypes.addressof(api) if version == 1 else None

    def get_version() -> int | None:
        return ctypes.cast(text, ctypes.c_void_p).value

    text = ctypes.c_char_p(b"1.9.0")
    functions = (
        ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)(create_status),
        ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)(get_api),
        ctypes.CFUNCTYPE(ctypes.c_void_p)(get_version),
    )
    api = (ctypes.c_void_p * 1)(ctypes.cast(functions[0], ctypes.c_void_p))
    base = (ctypes.c_void_p * 2)(*(ctypes.cast(function, ctypes.c_void_p) for function in functions[1:]))
    register = ctypes.CDLL(str(library.library_path())).RegisterCustomOps
    register.restype = ctypes.c_void_p
    assert register(None, ctypes.byref(base)) == 1
    assert messages == [b"the DeepThin operators need ONNX Runtime 1.18 or newer, and this is 1.9.0"]


def test_an_instruction_set_that_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPTHIN_OPS_ISA", "mmx")
    with pytest.raises(LibraryMismatchError, match="DEEPTHIN_OPS_ISA=mmx cannot run here"):
        library.instruction_set()
