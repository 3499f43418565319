"""Finding, checking and registering the compiled operator library.

There is no slow path behind it: a library that is missing, or built for something else, is an error that says what to
do. Two environment variables matter: ``DEEPTHIN_OPS_LIBRARY`` names another library file, and ``DEEPTHIN_OPS_ISA``
(``scalar``, ``avx2``, ``avx512`` or ``neon``) forces an instruction set for sessions created from then on.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import onnxruntime as ort

import ops
from ops.errors import LibraryMismatchError, LibraryMissingError

LIBRARY_NAME: Final = "libdeepthin_ops.so"
MINIMUM_ORT: Final = (1, 18)

_REINSTALL: Final = "reinstall the package (pip install .) with a C++17 compiler at hand"
_ELF_MACHINES: Final = {3: "x86", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}
_MACHINE_ALIASES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


def library_path() -> Path:
    """The compiled library: the file that ``DEEPTHIN_OPS_LIBRARY`` names, else the one beside the installed package.

    Raises:
        LibraryMissingError: There is no such file.
    """
    if named := os.environ.get("DEEPTHIN_OPS_LIBRARY"):
        path = Path(named)
        if not path.is_file():
            raise LibraryMissingError(f"DEEPTHIN_OPS_LIBRARY names {path}, and there is no such file")
        return path
    # In an editable install the sources and the built library are two folders of one package.
    folders = [Path(folder) for folder in ops.__path__]
    for folder in folders:
        if (folder / LIBRARY_NAME).is_file():
            return folder / LIBRARY_NAME
    looked = ", ".join(str(folder) for folder in folders)
    raise LibraryMissingError(
        f"{LIBRARY_NAME} is not in {looked}: {_REINSTALL}, or set DEEPTHIN_OPS_LIBRARY to a library built elsewhere"
    )


def check_library(path: Path) -> None:
    """Check that the library at ``path`` is for this processor, this package and this ONNX Runtime.

    Raises:
        LibraryMismatchError: It is not; the message says what differs and what to do.
    """
    _check_runtime()
    _check_architecture(path)
    _load(path)


def bind(path: Path, functions: Mapping[str, tuple[Any, Sequence[Any]]]) -> ctypes.CDLL:
    """The library at ``path`` with some of its functions made callable.

    Args:
        path: As `library_path` gives it.
        functions: Type of the result, and types of the arguments, by name without ``deepthin_``.

    Raises:
        LibraryMismatchError: It cannot be used, or has no such function.
    """
    check_library(path)
    # Function objects belong to the object they were asked of: two callers of one function may differ in its types.
    library = ctypes.CDLL(str(path.resolve()))
    for name, (result, arguments) in functions.items():
        try:
            function = getattr(library, f"deepthin_{name}")
        except AttributeError as error:
            raise LibraryMismatchError(f"{path} has no function deepthin_{name}: {_REINSTALL}") from error
        function.restype, function.argtypes = result, arguments
    return library


def register(options: ort.SessionOptions) -> None:
    """Make the operators of domain ``deepthin`` known to a session's options.

    Raises:
        LibraryMissingError: There is no library.
        LibraryMismatchError: The library is for another processor, version or ONNX Runtime.
    """
    path = library_path()
    check_library(path)
    options.register_custom_ops_library(str(path))


def session(
    model: bytes | str | Path,
    *,
    threads: int = 1,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    arena: bool = False,
    config: Mapping[str, str] | None = None,
) -> ort.InferenceSession:
    """An inference session that knows the DeepThin operators.

    Args:
        model: The serialised model, or the path of its file.
        threads: Intra-op threads; the operators use the same ones.
        providers: Execution providers; the operators themselves run on the CPU.
        arena: Whether the session keeps the memory of its intermediate results; faster where they are large and the
            session runs many times for one answer.
        config: Further settings by the names that ONNX Runtime gives them.

    Raises:
        LibraryMissingError, LibraryMismatchError: As `register`.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # ONNX Runtime prints remarks on graphs, and errors that it raises too, in between the lines of a log.
    options.log_severity_level = 4
    # The arena grows in powers of two and never gives back: too much for a small box that serves several models.
    options.enable_cpu_mem_arena = arena
    for name, value in (config or {}).items():
        options.add_session_config_entry(name, value)
    register(options)
    return ort.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=list(providers))


def available_instruction_sets() -> tuple[str, ...]:
    """The instruction sets of the library that this processor runs, best first."""
    return tuple(_text(_library(), "deepthin_ops_available").split(","))


def instruction_set() -> str:
    """The instruction set that the next session uses.

    Raises:
        LibraryMismatchError: ``DEEPTHIN_OPS_ISA`` names one that cannot run here.
    """
    chosen = _library().deepthin_ops_isa
    chosen.restype = ctypes.c_char_p
    name: bytes | None = chosen()
    if name is None:
        raise LibraryMismatchError(
            f"DEEPTHIN_OPS_ISA={os.environ.get('DEEPTHIN_OPS_ISA')} cannot run here; "
            f"it can be one of {', '.join(available_instruction_sets())}"
        )
    return name.decode()


def _library() -> ctypes.CDLL:
    path = library_path()
    check_library(path)
    return _load(path)


@lru_cache(maxsize=8)
def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path.resolve()))
        built = _text(library, "deepthin_ops_version")
    except (OSError, AttributeError) as error:
        raise LibraryMismatchError(
            f"{path} cannot be loaded as the DeepThin library ({error}): {_REINSTALL}"
        ) from error
    try:
        installed = version("deepthin")
    except PackageNotFoundError:
        return library
    if built != installed:
        raise LibraryMismatchError(f"{path} is version {built} and the package is {installed}: {_REINSTALL}")
    return library


def _text(library: ctypes.CDLL, function: str) -> str:
    call = getattr(library, function)
    call.restype = ctypes.c_char_p
    value: bytes = call()
    return value.decode()


def _check_runtime() -> None:
    found = tuple(int(part) for part in ort.__version__.split(".")[:2])
    if found < MINIMUM_ORT:
        wanted = ".".join(map(str, MINIMUM_ORT))
        raise LibraryMismatchError(
            f"ONNX Runtime {ort.__version__} is too old for the DeepThin operators: pip install 'onnxruntime>={wanted}'"
        )


def _check_architecture(path: Path) -> None:
    # Asked of the file and not of the loader, whose message for a foreign library is a riddle.
    with path.open("rb") as file:
        header = file.read(20)
    if len(header) < 20 or header[:4] != b"\x7fELF":
        raise LibraryMismatchError(f"{path} is not a shared library: {_REINSTALL}")
    (machine,) = struct.unpack("<H" if header[5] == 1 else ">H", header[18:20])
    built = _ELF_MACHINES.get(machine, f"machine {machine}")
    here = _MACHINE_ALIASES.get(platform.machine().lower(), platform.machine().lower())
    if built != here:
        raise LibraryMismatchError(f"{path} is built for {built} and this is {here}: {_REINSTALL}")
