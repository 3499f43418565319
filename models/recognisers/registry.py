"""Which recogniser a package needs, by the family in its manifest."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

import numpy as np

from models.audio import Audio
from models.errors import NoTranscriptionError
from models.memory import return_freed_memory
from models.package import ModelPackage
from models.recognisers.base import Recogniser
from models.recognisers.ctc import CtcRecogniser
from models.recognisers.moonshine import MoonshineRecogniser
from models.recognisers.phones import PhoneRecogniser


class Loader(Protocol):
    """Loads the packages of one family."""

    def __call__(self, package: ModelPackage, *, threads: int, decoder: str | None) -> Recogniser:
        """The recogniser in `package`; see `load`."""
        ...


FAMILIES: Final = MappingProxyType[str, Loader](
    {
        "tfkaldi": PhoneRecogniser.load,
        "deepspeech": PhoneRecogniser.load,
        "moonshine": MoonshineRecogniser.load,
        "ctc": CtcRecogniser.load,
    }
)
"""Loaders by family; a family that is not here gives no text."""


def try_out(recogniser: Recogniser) -> None:
    """Let `recogniser` transcribe two seconds of a sound that comes and goes, so that no gate for silence stops it.

    Raises:
        InferenceError: the network gave NaN.
    """
    rate = recogniser.manifest.sample_rate
    time = np.arange(2 * rate) / rate
    sound = 0.2 * np.sin(2 * np.pi * 300 * time) * np.sin(2 * np.pi * 2 * time) ** 2
    recogniser.transcribe([Audio(sound.astype(np.float32), rate)])


def load(package_dir: Path | str, *, threads: int = 1, decoder: str | None = None) -> Recogniser:
    """Load the package in folder `package_dir`.

    Args:
        package_dir: folder with `manifest.json` and what that names.
        threads: threads of the network.
        decoder: "graph" (words, with a language model) or "greedy" (what the network says, as it is) as the default;
            without it, "graph" where the model has a decoding graph.

    Raises:
        PackageError: the package, or its decoding graph, is missing or broken.
        NoTranscriptionError: the package is a network that gives no text.
        DecoderUnavailableError: "graph" was asked for and the model has no decoding graph.
        LibraryMissingError, LibraryMismatchError: the op library cannot be used.
    """
    package = ModelPackage.load(package_dir)
    loader = FAMILIES.get(package.manifest.family)
    if loader is None:
        raise NoTranscriptionError(f"model {package.manifest.name} is a network without decoder: it cannot transcribe")
    recogniser = loader(package, threads=threads, decoder=decoder)
    return_freed_memory()
    return recogniser
