"""The geometry of least time is one of about the wished size, and what is measured for it is kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from math import gcd
from pathlib import Path

import pytest

from ops import costs
from ops.costs import CostModel, cache_folder, cost_model
from ops.errors import GeometryError
from ops.fastest import solve_fastest
from ops.layout import solve
from ops.measure import estimate_products

FAKE = CostModel((1e-7, 1e-9, 1e-9, 1e-9), (2e-7, 2e-9, 2e-9, 2e-9))


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[CostModel]]:
    """Every measurement gives FAKE and is written down; what is kept lies in an empty folder."""
    calls: list[CostModel] = []

    def measure() -> CostModel:
        calls.append(FAKE)
        return FAKE

    monkeypatch.setenv("DEEPTHIN_HOME", str(tmp_path))
    monkeypatch.setattr(costs, "measure", measure)
    costs._cost_model.cache_clear()
    yield calls
    costs._cost_model.cache_clear()


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize(("Q", "R", "size"), [(256, 256, 0.05), (300, 200, 0.1), (512, 512, 0.006)])
def test_it_is_of_the_wished_size_and_fills_the_matrix(Q: int, R: int, size: float, rows: int) -> None:
    geometry = solve_fastest(Q, R, size, rows=rows, costs=FAKE)
    assert (geometry.Q, geometry.R) == (Q, R)
    assert gcd(geometry.n, Q) == 1
    least = min(0.97 * size, solve(Q, R, size).relative_size)
    assert least <= geometry.relative_size <= size
    assert solve_fastest(Q, R, size, rows=rows, costs=FAKE) is geometry


def test_a_size_that_no_rank_reaches_is_refused() -> None:
    with pytest.raises(GeometryError, match="no rank of"):
        solve_fastest(64, 64, 0.001, costs=FAKE)


def test_costs_decide() -> None:
    """Where only the band costs anything the longest rows win, and where only taps and transforms do the shortest."""
    only_band, only_correlation = (0.0, 0.0, 0.0, 1e-9), (0.0, 1e-9, 1e-9, 0.0)
    long = solve_fastest(512, 512, 0.01, costs=CostModel(only_band, only_band))
    short = solve_fastest(512, 512, 0.01, costs=CostModel(only_correlation, only_correlation))
    assert long.r * long.n > 2 * short.n
    assert short.r == 1


def test_the_usual_geometry_stays_where_none_is_much_faster() -> None:
    same = (1.0, 0.0, 0.0, 0.0)
    assert solve_fastest(512, 512, 0.01, costs=CostModel(same, same)) == solve(512, 512, 0.01)


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_work_is_counted_for_rows_and_blocks(rows: int) -> None:
    short, long = estimate_products(1024, 1024, rows, [(5, 1), (255, 1)])
    for counted in (short, long):
        assert counted[0] + counted[4] > 0
        assert (counted[3] > 0) == (counted[0] > 0)
        assert (counted[7] > 0) == (counted[4] > 0)
    taps, transforms = [1, 5], [2, 6]
    assert short[taps].any() and not short[transforms].any()
    assert long[transforms].any() and not long[taps].any()


def test_costs_are_measured_once_and_kept(measured: list[CostModel], tmp_path: Path) -> None:
    assert cost_model() == FAKE
    costs._cost_model.cache_clear()
    assert cost_model() == FAKE
    assert len(measured) == 1
    (kept,) = (tmp_path / "cache").iterdir()
    assert json.loads(kept.read_text())["row"] == list(FAKE.row)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: json.dumps({**json.loads(text), "processor": "another"}),
        lambda text: json.dumps({**json.loads(text), "row": [1, 2, 3]}),
        lambda text: json.dumps({**json.loads(text), "row": [1, 2, 3, -1]}),
        lambda text: json.dumps({**json.loads(text), "block": [float("nan")] * 4}),
        lambda text: json.dumps({**json.loads(text), "block": "fast"}),
        lambda text: json.dumps({**json.loads(text), "row": [0, 0, 0, 0]}),
    ],
)
def test_what_is_damaged_is_measured_again(measured: list[CostModel], tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    cost_model()
    (kept,) = (tmp_path / "cache").iterdir()
    sound = kept.read_text()
    kept.write_text(damage(sound))
    costs._cost_model.cache_clear()
    assert cost_model() == FAKE
    assert len(measured) == 2
    assert kept.read_text() == sound
    assert list(kept.parent.iterdir()) == [kept]


def test_another_instruction_set_has_costs_of_its_own(
    measured: list[CostModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost_model()
    monkeypatch.setenv("DEEPTHIN_OPS_ISA", "scalar")
    cost_model()
    assert len(measured) == len(list((tmp_path / "cache").iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_done_without(
    measured: list[CostModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPTHIN_HOME", str(tmp_path / "file"))
    assert cost_model() == FAKE


def test_the_folder_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPTHIN_HOME", "/some/home")
    assert cache_folder() == Path("/some/home/cache")
    monkeypatch.delenv("DEEPTHIN_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    assert cache_folder() == Path("/some/cache/deepthin")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path(os.environ["HOME"]) / ".cache" / "deepthin"


def test_a_real_measurement_gives_times() -> None:
    """Whatever the machine is doing: figures that are no time at all would choose at random."""
    found = costs.measure()
    for figures in (found.row, found.block):
        assert min(figures) >= 0
        assert sum(figures) > 0
