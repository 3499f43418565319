"""The root of every error this project raises on purpose, and the errors of the op library."""


class DeepThinError(Exception):
    """Base of all DeepThin errors."""


class GeometryError(DeepThinError, ValueError):
    """A DeepThin geometry that cannot exist, such as a size below the smallest reachable one."""


class FormatError(DeepThinError, ValueError):
    """Stored arrays that stand for no matrix."""


class LibraryMissingError(DeepThinError, ImportError):
    """The compiled op library is not where it should be."""


class LibraryMismatchError(DeepThinError, ImportError):
    """The compiled op library is for another processor, version or ONNX Runtime."""
