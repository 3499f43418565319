"""``deepthin bench recurrent``: DeepThinGRU and DeepThinLSTM against ONNX Runtime's own layers.

A layer of H inputs and H units takes a sequence of 500 steps, batch 1, one thread: the input's product is made for many
steps at once by all, the state's has to wait for the step before. How they are timed: `ops.benchmarks.timing`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from ops import graph
from ops.benchmarks.kernels_row import SIZES
from ops.benchmarks.report import kernel_setting, report
from ops.benchmarks.timing import Float, time_in_turn
from ops.layout import smallest_size, solve
from ops.library import session
from ops.markdown import table

GATES = {"GRU": 3, "LSTM": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One layer.

    Attributes:
        layer: ``GRU`` or ``LSTM``.
        hidden: H, units and inputs.
        steps: Length of the sequence.
        size: Relative size wished; the geometries are the nearest ones not above it.
        seconds: Median time of the whole sequence with DeepThin matrices.
        dense_seconds: The same of ONNX Runtime's fp32 layer.
        int8_seconds: The same of its dynamically quantised LSTM; None for a GRU, of which it has none.
        speedup: The dense time divided by DeepThin's.
        int8_speedup: The quantised layer's time divided by DeepThin's.
    """

    layer: str
    hidden: int
    steps: int
    size: float
    seconds: float
    dense_seconds: float
    int8_seconds: float | None
    speedup: float
    int8_speedup: float | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return report(
        argv,
        prog="deepthin bench recurrent",
        description="Time DeepThin's recurrent layers against ONNX Runtime's fp32 and int8 ones, batch 1, one thread.",
        quick="H = 1024 and 50 steps only, at two sizes",
        rows=lambda quick: measure((1024,), SIZES[::4], 50, 1) if quick else measure((1024, 2048), SIZES, 500, 3),
        head=f"{kernel_setting()} a step\n{'layer':>5} {'H':>5} {'size':>6} {'DeepThin':>9} {'fp32':>9} {'speed-up':>9}"
        f"{'int8':>10} {'speed-up':>8}",
        line=lambda row: (
            f"{row.layer:>5} {row.hidden:>5} {row.size:>6.4f} {_step(row.seconds, row):>9} "
            f"{_step(row.dense_seconds, row):>9} {row.speedup:>7.1f}x "
            + (f"{_step(row.int8_seconds, row):>9} {row.int8_speedup:>7.1f}x" if row.int8_seconds else "")
        ),
        page=("recurrent", page),
    )


def _step(seconds: float, row: Row) -> str:
    """Microseconds of a step."""
    return f"{seconds / row.steps * 1e6:.1f}"


def page(rows: Sequence[Row]) -> str:
    """The rows as a table: a line for each layer, a column for each size."""
    sizes = sorted({row.size for row in rows}, reverse=True)
    lines = []
    for layer, hidden in dict.fromkeys((row.layer, row.hidden) for row in rows):
        found = {row.size: row for row in rows if (row.layer, row.hidden) == (layer, hidden)}
        first = next(iter(found.values()))
        name = f"{layer}, H = {hidden}"
        lines.append([f"{name}: µs a step", _step(first.dense_seconds, first)])
        lines[-1] += [_step(found[size].seconds, first) if size in found else "" for size in sizes]
        lines.append(["times faster than fp32", ""])
        lines[-1] += [f"{found[size].speedup:.1f}" if size in found else "" for size in sizes]
        if first.int8_seconds:
            lines.append(["times faster than int8", f"({_step(first.int8_seconds, first)})"])
            lines[-1] += [f"{found[size].int8_speedup:.1f}" if size in found else "" for size in sizes]
    return f"{kernel_setting()}.\n\n" + table(["", "ONNX Runtime", *(f"{size:.4f}"[1:] for size in sizes)], lines)


def measure(hidden: Sequence[int], sizes: Sequence[float], steps: int, rounds: int) -> Iterator[Row]:
    """Yield one row per layer, width and relative size; sizes out of reach are left out."""
    rng = np.random.default_rng(0)
    for layer, gates in GATES.items():
        for H in hidden:
            reached = [size for size in sizes if size >= smallest_size(H, gates * H)]
            weights = [(rng.standard_normal((gates * H, H)) * H**-0.5).astype(np.float32) for _ in range(2)]
            models = [_dense(layer, weights), *(_deepthin(rng, layer, H, size) for size in reached)]
            if layer == "LSTM":
                models.insert(1, _quantised(weights))
            x = rng.standard_normal((steps, 1, H)).astype(np.float32)
            found = time_in_turn([_call(model, x) for model in models], rounds)
            dense, *others = found
            int8 = others.pop(0) if layer == "LSTM" else None
            for size, seconds in zip(reached, others, strict=True):
                yield Row(
                    layer=layer,
                    hidden=H,
                    steps=steps,
                    size=size,
                    seconds=seconds,
                    dense_seconds=dense,
                    int8_seconds=int8,
                    speedup=dense / seconds,
                    int8_speedup=None if int8 is None else int8 / seconds,
                )


def _call(model: bytes, x: Float) -> Callable[[], object]:
    """Bound inputs and outputs keep the copies that Python would make out of all figures."""
    ready = session(model)
    binding = ready.io_binding()
    binding.bind_ortvalue_input("X", ort.OrtValue.ortvalue_from_numpy(x))
    binding.bind_output("Y", "cpu")
    return lambda: ready.run_with_iobinding(binding)


def _model(node: bytes, H: int, constants: dict[str, np.ndarray], rank: int) -> bytes:
    initializers = [graph.tensor(name, values) for name, values in constants.items()]
    shape: list[int | str] = ["steps", 1, 1, H] if rank == 4 else ["steps", 1, H]
    return graph.model([node], [graph.value("X", ["steps", 1, H])], [graph.value("Y", shape)], initializers)


def _dense(layer: str, weights: Sequence[Float]) -> bytes:
    """ONNX Runtime's own fp32 layer."""
    H = weights[0].shape[1]
    attributes: dict[str, int | str] = {"linear_before_reset": 1} if layer == "GRU" else {}
    node = graph.node(layer, ["X", "W", "R"], ["Y"], domain="", **attributes | {"hidden_size": H})
    return _model(node, H, {"W": weights[0][None], "R": weights[1][None]}, 4)


def _quantised(weights: Sequence[Float]) -> bytes:
    """ONNX Runtime's LSTM with signed 8-bit weights, one scale for each matrix, as its quantiser writes it."""
    H = weights[0].shape[1]
    constants: dict[str, np.ndarray] = {}
    for name, weight in zip("WR", weights, strict=True):
        scale = np.abs(weight).max() / 127
        constants[name] = np.round(weight.T / scale).astype(np.int8)[None]
        constants[f"{name}_scale"] = np.array([scale], np.float32)
        constants[f"{name}_zero"] = np.zeros(1, np.int8)
    inputs = ["X", "W", "R", "", "", "", "", "", "W_scale", "W_zero", "R_scale", "R_zero"]
    node = graph.node("DynamicQuantizeLSTM", inputs, ["Y"], "com.microsoft", hidden_size=H)
    return _model(node, H, constants, 4)


def _deepthin(rng: np.random.Generator, layer: str, H: int, size: float) -> bytes:
    geometry = solve(H, GATES[layer] * H, size)
    constants: dict[str, np.ndarray] = {}
    for matrix in "wr":
        constants[f"Xf_{matrix}"] = rng.standard_normal((geometry.m, geometry.r), np.float32) * np.float32(H**-0.5)
        constants[f"Wf_{matrix}"] = rng.standard_normal((geometry.r, geometry.n), np.float32)
    node = graph.node(f"DeepThin{layer}", ["X", *constants], ["Y"], "deepthin", hidden_size=H, input_size=H)
    return _model(node, H, constants, 3)
