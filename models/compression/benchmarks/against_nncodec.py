"""Quantised and entropy-coded weights against nncodec, the reference software of MPEG's neural network coding (NNR).

``python -m models.compression.benchmarks.against_nncodec MODEL.onnx --nncodec PYTHON`` codes some weights of a network
at several sizes in each way and prints bytes and errors; then, for every point of nncodec's, the bytes that each of
the other ways takes at the same error. nncodec is no dependency: it lives in an environment of its own, whose
interpreter is named by ``--nncodec``; without one, its rows are missing.

With recordings (``--corpus``), the errors compared are those of the layers' outputs, which is what the network's
loss follows; without any, those of the weights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from models.audio import decode
from models.compression.base import Calibration, Matrix, output_error, relative_error
from models.compression.calibrate import Calibrator
from models.compression.codebook import quantise
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.feeds import inputs_for
from models.compression.low_rank_codebook import LowRankCodebook
from models.compression.network import find
from models.compression.normalise import normalise
from models.evaluation import read_corpus
from models.features import preset

STEPS: Final = (0.25, 0.5, 0.8, 1.2, 1.7, 2.3, 3.0)
"""Steps of uniform quantisation, by the standard deviation of the weight."""
PRICES: Final = (0.003, 0.01, 0.03, 0.08, 0.2, 0.4)
"""Error, by the mean square of an entry, that a bit of an index is worth."""
SHARES: Final = (0.02, 0.05, 0.1)
"""Relative sizes on disk of the low-rank factors with codebooks."""
LEVELS: Final = 32
_NOTHING: Final = 1e-12  # a loss of zero has no logarithm

# Runs in nncodec's own environment; says nothing but the result on its last line.
_NNCODEC: Final = """
import sys, json, os, tempfile, numpy as np
import nncodec.nnc as nnc
weight = np.load(sys.argv[1])
found = []
for qp in map(int, sys.argv[3:]):
    path = os.path.join(tempfile.mkdtemp(), "w.nnc")
    stream = nnc.compress({"weight": weight}, bitstream_path=path, qp=qp, use_dq=True, return_bitstream=True)
    decoded = nnc.decompress(stream)
    np.save(sys.argv[2] + str(qp) + ".npy", np.asarray(decoded["weight"], np.float32))
    found.append([qp, len(stream)])
print()
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One weight coded in one way.

    Attributes:
        layer: Name of the weight.
        way: How it was coded.
        setting: The way's own parameter.
        bytes: Size of the stream.
        bits: Bits per entry of the weight.
        weight_error: Norm of the weight's error by that of the weight.
        output_error: The same for the layer's output; None without recordings.
    """

    layer: str
    way: str
    setting: float
    bytes: int
    bits: float
    weight_error: float
    output_error: float | None

    @property
    def error(self) -> float:
        """The error that counts."""
        return self.weight_error if self.output_error is None else self.output_error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="against_nncodec", description="Compare coded weights with nncodec's.")
    parser.add_argument("model", type=Path, help="the ONNX file")
    parser.add_argument("--layers", default="*", help="pattern of the weights' names")
    parser.add_argument("--corpus", type=Path, help="folder of recordings with a manifest.tsv")
    parser.add_argument("--front-end", default="ami-dnn", help="preset that turns recordings into the network's input")
    parser.add_argument("--recordings", type=int, default=40, help="how many recordings")
    parser.add_argument("--nncodec", metavar="PYTHON", help="interpreter of an environment with nncodec")
    parser.add_argument("--qp", type=int, nargs="+", default=[-20, -24, -28, -32, -36], help="nncodec's steps")
    parser.add_argument("--json", action="store_true", help="print a JSON list of rows instead of tables")
    options = parser.parse_args(argv)
    rows = []
    for row in _measure(options):
        rows.append(row)
        print(f"{row.layer} {row.way} {row.setting}: {row.bytes} bytes, error {row.error:.4f}", file=sys.stderr)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return 0
    for layer in dict.fromkeys(row.layer for row in rows):
        print("\n".join(table([row for row in rows if row.layer == layer])))
    return 0


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of the rows of one layer, and of bytes at nncodec's errors."""
    yield f"{rows[0].layer}"
    yield f"{'way':<24} {'setting':>8} {'bytes':>9} {'bits':>6} {'weight error':>12} {'output error':>12}"
    for row in rows:
        output = "" if row.output_error is None else f"{row.output_error:.4f}"
        yield f"{row.way:<24} {row.setting:>8g} {row.bytes:>9} {row.bits:>6.3f} {row.weight_error:>12.4f} {output:>12}"
    ways = [way for way in dict.fromkeys(row.way for row in rows) if way != "nncodec"]
    for point in (row for row in rows if row.way == "nncodec"):
        others = []
        for way in ways:
            size = at_error([row for row in rows if row.way == way], point.error)
            others.append(f"{way} {'-' if size is None else f'{size / point.bytes:.3f}'}")
        yield f"at the error {point.error:.4f} of nncodec's {point.bytes} bytes, times: {', '.join(others)}"


def at_error(rows: Sequence[Row], error: float) -> float | None:
    """Bytes at an error, between the rows (log to log); None where there are none on both sides."""
    return interpolated([(row.error, row.bytes) for row in rows], error)


def interpolated(curve: Sequence[tuple[float, float]], loss: float) -> float | None:
    """Bytes at a loss on a curve of (loss, bytes), log to log; None where it has no points on both sides."""
    ordered = sorted(curve)
    if not ordered or not ordered[0][0] <= loss <= ordered[-1][0]:
        return None
    losses, sizes = (np.log([max(point[axis], _NOTHING) for point in ordered]) for axis in (0, 1))
    return float(np.exp(np.interp(np.log(max(loss, _NOTHING)), losses, sizes)))


def _measure(options: argparse.Namespace) -> Iterator[Row]:
    network = find(normalise(onnx.load(str(options.model))).model)
    calibrator = None
    if options.corpus is not None:
        front_end = preset(options.front_end)
        inputs = inputs_for(network.model, None, front_end)
        if inputs is None:
            raise SystemExit(f"the network does not take what front end {options.front_end} gives")
        utterances = read_corpus(options.corpus)[: options.recordings]
        feeds = [inputs.feed(front_end.extract(decode(utterance.path.read_bytes()))) for utterance in utterances]
        calibrator = Calibrator(network, feeds)
    for layer in network.matching(options.layers):
        weight = network.weight(layer)
        calibration = None if calibrator is None else calibrator.moments(layer, None).calibration()
        for way, setting, size, approximation in _ways(weight, calibration, options):
            error = None if calibration is None else output_error(weight, approximation, calibration)
            weight_error = relative_error(weight, approximation)
            yield Row(layer.name, way, setting, size, 8 * size / weight.size, weight_error, error)


def _ways(
    weight: Matrix, calibration: Calibration | None, options: argparse.Namespace
) -> Iterator[tuple[str, float, int, Matrix]]:
    """Way, setting, bytes and what comes back."""
    if options.nncodec:
        for qp, size, decoded in coded_by_nncodec(weight, options.nncodec, options.qp):
            yield "nncodec", qp, size, decoded
    for step in STEPS:
        scale = np.float32(step * weight.std())
        stream = encode_arrays({"scale": np.array(scale), "symbols": np.rint(weight / scale).astype(np.int16)})
        arrays = decode_arrays(stream)
        yield "uniform", step, len(stream), arrays["symbols"] * arrays["scale"]
    moment = None if calibration is None else calibration.damped()
    for name, given in (("codebook", None), *((("codebook, data-aware", moment),) if moment is not None else ())):
        for price in PRICES:
            levels, indices = quantise(weight, LEVELS, given, lagrangian=price)
            stream = encode_arrays({"levels": levels, "indices": indices})
            arrays = decode_arrays(stream)
            yield name, price, len(stream), arrays["levels"][arrays["indices"]]
    for share in SHARES:
        method = LowRankCodebook()
        compressed = method.compress(weight, method.plan(weight.shape[0], weight.shape[1], share), calibration)
        yield method.name, share, len(method.encode(compressed)), method.decompress(compressed)


def coded_by_nncodec(weight: Matrix, python: str, steps: Sequence[int]) -> Iterator[tuple[int, int, Matrix]]:
    """Step, bytes and what comes back, for each of nncodec's `steps`; `python` is an interpreter that has it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "weight.npy", weight)
        command = [python, "-c", _NNCODEC, str(folder / "weight.npy"), str(folder / "decoded"), *map(str, steps)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if result.returncode:
            raise SystemExit(f"nncodec failed: {result.stderr.strip()}")
        for qp, size in json.loads(result.stdout.splitlines()[-1]):
            yield qp, size, np.load(folder / f"decoded{qp}.npy")


if __name__ == "__main__":
    raise SystemExit(main())
