"""deepthin-float16 and deepthin-int8: DeepThin's factors in fewer bits."""

from __future__ import annotations

import numpy as np
import pytest

from models.compression.deepthin import DeepThin
from models.compression.deepthin_typed import DeepThinFloat16, DeepThinInt8
from ops.quantised import SCALED_ROWS
from tests.compression import contract
from tests.compression.contract import correlated, weight

FLOAT16, INT8 = DeepThinFloat16(), DeepThinInt8()


@pytest.mark.parametrize("method", [FLOAT16, INT8], ids=lambda method: method.name)
def test_the_whole_range_can_be_had(method: DeepThinFloat16) -> None:
    contract.check_reaches(method, 65, 96, within=0.5)


def test_bytes_are_exact() -> None:
    plan = INT8.plan(200, 300, 0.02, rank=2)
    m, n, r = (int(plan.geometry[key]) for key in "mnr")
    assert r == 2
    assert plan.disk_bytes == m * r + 2 * r * n + 4 * r * -(-m // SCALED_ROWS)
    plan = FLOAT16.plan(200, 300, 0.02)
    assert plan.disk_bytes == 2 * (int(plan.geometry["m"]) + int(plan.geometry["n"]))


@pytest.mark.parametrize(("method", "share", "more"), [(FLOAT16, 0.5, 0.001), (INT8, 0.3, 0.01)],
                         ids=lambda value: getattr(value, "name", None))  # fmt: skip
def test_fewer_bits_cost_next_to_nothing(method: DeepThinFloat16, share: float, more: float) -> None:
    """The same geometry in fewer bytes, and an output that differs by below a hundredth."""
    W, (x, inputs) = weight(300, 200), correlated(300)
    full = DeepThin().compress(W, DeepThin().plan(300, 200, 0.1), inputs)
    n = int(full.plan.geometry["n"])
    wished = next(s for s in np.linspace(0.02, 0.06, 200) if int(method.plan(300, 200, s).geometry["n"]) == n)
    few = method.compress(W, method.plan(300, 200, wished), inputs)
    assert few.plan.disk_bytes < 1.05 * share * full.plan.disk_bytes
    exact, rounded = x @ DeepThin().decompress(full), x @ method.decompress(few)
    assert np.linalg.norm(rounded - exact) < more * np.linalg.norm(exact)


@pytest.mark.parametrize("method", [FLOAT16, INT8], ids=lambda method: method.name)
@pytest.mark.parametrize("scale", [1e-9, 1e9, 1e12])
def test_weights_of_any_size_stay_finite(method: DeepThinFloat16, scale: float) -> None:
    W = weight(40, 30) * np.float32(scale)
    compressed = method.compress(W, method.plan(40, 30, 0.2))
    assert np.isfinite(method.decompress(compressed)).all()
    assert np.isfinite(contract.run(method, compressed, np.ones((2, 40), np.float32))).all()
