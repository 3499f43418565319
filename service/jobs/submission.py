"""From an uploaded form to a wish that can be granted, or an error that names the field."""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from pydantic import ValidationError

from models.compression.archive import Archive
from models.compression.base import CompressionError
from models.compression.spec import UPLOAD, CompressionSpec, parse_spec
from models.compression.uploaded import check_upload
from models.errors import CorpusError
from models.store import is_model_name
from service.errors import InvalidParameterError, MissingFileError
from service.jobs.corpora import Corpora
from service.jobs.fields import CHECKPOINT, CONFIG, CORPORA, SPEC
from service.jobs.uploads import Part
from service.keeper import safe_stem

BUDGET: Final = "budget"
MIXED: Final = "mixed"

_LARGEST_HEADER = 100_000_000
_GRAPH: Final = 7
_MODEL_FIELDS: Final = frozenset({1, 2, 3, 4, 5, 6, _GRAPH, 8, 14, 20, 25, 26})
_MOST_FIELDS: Final = 100_000


def read_spec(parts: Mapping[str, Part]) -> CompressionSpec:
    """The wish in the form; corpora that were uploaded with it need not be named in it.

    Raises:
        MissingFileError: no spec in the form.
        InvalidParameterError: it is no JSON, or a field of it is wrong.
    """
    if SPEC not in parts:
        raise MissingFileError("send what to do as JSON in the form field 'spec'", param=SPEC)
    try:
        fields = json.loads(parts[SPEC].file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidParameterError(f"spec is not JSON: {error}", param=SPEC) from error
    if not isinstance(fields, dict):
        raise InvalidParameterError("spec must be one JSON object", param=SPEC)
    for name in CORPORA:
        corpora = fields.get(name, [])
        if name in parts and isinstance(corpora, list) and UPLOAD not in corpora:
            fields[name] = [*corpora, UPLOAD]
    try:
        spec = parse_spec(json.dumps(fields))
    except CompressionError as error:
        raise InvalidParameterError(str(error), param=_param(error)) from error
    except (ValueError, RecursionError) as error:
        raise InvalidParameterError(f"spec cannot be read: {error}", param=SPEC) from error
    if spec.name is not None and not is_model_name(spec.name):
        raise InvalidParameterError(f"no model can be called {spec.name!r}", param="spec.name")
    return spec


def check_parts(parts: Mapping[str, Part], spec: CompressionSpec, corpora: Corpora) -> None:
    """See that the files are what they claim to be, as far as can be told at once, and that nothing is missing.

    Raises:
        MissingFileError, InvalidParameterError: one is missing, one too many, or not what it claims to be.
    """
    checkpoint = parts[CHECKPOINT]
    needs_config = checkpoint.file.suffix == ".safetensors"
    if needs_config and CONFIG not in parts:
        raise MissingFileError("a .safetensors checkpoint needs the form field 'config' (TOML)", param=CONFIG)
    if CONFIG in parts and not needs_config:
        raise InvalidParameterError("'config' goes with a .safetensors checkpoint alone", param=CONFIG)
    if needs_config and not _is_safetensors(checkpoint):
        raise InvalidParameterError("the checkpoint is not a safetensors file", param=CHECKPOINT)
    if checkpoint.file.suffix == ".onnx" and not _is_onnx(checkpoint):
        raise InvalidParameterError(
            "the checkpoint is not an ONNX model, or only the beginning of one", param=CHECKPOINT
        )
    if checkpoint.file.suffix == ".zip":
        with _field(CHECKPOINT), Archive(checkpoint.file) as archive:
            if not any(file.endswith(".onnx") for file in archive.names()):
                raise InvalidParameterError("the zip file is no model package: it has no .onnx file", param=CHECKPOINT)
    for name in CORPORA:
        if name in parts:
            with _field(name):
                check_upload(parts[name].file, listed=name == "evaluation")
    for name in CORPORA:
        for corpus in getattr(spec, name):
            if corpus == UPLOAD:
                if name not in parts:
                    raise MissingFileError(
                        f"spec.{name} names 'upload', but there is no form field {name!r}", param=name
                    )
                continue
            try:
                corpora(corpus)
            except CorpusError as error:
                raise InvalidParameterError(str(error), param=f"spec.{name}") from error


@contextmanager
def _field(name: str) -> Iterator[None]:
    try:
        yield
    except (CompressionError, CorpusError) as error:
        raise InvalidParameterError(f"{name!r}: {error}", param=name) from error


def method_of(spec: CompressionSpec) -> str:
    """What the job is counted under: a method, "budget" or "mixed"."""
    if spec.budget is not None:
        return BUDGET
    return spec.method or MIXED


def suggested_name(spec: CompressionSpec, filename: str) -> str:
    """A name for the result of a spec that gives none."""
    size = "" if spec.size is None else f"-{spec.size:g}"
    return f"{safe_stem(filename)}-{method_of(spec)}{size}"[:59].rstrip(".-")


def _param(error: CompressionError) -> str:
    if isinstance(error.__cause__, ValidationError):
        place: list[Any] = list(error.__cause__.errors(include_url=False)[0]["loc"])
        return ".".join(str(part) for part in [SPEC, *place])[:200]
    return SPEC


def _is_onnx(part: Part) -> bool:
    """Whether the outermost fields are those of a model and end where the file ends; the graph is not looked into."""
    graph = False
    with part.file.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = 0
        for _ in range(_MOST_FIELDS):
            tag, place = _varint(data, place)
            value, place = _varint(data, place)
            field, kind = tag >> 3, tag & 7
            if place > part.size or field not in _MODEL_FIELDS or kind not in (0, 2):
                return False
            graph |= field == _GRAPH
            place += value if kind == 2 else 0
            if place >= part.size:
                return place == part.size and graph
    return False


def _varint(data: mmap.mmap, place: int) -> tuple[int, int]:
    """A protobuf's number and the place behind it, which is behind the end where the number does not end."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    return 0, len(data) + 1


def _is_safetensors(part: Part) -> bool:
    with part.file.open("rb") as file:
        head = file.read(9)
    if len(head) < 9:
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return length <= min(part.size - 8, _LARGEST_HEADER) and head[8:] == b"{"
