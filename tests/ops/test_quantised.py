"""DeepThinMatMul with factors in half precision and in 8 bits, against the double-precision reference."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops import graph
from ops.errors import GeometryError
from ops.layout import solve
from ops.library import session
from ops.quantised import dequantise_rows, quantise_rows
from ops.reference import ACTIVATIONS, deepthin_matmul
from tests.ops.operators import REFUSED, factors

examples = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
Array = np.ndarray[Any, Any]


def run(x: Array, Q: int, R: int, constants: dict[str, Array], threads: int = 1, **attributes: Any) -> Array:
    """The operator's output; `constants` are Xf, Wf and perhaps bias and Xf_scales."""
    names = [name if name in constants else "" for name in ("Xf", "Wf", "bias", "Xf_scales")]
    while not names[-1]:
        names.pop()
    node = graph.node("DeepThinMatMul", ["X", *names], ["Y"], "deepthin", Q=Q, R=R, **attributes)
    tensors = [graph.tensor(name, values) for name, values in constants.items()]
    model = graph.model([node], [graph.value("X", ["rows", Q])], [graph.value("Y", ["rows", R])], tensors)
    return np.asarray(session(model, threads=threads).run(None, {"X": x})[0])


@examples
@given(
    Q=st.integers(1, 200),
    R=st.integers(1, 200),
    n=st.integers(1, 120),
    r=st.integers(1, 3),
    rows=st.integers(1, 40),
    kind=st.sampled_from(["int8", "float16", "mixed"]),
    activation=st.sampled_from(ACTIVATIONS),
    threads=st.sampled_from([1, 2]),
)
def test_any_shape(
    isa: str, Q: int, R: int, n: int, r: int, rows: int, kind: str, activation: str, threads: int
) -> None:
    rng = np.random.default_rng(Q * R + n)
    Xf, Wf = factors(rng, Q, R, n, r)
    bias = rng.standard_normal(R).astype(np.float32)
    stored: dict[str, Array] = {"Xf": Xf.astype(np.float16), "Wf": Wf.astype(np.float16), "bias": bias}
    if kind == "int8":
        stored["Xf"], stored["Xf_scales"] = quantise_rows(Xf)
    if kind == "mixed":
        stored["Wf"] = Wf
    meant = dequantise_rows(stored["Xf"], stored["Xf_scales"]) if kind == "int8" else stored["Xf"]
    x = rng.standard_normal((rows, Q)).astype(np.float32)
    y = run(x, Q, R, stored, threads, activation=activation)
    expected = deepthin_matmul(x, meant.astype(np.float64), stored["Wf"].astype(np.float64), R, bias, activation)
    np.testing.assert_allclose(y, expected, rtol=0, atol=5e-6 * max(1.0, np.abs(expected).max(initial=0)))


@pytest.mark.parametrize("wish", [0.0195, 0.0020])
def test_half_the_bytes_at_an_error_below_a_hundredth(isa: str, wish: float) -> None:
    geometry = solve(1024, 1024, wish)
    rng = np.random.default_rng(0)
    Xf, Wf = factors(rng, 1024, 1024, geometry.n, 1)
    x = rng.standard_normal((16, 1024)).astype(np.float32)
    expected = deepthin_matmul(x, Xf, Wf, 1024)
    codes, scales = quantise_rows(Xf)
    for stored, share, most in (
        ({"Xf": Xf.astype(np.float16), "Wf": Wf.astype(np.float16)}, 0.5, 0.001),
        ({"Xf": codes, "Wf": Wf.astype(np.float16), "Xf_scales": scales}, 0.45, 0.01),
    ):
        assert sum(values.nbytes for values in stored.values()) <= share * (Xf.nbytes + Wf.nbytes)
        error = np.linalg.norm(run(x, 1024, 1024, stored) - expected) / np.linalg.norm(expected)
        assert 0 < error < most


def test_every_finite_half_is_read(isa: str) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    Xf = bits[(bits >> 10 & 31) != 31].view(np.float16)[:, None]
    x = np.ones((1, 9), np.float32)
    Wf = np.zeros((1, 9), np.float16)
    Wf[0, 4] = 1
    R = len(Xf)
    np.testing.assert_array_equal(run(x, 9, R, {"Xf": Xf, "Wf": Wf})[0], Xf[:, 0].astype(np.float32))


def test_codes_round_like_numpy(isa: str) -> None:
    codes = np.tile(np.arange(-128, 128, dtype=np.int8), 64)[:, None]
    rng = np.random.default_rng(1)
    scales = (10.0 ** rng.uniform(-9, 2, (len(codes) // 64, 1))).astype(np.float32)
    Wf = np.zeros((1, 9), np.float16)
    Wf[0, 4] = 1
    y = run(np.ones((1, 9), np.float32), 9, len(codes), {"Xf": codes, "Wf": Wf, "Xf_scales": scales})
    np.testing.assert_array_equal(y[0], dequantise_rows(codes, scales)[:, 0].astype(np.float32))


def test_zeros_and_wrong_scales() -> None:
    codes, scales = quantise_rows(np.zeros((70, 2)))
    assert not codes.any()
    assert not dequantise_rows(codes, scales).any()
    with pytest.raises(GeometryError, match="70 x 2 codes need 2 x 2 scales"):
        dequantise_rows(codes, scales[:1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Xf_scales": np.ones((2, 1), np.float32)}, "Xf_scales must be 1 x 1"),
        ({"Xf_scales": None}, "Xf_scales|index|input"),
        ({"Xf_scales": np.full((1, 1), np.inf, np.float32)}, "not finite"),
        ({"Xf_scales": np.full((1, 1), 1e30, np.float32)}, "not finite"),
        ({"Xf": np.ones(5, np.int8)}, "Xf must be m x r"),
        ({"Xf": np.zeros((0, 1), np.int8), "Xf_scales": np.zeros((0, 1), np.float32)}, "m must be between 1"),
        ({"Xf": np.full((5, 1), np.nan, np.float16)}, "Xf holds a value that is not finite"),
        ({"Wf": np.ones((1, 5), np.int8)}, "another type"),
        ({"Xf": np.ones((5, 1), np.int32)}, "another type"),
        ({"shuffle": 3}, "another type"),
    ],
)
def test_what_cannot_be_factors_is_refused(changes: dict[str, Any], message: str) -> None:
    whole: dict[str, Any] = {
        "Xf": np.ones((5, 1), np.int8),
        "Wf": np.ones((1, 5), np.float16),
        "bias": np.zeros(4, np.float32),
        "Xf_scales": np.ones((1, 1), np.float32),
    } | changes
    shuffle = {"shuffle": whole.pop("shuffle")} if "shuffle" in whole else {}
    constants = {name: values for name, values in whole.items() if values is not None}
    with pytest.raises(REFUSED, match=message):
        run(np.ones((1, 6), np.float32), 6, 4, constants, **shuffle)
