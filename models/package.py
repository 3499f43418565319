"""A model package: a folder with `manifest.json`, which describes the model, and `model.onnx`, which is the model."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from models.errors import ManifestError, NoTranscriptionError, PackageError, PackageMissingError
from models.family_settings import CtcSettings, MoonshineSettings, Strict
from models.features import FrontEnd, FrontEndError

FORMAT: Final = 1
MANIFEST_FILE = "manifest.json"
GRAPH_FILE = "model.onnx"
BLANK = "<blank>"

_LARGEST_MANIFEST = 1 << 20

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Rate = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class State(Strict):
    """One recurrent state of the graph, zero at the start of a recording.

    Attributes:
        input: name of the graph input that takes it.
        output: name of the graph output that gives it back.
        shape: its axes after the first, which is the batch.
    """

    input: str
    output: str
    shape: tuple[Annotated[int, Field(gt=0)], ...]


class Weights(Strict):
    """Size of the weights, worked out from their shapes and types rather than measured.

    Attributes:
        parameters: values stored.
        dense_parameters: values that the same network holds uncompressed.
        disk_bytes: bytes of the stored values.
        resident_bytes: bytes of the values as inference keeps them.
        transport_bytes: bytes of the whole model as one bitstream, `model.dtz`; None when not known.
    """

    parameters: Count
    dense_parameters: Count
    disk_bytes: Count
    resident_bytes: Count
    transport_bytes: Count | None = None


class Quality(Strict):
    """Accuracy and speed measured on one corpus; rates are ratios, not per cent.

    Attributes:
        wer: word errors by reference words.
        cer: character errors by reference characters.
        rtf: processing seconds by audio seconds.
        utterances: recordings scored.
        words: reference words scored.
    """

    wer: Rate
    cer: Rate
    rtf: Rate
    utterances: Count
    words: Count


class Manifest(Strict):
    """What `manifest.json` says (format 1).

    Attributes:
        format: version of these fields.
        name: the model's name, also the name of its folder.
        family: kind of network; "network" is one that gives no text: front end, units and decoder may be missing.
            "moonshine" and "ctc" are networks made elsewhere, described by the field of the same name.
        method: compression method of its weight matrices, "dense" when there is none, "mixed" when there are several.
        methods: compression method by the name of the weight, for those that are compressed; may be empty.
        relative_size: stored size of the weight matrices by their dense size.
        parent: the dense model it was made from.
        description: one sentence for people.
        sample_rate: samples per second of the audio it takes.
        front_end: fields of the `models.features.FrontEnd` it was trained with; None when not known.
        units: meaning of each output column; the first is the blank of CTC. Empty when not known.
        subsampling: feature frames by output frame.
        left_context: feature frames needed before the first frame.
        right_context: feature frames needed after the last frame.
        states: recurrent states of the graph.
        graph: name of the decoding graph, or None when the model has greedy decoding only.
        decoder: options of the graph decoder; `prior_scale` is the share of `log_priors` taken off.
        log_priors: natural log of each unit's mean posterior on the training data; empty when not known.
        moonshine: what the family moonshine needs besides; None for the others.
        ctc: what the family ctc needs besides; None for the others.
        weights: size of the weights.
        quality: accuracy by corpus.
        licence: licence of the weights.
        attribution: what the weights were made from.
    """

    format: Literal[1] = FORMAT
    name: Name
    family: Literal["tfkaldi", "deepspeech", "moonshine", "ctc", "network"]
    method: Name = "dense"
    methods: dict[str, Name] = Field(default_factory=dict)
    relative_size: Annotated[float, Field(gt=0, le=1)] = 1.0
    parent: Name | None = None
    description: str = ""
    sample_rate: Annotated[int, Field(gt=0)] = 16_000
    front_end: dict[str, Any] | None = None
    units: tuple[str, ...] = ()
    subsampling: Annotated[int, Field(ge=1)] = 1
    left_context: Count = 0
    right_context: Count = 0
    states: tuple[State, ...] = ()
    graph: Name | None = None
    decoder: dict[str, float | int | bool | str] = Field(default_factory=dict)
    log_priors: tuple[Annotated[float, Field(le=0)], ...] = ()
    moonshine: MoonshineSettings | None = None
    ctc: CtcSettings | None = None
    weights: Weights
    quality: dict[str, Quality] = Field(default_factory=dict)
    licence: str = ""
    attribution: str = ""

    @field_validator("front_end")
    @classmethod
    def _front_end_is_known(cls, fields: dict[str, Any] | None) -> dict[str, Any] | None:
        if fields is None:
            return None
        try:
            FrontEnd.from_dict(fields)
        except FrontEndError as error:
            raise ValueError(str(error)) from error
        return fields

    @field_validator("units")
    @classmethod
    def _units_are_distinct(cls, units: tuple[str, ...]) -> tuple[str, ...]:
        if units and units[0] != BLANK:
            raise ValueError(f"the first unit must be {BLANK!r}, not {units[0]!r}")
        if len(set(units)) != len(units):
            raise ValueError("two output columns have the same unit")
        return units

    @model_validator(mode="after")
    def _can_transcribe(self) -> Manifest:
        ours = self.family in ("tfkaldi", "deepspeech")
        if ours and (self.front_end is None or len(self.units) < 2):
            raise ValueError(f"a model of family {self.family!r} needs front_end and at least two units")
        if not ours and self.graph is not None:
            raise ValueError(f"a model of family {self.family!r} has no decoding graph")
        for name, settings in (("moonshine", self.moonshine), ("ctc", self.ctc)):
            if (settings is not None) != (self.family == name):
                raise ValueError(f"the field {name!r} belongs to the family of that name, which needs it")
        return self

    @model_validator(mode="after")
    def _priors_fit(self) -> Manifest:
        if self.log_priors and len(self.log_priors) != len(self.units):
            raise ValueError(f"{len(self.log_priors)} log_priors for {len(self.units)} units")
        if "prior_scale" in self.decoder and not self.log_priors:
            raise ValueError("decoder.prior_scale needs log_priors")
        return self

    @model_validator(mode="after")
    def _rates_agree(self) -> Manifest:
        if self.front_end is not None and self.features.sample_rate != self.sample_rate:
            raise ValueError(f"front_end is for {self.features.sample_rate} Hz, sample_rate says {self.sample_rate} Hz")
        return self

    @cached_property
    def features(self) -> FrontEnd:
        """The front end itself.

        Raises:
            NoTranscriptionError: the model has none.
        """
        if self.front_end is None:
            raise NoTranscriptionError(f"model {self.name} has no front end")
        return FrontEnd.from_dict(self.front_end)

    @model_serializer(mode="wrap")
    def _without_other_families(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        return {name: value for name, value in fields.items() if value is not None or name not in ("moonshine", "ctc")}

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the package's ONNX files."""
        return (GRAPH_FILE,) if self.moonshine is None else (self.moonshine.encoder, self.moonshine.decoder)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files of the package besides its manifest."""
        vocabulary = next((part for part in (self.moonshine, self.ctc) if part is not None), None)
        if vocabulary is None:
            return self.networks
        return (
            *self.networks,
            vocabulary.tokenizer if isinstance(vocabulary, MoonshineSettings) else vocabulary.tokens,
        )

    def with_transport_bytes(self, size: int | None) -> Manifest:
        """The same, saying that the model's bitstream has `size` bytes."""
        return self.model_copy(update={"weights": self.weights.model_copy(update={"transport_bytes": size})})

    @property
    def frame_seconds(self) -> float:
        """Seconds of audio by output frame."""
        return 0.01 * self.subsampling


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package on disk whose manifest has been read and checked.

    Attributes:
        path: the folder.
        manifest: what it says about itself.
    """

    path: Path
    manifest: Manifest

    @property
    def graph_file(self) -> Path:
        """The ONNX file.

        Raises:
            PackageError: the model consists of several.
        """
        if len(self.manifest.networks) > 1:
            raise PackageError(f"model {self.manifest.name} consists of {len(self.manifest.networks)} networks")
        return self.path / GRAPH_FILE

    def disk_bytes(self) -> int:
        """Bytes of the whole package on disk."""
        return sum((self.path / name).stat().st_size for name in (MANIFEST_FILE, GRAPH_FILE))

    @classmethod
    def load(cls, path: Path | str) -> ModelPackage:
        """Read and check the package in folder `path`; the network itself is not opened.

        Raises:
            PackageMissingError: the folder or one of its two files is missing.
            ManifestError: the manifest cannot be understood; the message names the field.
        """
        path = Path(path)
        file = path / MANIFEST_FILE
        _require(file)
        if file.stat().st_size > _LARGEST_MANIFEST:
            raise ManifestError(f"{file} is larger than {_LARGEST_MANIFEST} bytes")
        manifest = parse_manifest(file.read_bytes(), str(file))
        for name in manifest.files:
            _require(path / name)
        return cls(path, manifest)

    @classmethod
    def save(cls, folder: Path | str, manifest: Manifest, graph: bytes | Mapping[str, Path | bytes]) -> ModelPackage:
        """Write a package under `folder`, in a folder of the model's name, replacing the one that is there.

        `graph` is `model.onnx`, or what each of the manifest's files holds or is copied from. Readers see the whole old
        package or the whole new one, save for the instant between two renames.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / manifest.name
        draft = Path(tempfile.mkdtemp(prefix=f".{manifest.name}-", dir=folder))
        try:
            draft.chmod(0o755)
            if isinstance(graph, bytes):
                (draft / GRAPH_FILE).write_bytes(graph)
            else:
                for name in manifest.files:
                    content = graph[name]
                    if isinstance(content, bytes):
                        (draft / name).write_bytes(content)
                    else:
                        shutil.copyfile(content, draft / name)
            (draft / MANIFEST_FILE).write_bytes(manifest_text(manifest))
            if target.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{manifest.name}-old-", dir=folder))
                target.rename(old / target.name)
                draft.rename(target)
                shutil.rmtree(old)
            else:
                draft.rename(target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return cls(target, manifest)


def _require(file: Path) -> None:
    if not file.is_file():
        raise PackageMissingError(f"{file.parent} is not a model package: it has no {file.name}")


def manifest_text(manifest: Manifest) -> bytes:
    """What `manifest.json` holds for `manifest`."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False)
    return f"{text}\n".encode()


def parse_manifest(text: bytes | str, source: str = MANIFEST_FILE) -> Manifest:
    """The manifest in `text`; `source` names it in errors.

    Raises:
        ManifestError: not JSON, or fields that are missing, unknown or out of range.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{source} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ManifestError(f"{source} must hold one JSON object")
    if fields.get("format", FORMAT) != FORMAT:
        raise ManifestError(f"{source} has format {fields['format']!r}; this version reads format {FORMAT}")
    try:
        return Manifest.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        raise ManifestError(f"{source}: {_complaints(error)}") from error


def _complaints(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"])
        lines.append(f"{field}: {problem['msg']}" if field else problem["msg"])
    return "; ".join(lines)
