"""One-node models of the operators, for the tests here."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, RuntimeException

from ops import graph
from ops.library import session
from ops.reference import deepthin_matmul

REFUSED = (Fail, InvalidArgument, InvalidGraph, RuntimeException)
"""What ONNX Runtime raises, at one moment or another, for inputs that an operator does not take."""

Float = NDArray[np.float32]


def matmul_model(
    Q: int,
    R: int,
    Xf: Float,
    Wf: Float,
    bias: Float | None = None,
    shape: tuple[int | str, ...] = (),
    **attributes: Any,
) -> bytes:
    """A DeepThinMatMul whose input is ``[*shape, Q]``, or of any two axes."""
    return matrix_model("DeepThinMatMul", Q, R, {"Xf": Xf, "Wf": Wf}, bias, shape, **attributes)


def matrix_model(
    op: str,
    Q: int,
    R: int,
    stored: Mapping[str, NDArray[Any]],
    bias: Float | None = None,
    shape: tuple[int | str, ...] = (),
    **attributes: Any,
) -> bytes:
    """An operator with the constant inputs ``stored``, in this order; its input as that of `matmul_model`."""
    constants = dict(stored) | ({} if bias is None else {"bias": bias})
    node = graph.node(op, ["X", *constants], ["Y"], "deepthin", Q=Q, R=R, **attributes)
    leading = shape or ("rows",)
    return graph.model(
        [node],
        [graph.value("X", [*leading, Q])],
        [graph.value("Y", [*leading, R])],
        [graph.tensor(name, values) for name, values in constants.items()],
    )


def gru_model(factors: Sequence[Float], width: int, H: int, B: Float | None, state: bool, **attributes: Any) -> bytes:
    """A DeepThinGRU with the factors Xf_w, Wf_w, Xf_r, Wf_r; ``state`` adds the input ``initial_h``."""
    return _recurrent_model("DeepThinGRU", "h", factors, width, H, B, state, attributes)


def lstm_model(factors: Sequence[Float], width: int, H: int, B: Float | None, state: bool, **attributes: Any) -> bytes:
    """A DeepThinLSTM with the factors Xf_w, Wf_w, Xf_r, Wf_r; ``state`` adds ``initial_h`` and ``initial_c``."""
    return _recurrent_model("DeepThinLSTM", "hc", factors, width, H, B, state, attributes)


def _recurrent_model(
    op: str,
    states: str,
    factors: Sequence[Float],
    width: int,
    H: int,
    B: Float | None,
    given: bool,
    attributes: Mapping[str, Any],
) -> bytes:
    names = ["Xf_w", "Wf_w", "Xf_r", "Wf_r"]
    constants = dict(zip(names, factors, strict=True)) | ({} if B is None else {"B": B})
    initial = [f"initial_{letter}" for letter in states] if given else []
    last = [f"Y_{letter}" for letter in states]
    inputs = ["X", *names, "" if B is None else "B", *initial]
    node = graph.node(op, inputs, ["Y", *last], "deepthin", hidden_size=H, **attributes)
    return graph.model(
        [node],
        [graph.value("X", ["a", "b", width]), *(graph.value(name, ["batch", H]) for name in initial)],
        [graph.value("Y", ["c", "d", H]), *(graph.value(name, ["batch", H]) for name in last)],
        [graph.tensor(name, values) for name, values in constants.items()],
    )


def factors(rng: np.random.Generator, Q: int, R: int, n: int, r: int, surplus: int = 0) -> tuple[Float, Float]:
    """Random factors of a Q x R matrix, with `surplus` rows more than are read; entries of W have a variance of 1/Q."""
    m = -(-Q * R // n) + surplus
    scale = (Q * r) ** -0.25
    Xf, Wf = scale * rng.standard_normal((m, r)), scale * rng.standard_normal((r, n))
    return Xf.astype(np.float32), Wf.astype(np.float32)


def check_product(
    Q: int, R: int, n: int, r: int, batch: tuple[int, ...], seed: int = 0, threads: int = 1, **options: Any
) -> None:
    """A DeepThinMatMul on random input of ``[*batch, Q]``, against the double-precision reference."""
    rng = np.random.default_rng(seed)
    Xf, Wf = factors(rng, Q, R, n, r, options.pop("surplus", 0))
    bias = rng.standard_normal(R).astype(np.float32) if options.pop("bias", False) else None
    x = rng.standard_normal((*batch, Q)).astype(np.float32)
    shape = tuple(f"axis{i}" for i in range(len(batch)))
    if not batch:
        shape = ()
        x = x[None]
    (y,) = session(matmul_model(Q, R, Xf, Wf, bias, shape, **options), threads=threads).run(None, {"X": x})
    expected = deepthin_matmul(x, Xf, Wf, R, bias, options.get("activation", ""))
    assert y.shape == expected.shape
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=0, atol=5e-6 * max(1.0, np.abs(expected).max(initial=0)))
