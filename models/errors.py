"""Errors of model packages, the model store and the recogniser."""

from __future__ import annotations

from ops.errors import DeepThinError


class PackageError(DeepThinError, ValueError):
    """A model package that cannot be used: incomplete, malformed, or at odds with its own manifest."""


class PackageMissingError(PackageError, FileNotFoundError):
    """There is no model package where one was expected, or one of its files is missing."""


class ManifestError(PackageError):
    """`manifest.json` is not JSON, or a field of it is missing or wrong."""


class GraphMismatchError(PackageError):
    """The inputs or outputs of `model.onnx` are not those that the manifest promises."""


class NoTranscriptionError(PackageError):
    """The package is a bare network without front end or decoder: it can be downloaded, but it gives no text."""


class UnknownModelError(DeepThinError, LookupError):
    """No model of that name is in the store."""


class DecoderUnavailableError(DeepThinError, ValueError):
    """The model cannot be decoded in the way that was asked for."""


class InferenceError(DeepThinError, ArithmeticError):
    """The network gave values that are not numbers."""


class CorpusError(DeepThinError, ValueError):
    """An evaluation corpus that is missing, malformed or empty."""


class EvaluationUnavailableError(DeepThinError, ImportError):
    """The packages that scoring needs are not installed."""


class DownloadError(DeepThinError, OSError):
    """A published model could not be fetched, or is not what was published."""


class ModelTakenError(DeepThinError, ValueError):
    """A model of that name is here, and must stay."""
