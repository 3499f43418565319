"""The report of a compression job: every weight, the whole, and the parent beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto

from models.compression.base import Compressed, Sizes
from models.compression.bodies import graphs
from models.compression.chains import is_chain
from models.compression.network import Network
from models.compression.registry import method
from models.weighing import stored_tensors

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One weight of the network.

    Attributes:
        name: the weight.
        method: how it is stored; "dense" if it was left as it is.
        op: operator of the original graph.
        Q: inputs.
        R: outputs.
        geometry: the method's own numbers.
        disk: bytes in the ONNX file.
        resident: bytes in an inference session.
        transport: bytes as a stream of its own.
        dense: bytes as a dense fp32 matrix.
        relative_size: `disk` by `dense`.
        relative_error: Frobenius norm of the weight's error by that of the weight.
        output_error: the same of the layer's output on calibration data, in the compressed network; None without.
        seconds: time it took to compress.
    """

    name: str
    method: str
    op: str
    Q: int
    R: int
    geometry: Mapping[str, int | float | str]
    disk: int
    resident: int
    transport: int
    dense: int
    relative_size: float
    relative_error: float
    output_error: float | None
    seconds: float


def layer_reports(
    network: Network, compressed: Mapping[str, Compressed], streams: Mapping[str, int], seconds: Mapping[str, float],
    half: frozenset[str],
) -> list[LayerReport]:  # fmt: skip
    """A report for every compressible weight; `streams`: bytes of each one's transport stream."""
    reports = []
    for layer in network.layers:
        done = compressed.get(layer.name)
        if done is None:
            disk = layer.dense_bytes // (2 if layer.name in half else 1)
            sizes = Sizes(disk, disk, layer.dense_bytes)
        else:
            sizes = Sizes(streams[layer.name], done.plan.disk_bytes, resident_bytes(done))
        reports.append(
            LayerReport(
                name=layer.name,
                method="dense" if done is None else done.plan.method,
                op=layer.op,
                Q=layer.Q,
                R=layer.R,
                geometry={} if done is None else dict(done.plan.geometry),
                disk=sizes.disk,
                resident=sizes.resident,
                transport=sizes.transport,
                dense=layer.dense_bytes,
                relative_size=sizes.disk / layer.dense_bytes,
                relative_error=0.0 if done is None else done.relative_error,
                output_error=None if done is None else done.output_error,
                seconds=round(seconds.get(layer.name, 0.0), 3),
            )
        )
    return reports


def weight_bytes(model: onnx.ModelProto, compressed: Mapping[str, Compressed]) -> tuple[int, int, int]:
    """Values stored in a model, their bytes on disk, and their bytes in an inference session.

    A session turns fp16 weights behind a Cast into fp32, and operators keep copies packed for themselves.
    """
    cast = {node.input[0] for graph in graphs(model.graph) for node in graph.node if node.op_type == "Cast"}
    count = disk = resident = 0
    for tensor in stored_tensors(model.graph):
        size = int(np.prod(tensor.dims, dtype=np.int64))
        width = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        count += size
        disk += size * width
        half = tensor.data_type == TensorProto.FLOAT16 and tensor.name in cast
        resident += size * (4 if half else width)
    for weight in compressed.values():
        resident += resident_bytes(weight) - weight.plan.disk_bytes
    return count, disk, resident


def resident_bytes(compressed: Compressed) -> int:
    """Bytes that an inference session keeps for a weight."""
    if is_chain(compressed.plan):
        return compressed.plan.disk_bytes
    return method(compressed.plan.method).resident_bytes(compressed)


def totals(layers: list[LayerReport]) -> dict[str, Any]:
    """Sums over all compressible weights."""
    sums = {name: sum(getattr(layer, name) for layer in layers) for name in ("disk", "resident", "transport", "dense")}
    return {**sums, "relative_size": sums["disk"] / sums["dense"] if sums["dense"] else 1.0}


def as_json(layers: list[LayerReport]) -> list[dict[str, Any]]:
    """Reports as JSON values."""
    return [asdict(layer) for layer in layers]
