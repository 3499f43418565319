"""From an uploaded form to a wish that can be granted, or an error that names the field."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from models.compression.base import CompressionError
from models.compression.spec import UPLOAD, CompressionSpec, parse_spec
from models.errors import CorpusError
from models.store import is_model_name
from service.errors import InvalidParameterError, MissingFileError
from service.jobs.corpora import Corpora
from service.jobs.uploads import CHECKPOINT, CONFIG, CORPORA, SPEC, Part
from service.keeper import safe_stem

BUDGET: Final = "budget"
MIXED: Final = "mixed"

_LARGEST_HEADER = 100_000_000


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
    for name in (*((CHECKPOINT,) if checkpoint.file.suffix == ".zip" else ()), *CORPORA):
        if name in parts and not zipfile.is_zipfile(parts[name].file):
            raise InvalidParameterError(f"{name!r} is not a zip file", param=name)
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


def _is_safetensors(part: Part) -> bool:
    with part.file.open("rb") as file:
        head = file.read(9)
    if len(head) < 9:
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return length <= min(part.size - 8, _LARGEST_HEADER) and head[8:] == b"{"
