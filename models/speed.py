"""``deepthin bench models``: the two networks of the DeepThin paper, whole, against themselves with dense weights.

Networks of the right shapes with random weights, each in an ONNX Runtime session of one thread with fp32 weights and in
one with DeepThin matrices (`models.speed_networks`). A call of `tfkaldi` is one frame of each stream, one of
`deepspeech` is 16 output frames (0.48 s) of each, which take the state along: what a live stream waits for. How they
are timed: `ops.benchmarks.timing`. Features and greedy decoding, the same with any weights, are timed apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from models.audio import Audio
from models.decoding import GreedyDecoder
from models.features import FrontEnd
from models.speed_networks import BINS, CHUNK, UNITS, Network, deepspeech, deepspeech_front, tfkaldi
from ops.benchmarks.kernels_row import SIZES
from ops.benchmarks.report import kernel_setting, report
from ops.benchmarks.timing import Float, time_in_turn
from ops.library import session
from ops.markdown import table

BATCHES = (1, 16)
_HIDDEN = {"tfkaldi": 2048, "deepspeech": 1024}
_NARROW = dict.fromkeys(_HIDDEN, 256)
_FRAMES = {"tfkaldi": 1, "deepspeech": CHUNK}
_NETWORKS: Mapping[str, Callable[[np.random.Generator, int, float | None], Network]] = {
    "tfkaldi": tfkaldi,
    "deepspeech": deepspeech,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One network at one size, or what is timed apart.

    Attributes:
        network: ``tfkaldi`` or ``deepspeech``.
        hidden: Width of its layers.
        batch: Streams per call.
        frames: Output frames of each stream in a call.
        size: Relative size wished for each matrix.
        reached: Bytes of all weights by those of the dense network: what no matrix can be made small enough for, and
            convolutions, which stay dense, are in it.
        seconds, dense_seconds: Median time of a call.
        speedup: The second divided by the first.
        front_seconds: Of ``deepspeech``, what its convolutions take in both: they stay dense.
        features_seconds, decoding_seconds: What the features and a greedy decoding of as many frames take.
    """

    network: str
    hidden: int
    batch: int
    frames: int
    size: float
    reached: float
    seconds: float
    dense_seconds: float
    speedup: float
    front_seconds: float | None
    features_seconds: float
    decoding_seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return report(
        argv,
        prog="deepthin bench models",
        description="Time the paper's networks with DeepThin matrices against dense ones, one thread.",
        quick="layers of 256 units and two sizes only",
        rows=lambda quick: (
            measure(dict.fromkeys(_HIDDEN, 256), (0.05, 0.02), 1) if quick else measure(_HIDDEN, SIZES, 9)
        ),
        head=f"{kernel_setting()} a call\n{'network':>10} {'batch':>5} {'size':>6} {'reached':>7} {'DeepThin':>9} "
        f"{'dense':>9} {'speed-up':>8} {'(convolutions':>13} {'features':>8} {'decoding)':>9}",
        line=lambda row: (
            f"{row.network:>10} {row.batch:>5} {row.size:>6.4f} {row.reached:>7.4f} {row.seconds * 1e6:>9.1f} "
            f"{row.dense_seconds * 1e6:>9.1f} {row.speedup:>7.1f}x {(row.front_seconds or 0) * 1e6:>13.1f} "
            f"{row.features_seconds * 1e6:>8.1f} {row.decoding_seconds * 1e6:>9.1f}"
        ),
        page=("models", page),
    )


def page(rows: Sequence[Row]) -> str:
    """The rows as tables: speed-ups by size, then what a call takes."""
    sizes = sorted({row.size for row in rows}, reverse=True)
    speedups, times = [], []
    for network, batch in dict.fromkeys((row.network, row.batch) for row in rows):
        found = {row.size: row for row in rows if (row.network, row.batch) == (network, batch)}
        first = next(iter(found.values()))
        name = f"`{network}`, {first.hidden} wide, batch {batch}"
        speedups.append([name, *(f"{found[size].speedup:.1f}" if size in found else "" for size in sizes)])
        front = "" if first.front_seconds is None else _micro(first.front_seconds)
        apart = [front, _micro(first.features_seconds), _micro(first.decoding_seconds)]
        ours = [_micro(found[size].seconds) if size in found else "" for size in sizes]
        times.append([name, _micro(first.dense_seconds), *ours, *apart])
        if batch == 1:
            speedups.append(["share of the dense bytes", *(f"{found[size].reached:.4f}"[1:] for size in sizes)])
    columns = [f"{size:.4f}"[1:] for size in sizes]
    return "\n".join(
        [
            f"{kernel_setting()}. Times faster than dense, by the relative size wished for each matrix:\n",
            table(["network", *columns], speedups),
            "\nMicroseconds of a call:\n",
            table(["network", "dense", *columns, "of it convolutions", "features", "greedy decoding"], times),
        ]
    )


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:.0f}"


def measure(hidden: Mapping[str, int], sizes: Sequence[float], rounds: int) -> Iterator[Row]:
    """Yield one row per network, batch and size."""
    rng = np.random.default_rng(0)
    for name, width in hidden.items():
        dense = _NETWORKS[name](rng, width, None)
        networks = [_NETWORKS[name](rng, width, size) for size in sizes]
        ready = [session(network.model) for network in (dense, *networks)]
        front = session(deepspeech_front(rng).model) if name == "deepspeech" else None
        for batch in BATCHES:
            calls = [_call(one, rng, batch) for one in ready]
            found = time_in_turn([*calls, *([_call(front, rng, batch)] if front else [])], rounds)
            dense_seconds, *others = found
            apart = others.pop() if front else None
            features, decoding = _apart(rng, _FRAMES[name], rounds)
            for size, network, seconds in zip(sizes, networks, others, strict=True):
                yield Row(
                    network=name,
                    hidden=width,
                    batch=batch,
                    frames=_FRAMES[name],
                    size=size,
                    reached=network.weight_bytes / dense.weight_bytes,
                    seconds=seconds,
                    dense_seconds=dense_seconds,
                    speedup=dense_seconds / seconds,
                    front_seconds=apart,
                    features_seconds=features * batch,
                    decoding_seconds=decoding * batch,
                )


def _call(ready: ort.InferenceSession, rng: np.random.Generator, batch: int) -> Callable[[], object]:
    """A call with random inputs, all bound; results stay where the session puts them."""
    binding = ready.io_binding()
    for given in ready.get_inputs():
        shape = [batch if size == "batch" else int(size) for size in given.shape]
        values: Float = rng.standard_normal(shape, np.float32)
        binding.bind_ortvalue_input(given.name, ort.OrtValue.ortvalue_from_numpy(values))
    for made in ready.get_outputs():
        binding.bind_output(made.name, "cpu")
    return lambda: ready.run_with_iobinding(binding)


def _apart(rng: np.random.Generator, frames: int, rounds: int) -> tuple[float, float]:
    """Seconds that the features and a greedy decoding of so many output frames take, as a share of 10 s of noise."""
    rate, output_frames = 16_000, 334
    audio = Audio((0.1 * rng.standard_normal(10 * rate)).astype(np.float32), rate)
    logits = rng.standard_normal((output_frames, UNITS)).astype(np.float32)
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    front_end, decoder = FrontEnd(bins=BINS), GreedyDecoder([str(unit) for unit in range(UNITS)])
    both = time_in_turn([lambda: front_end.extract(audio), lambda: decoder.decode(log_probs)], rounds)
    return both[0] * frames / output_frames, both[1] * frames / output_frames
