"""Which rows a layer's moments are made of."""

from __future__ import annotations

import numpy as np
import pytest

from models.compression import calibrate
from models.compression.base import Calibration, output_error
from models.compression.calibrate import Calibrator
from models.compression.network import find
from models.compression.registry import method
from tests.compression.networks import feed_forward


def recordings(count: int, rows: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"features": rng.standard_normal((rows, 24)).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize(("limit", "expected"), [(10_000, 2000), (500, 500), (60, 60)])
def test_as_many_rows_as_asked_for_from_all_over(limit: int, expected: int):
    network = find(feed_forward())
    feeds = recordings(20, 100)
    moments = Calibrator(network, feeds, max_rows=limit).moments(network.layers[0], None)
    assert moments.rows == pytest.approx(expected, rel=0.25)
    # Unit variance, whichever rows were taken.
    assert np.trace(moments.oo) / 24 == pytest.approx(1, rel=0.2)


def test_recordings_that_are_not_needed_are_not_run(monkeypatch: pytest.MonkeyPatch):
    network = find(feed_forward())
    calibrator, seen = Calibrator(network, recordings(20, 100), max_rows=200), set()
    run = calibrate._Part.run
    monkeypatch.setattr(calibrate._Part, "run", lambda self, index: seen.add(index) or run(self, index))
    calibrator.moments(network.layers[1], None)
    assert len(seen) == 4


def test_few_rows_are_not_believed_where_they_say_nothing() -> None:
    """On rows that nothing was fitted to, a weight that was fitted to few of them errs less than by its own error."""
    rng = np.random.default_rng(3)
    mixing = 0.5 ** np.abs(np.subtract.outer(np.arange(96), np.arange(96)))
    x, held_out = (rng.standard_normal((rows, 96)) @ mixing for rows in (48, 4000))
    W, chosen = rng.standard_normal((96, 64)).astype(np.float32), method("int3-compact")
    plan, given = chosen.plan(96, 64, 1.0), Calibration(held_out.T @ held_out / 4000, 4000)

    def error(calibration: Calibration | None) -> float:
        return output_error(W, chosen.decompress(chosen.compress(W, plan, calibration)), given)

    few = Calibration(x.T @ x / 48, 48)
    believed = Calibration(few.moment, 1_000_000)
    assert error(few) < 0.95 * error(None)
    assert error(few) < 0.95 * error(believed)


def test_inputs_that_hardly_vary_leave_a_moment_that_can_be_inverted() -> None:
    moment = np.full((40, 40), 2e-4)
    moment[0, 0] = 0.2
    moment[1, 1] = -1e-3
    damped = Calibration(moment, 10_000).damped()
    assert np.linalg.eigvalsh(damped)[0] > 0
    assert np.abs(damped - moment).max() < 1e-2
