"""Weights that an ONNX model keeps in files beside it (external data), taken into the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from onnx import TensorProto

from models.compression.archive import ArchiveError


def take_in(tensors: Iterable[TensorProto], read: Callable[[str], bytes], max_bytes: int) -> None:
    """Put the bytes that `tensors` refer to into them.

    Args:
        tensors: all tensors of a model; those that hold their values themselves stay as they are.
        read: the content of a file beside the model, by the path that the model gives.
        max_bytes: of all tensors together: two of them may name the same part of a file.

    Raises:
        ArchiveError: a tensor refers to a part that is not there, or they refer to more than `max_bytes`.
    """
    files: dict[str, bytes] = {}
    left = max_bytes
    for tensor in tensors:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        location, offset, length = _reference(tensor)
        if location not in files:
            files[location] = read(location)
        content = files[location]
        end = len(content) if length is None else offset + length
        if offset > end or end > len(content):
            raise ArchiveError(
                f"{tensor.name} is said to be bytes {offset} to {end} of {location}, which has {len(content)}"
            )
        left -= end - offset
        if left < 0:
            raise ArchiveError(f"the network's tensors refer to more than {max_bytes} bytes of other files")
        tensor.raw_data = content[offset:end]
        del tensor.external_data[:]
        tensor.ClearField("data_location")


def _reference(tensor: TensorProto) -> tuple[str, int, int | None]:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    numbers = []
    for key in ("offset", "length"):
        text = entries.get(key, "")
        if not (text == "" or (text.isascii() and text.isdigit() and len(text) < 16)):
            raise ArchiveError(f"{tensor.name} has an {key} in {location!r} that is no number of bytes: {text[:32]!r}")
        numbers.append(int(text) if text else None)
    if not location or {"", ".", ".."} & set(location.split("/")) or "\\" in location:
        raise ArchiveError(f"{tensor.name} is kept in {location!r}, which is no file of the package")
    return location, numbers[0] or 0, numbers[1]
