"""Run the operators on every instruction set of the processor being emulated, against the reference.

Needs no more than NumPy, ONNX Runtime and the sources, unlike the tests proper.
"""

import os
import sys
import time

import numpy as np

from ops import graph
from ops.layout import reconstruct
from ops.library import available_instruction_sets, instruction_set, session
from ops.quantised import dequantise_rows, quantise_rows
from ops.reference import deepthin_gru, deepthin_lstm, deepthin_matmul, matmul
from tests.ops import formats
from tests.ops.layers import GEOMETRIES, backward, check, ctc, ctc_reference, forward, layer, utterances
from tests.ops.operators import lstm_model, matrix_model

SHAPES = [
    # Q, R, n, r
    (64, 96, 7, 1),
    (100, 133, 31, 2),
    (37, 65, 4, 3),
    (48, 64, 12, 1),
    (20, 30, 77, 1),
    (1, 5, 3, 1),
    (256, 384, 53, 1),
]


def factors(rng: np.random.Generator, Q: int, R: int, n: int, r: int) -> list[np.ndarray]:
    scale = (Q * r) ** -0.25
    return [(scale * rng.standard_normal(shape)).astype(np.float32) for shape in ((-(-Q * R // n), r), (r, n))]


def check_matmul(rng: np.random.Generator) -> int:
    checked = 0
    for Q, R, n, r in SHAPES:
        Xf, Wf = factors(rng, Q, R, n, r)
        constants = {"Xf": Xf, "Wf": Wf, "bias": rng.standard_normal(R).astype(np.float32)}
        for activation in ("", "tanh"):
            node = graph.node("DeepThinMatMul", ["X", *constants], ["Y"], "deepthin", Q=Q, R=R, activation=activation)
            model = graph.model(
                [node],
                [graph.value("X", ["N", Q])],
                [graph.value("Y", ["N", R])],
                [graph.tensor(name, values) for name, values in constants.items()],
            )
            ready = session(model)
            for rows in (0, 1, 3, 4, 9, 16):
                x = rng.standard_normal((rows, Q)).astype(np.float32)
                expected = deepthin_matmul(x, Xf, Wf, R, constants["bias"], activation)
                np.testing.assert_allclose(ready.run(None, {"X": x})[0], expected, rtol=0, atol=1e-5)
                checked += 1
    return checked


def check_ways(rng: np.random.Generator) -> int:
    """The transforms, one row and side by side, and factors in half precision and in 8 bits."""
    checked = 0
    for way in ("direct,rows", "direct,lanes", "fft,rows", "fft,lanes"):
        os.environ["DEEPTHIN_OPS_PATH"] = way
        for Q, R, n, r in ((96, 64, 61, 1), (127, 64, 61, 2), (250, 90, 83, 1), (700, 64, 61, 1)):
            Xf, Wf = factors(rng, Q, R, n, r)
            codes, scales = quantise_rows(Xf)
            for stored, meant in (
                ({"Xf": Xf, "Wf": Wf}, Xf),
                ({"Xf": Xf.astype(np.float16), "Wf": Wf}, Xf.astype(np.float16)),
                ({"Xf": codes, "Wf": Wf, "Xf_scales": scales}, dequantise_rows(codes, scales)),
            ):
                names = ["Xf", "Wf", *(["", "Xf_scales"] if "Xf_scales" in stored else [])]
                node = graph.node("DeepThinMatMul", ["X", *names], ["Y"], "deepthin", Q=Q, R=R)
                tensors = [graph.tensor(name, values) for name, values in stored.items()]
                ready = session(
                    graph.model([node], [graph.value("X", ["N", Q])], [graph.value("Y", ["N", R])], tensors)
                )
                x = rng.standard_normal((9, Q)).astype(np.float32)
                expected = deepthin_matmul(x, meant.astype(np.float64), Wf, R)
                np.testing.assert_allclose(ready.run(None, {"X": x})[0], expected, rtol=0, atol=2e-5)
                checked += 1
    del os.environ["DEEPTHIN_OPS_PATH"]
    return checked


def check_formats(rng: np.random.Generator) -> int:
    checked = 0
    # To make a matrix takes most of the time here: every width is tried on a small one alone.
    for Q, R, widths in ((37, 65, range(1, 9)), (600, 51, (2, 5)), (1, 5, (3,))):
        matrices = [
            formats.csr(rng, Q, R, 0.2),
            formats.csr(rng, Q, R, 0.2, wide=True),
            *(formats.codebook(rng, Q, R, bits) for bits in widths),
            *(formats.codebook_csr(rng, Q, R, 0.2, bits, 9 - bits) for bits in widths),
            formats.hashed(rng, Q, R, 77, 5),
            formats.shuffled(rng, Q, R, 31, 2, 5),
        ]
        for stored in matrices:
            ready = session(matrix_model(stored.op, Q, R, stored.inputs, activation="tanh", **stored.attributes))
            for rows in (1, 9, 70):
                x = rng.standard_normal((rows, Q)).astype(np.float32)
                expected = matmul(x, stored.weight, activation="tanh")
                np.testing.assert_allclose(ready.run(None, {"X": x})[0], expected, rtol=0, atol=1e-5)
                checked += 1
    return checked


def check_gru(rng: np.random.Generator) -> int:
    width, H, checked = 30, 21, 0
    names = ["Xf_w", "Wf_w", "Xf_r", "Wf_r"]
    values = [*factors(rng, width, 3 * H, 11, 1), *factors(rng, H, 3 * H, 8, 2)]
    B = rng.standard_normal(6 * H).astype(np.float32)
    for linear in (0, 1):
        node = graph.node(
            "DeepThinGRU", ["X", *names, "B"], ["Y", "Y_h"], "deepthin",
            hidden_size=H, linear_before_reset=linear, input_size=width,
        )  # fmt: skip
        constants = [graph.tensor(name, value) for name, value in zip([*names, "B"], [*values, B], strict=True)]
        outputs = [graph.value("Y", ["T", "N", H]), graph.value("Y_h", ["N", H])]
        ready = session(graph.model([node], [graph.value("X", ["T", "N", width])], outputs, constants))
        for batch in (1, 6):
            x = rng.standard_normal((9, batch, width)).astype(np.float32)
            expected, last = deepthin_gru(x, *values, H, B, linear_before_reset=bool(linear))
            Y, Y_h = ready.run(None, {"X": x})
            np.testing.assert_allclose(Y, expected, rtol=0, atol=2e-5)
            np.testing.assert_allclose(Y_h, last, rtol=0, atol=2e-5)
            checked += 1
    return checked


def check_lstm(rng: np.random.Generator) -> int:
    width, H, checked = 30, 21, 0
    values = [*factors(rng, width, 4 * H, 11, 1), *factors(rng, H, 4 * H, 8, 2)]
    B = rng.standard_normal(8 * H).astype(np.float32)
    ready = session(lstm_model(values, width, H, B, False, input_size=width))
    for batch in (1, 6):
        x = rng.standard_normal((9, batch, width)).astype(np.float32)
        for found, expected in zip(ready.run(None, {"X": x}), deepthin_lstm(x, *values, H, B), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
        checked += 1
    return checked


def check_training(rng: np.random.Generator) -> int:
    for geometry in GEOMETRIES:
        for rows in (1, 17, 33):
            Xf, Wf, bias, x, dy = layer(geometry, rows, seed=rows)
            expected = x @ reconstruct(Xf.astype(np.float64), Wf.astype(np.float64), geometry.Q, geometry.R) + bias
            np.testing.assert_allclose(forward(geometry, Xf, Wf, bias, x), expected, rtol=0, atol=2e-5)
            check(backward(geometry, Xf, Wf, x, None, dy), geometry, Xf, Wf, x, dy)
    lengths = [1, 2, 9, 25]
    log_probs, sequences = utterances(lengths, [1, 1, 4, 10], 7)
    for found, wanted in zip(
        ctc(log_probs, lengths, sequences), ctc_reference(log_probs, lengths, sequences), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=3e-5)
    return 3 * len(GEOMETRIES) + 1


def main() -> None:
    start = time.perf_counter()
    available = available_instruction_sets()
    assert available == ("neon", "scalar"), available
    for name in available:
        os.environ["DEEPTHIN_OPS_ISA"] = name
        assert instruction_set() == name
        rng = np.random.default_rng(0)
        products, layers = check_matmul(rng) + check_ways(rng) + check_formats(rng), check_gru(rng) + check_lstm(rng)
        trained = check_training(rng)
        print(
            f"aarch64 ({sys.argv[1]}): {name}: {products} products, {layers} recurrent layers and {trained} passes of "
            "training agree"
        )
    print(f"aarch64 ({sys.argv[1]}): done in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
