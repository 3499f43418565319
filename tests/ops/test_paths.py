"""Every way to a product, forced by DEEPTHIN_OPS_PATH, against the double-precision reference."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.layout import solve
from ops.library import session
from ops.reference import ACTIVATIONS
from tests.ops.operators import REFUSED, check_product, factors, matmul_model

# The fixtures force the same way for all examples; hypothesis cannot know that this is meant.
examples = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(params=["direct,rows", "direct,lanes", "fft,rows", "fft,lanes"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A way, forced for the sessions that the test creates."""
    monkeypatch.setenv("DEEPTHIN_OPS_PATH", request.param)
    return str(request.param)


@examples
@given(
    Q=st.integers(1, 300),
    R=st.integers(1, 300),
    n=st.integers(1, 200),
    r=st.integers(1, 4),
    rows=st.integers(1, 40),
    seed=st.integers(0, 99),
    activation=st.sampled_from(ACTIVATIONS),
    threads=st.sampled_from([1, 2]),
)
def test_any_shape(isa: str, path: str, rows: int, **geometry: Any) -> None:
    check_product(batch=(rows,), bias=True, **geometry)


@pytest.mark.parametrize("way", ["fft,rows", "fft,lanes"])
def test_transforms_of_many_lengths(isa: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPTHIN_OPS_PATH", way)
    # Odd factors of 1 to 75 by powers of two, and both ways of keeping them: for one rank and for several.
    for Q in (96, 127, 250, 384, 440, 509, 700, 899, 1200, 1801, 2400, 4096):
        check_product(Q, 64, 61, 1 + Q % 2, (9,), bias=True)


def test_real_size(isa: str, path: str) -> None:
    check_product(1024, 768, solve(1024, 768, 0.0057).n, 1, (21,), bias=True, threads=2)


def test_zeros_give_the_bias_alone(isa: str, path: str) -> None:
    Xf, Wf = factors(np.random.default_rng(0), 300, 200, 90, 1)
    bias = np.arange(200, dtype=np.float32)
    (y,) = session(matmul_model(300, 200, Xf, Wf, bias)).run(None, {"X": np.zeros((3, 300), np.float32)})
    np.testing.assert_array_equal(y, np.tile(bias, (3, 1)))


def test_rows_do_not_meet(isa: str, path: str) -> None:
    rng = np.random.default_rng(2)
    Xf, Wf = factors(rng, 300, 200, 90, 2)
    ready = session(matmul_model(300, 200, Xf, Wf))
    x = rng.standard_normal((16, 300)).astype(np.float32)
    apart = ready.run(None, {"X": x})[0]
    x[3] = np.nan
    together = ready.run(None, {"X": x})[0]
    assert np.isnan(together[3]).all()
    np.testing.assert_array_equal(np.delete(together, 3, 0), np.delete(apart, 3, 0))


def test_a_word_that_names_no_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPTHIN_OPS_PATH", "fft,fast")
    Xf, Wf = factors(np.random.default_rng(0), 60, 50, 11, 1)
    with pytest.raises(REFUSED, match="fast is none of direct, fft, rows and lanes"):
        session(matmul_model(60, 50, Xf, Wf))
