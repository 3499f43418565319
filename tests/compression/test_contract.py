"""Every method keeps the contract: plans, errors, streams and exported layers; what is special has files of its own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.compression.base import Method, StreamError
from models.compression.deep_compression import DeepCompression
from models.compression.deepthin import DeepThin
from models.compression.deepthin_codebook import DeepThinCodebook
from models.compression.deepthin_shuffled import DeepThinShuffled
from models.compression.deepthin_typed import DeepThinFloat16, DeepThinInt8
from models.compression.hashed import Hashed
from models.compression.low_rank import LowRank
from models.compression.low_rank_codebook import LowRankCodebook
from models.compression.pruned_csr import PrunedCsr
from models.compression.same_size import SameSize
from tests.compression import contract
from tests.compression.contract import correlated, weight


@dataclass(frozen=True)
class Case:
    """A method and what is asked of it.

    Attributes:
        method: the method.
        sizes: relative sizes of a 48 x 40 weight at which the errors fall.
        gains: shapes, relative sizes and ranks at which calibration pays.
        pays: the output error with calibration is below so much of that without.
        exports: shapes, relative sizes and ranks of exported layers.
        ranks: ranks above this one are refused.
        helpers: at most so many bytes of constants in an exported layer are no stored arrays.
        never_worse: calibration never makes the output worse, not even with fewer rows than inputs.
    """

    method: Method
    sizes: tuple[float, ...]
    gains: tuple[tuple[int, int, float, int], ...]
    pays: float
    exports: tuple[tuple[int, int, float, int], ...]
    ranks: int = 1
    helpers: int = 0
    never_worse: bool = False

    def __str__(self) -> str:
        return self.method.name


_WIDE = ((40, 33, 0.2, 1), (7, 90, 0.2, 2), (50, 50, 0.9, 1))
CASES = (
    Case(
        DeepThin(),
        (0.08, 0.1, 0.2, 0.3),
        ((60, 50, 0.1, 1), (61, 20, 0.3, 2), (24, 200, 0.08, 1)),
        0.95,
        _WIDE,
        ranks=4,
        never_worse=True,
    ),
    Case(
        DeepThinShuffled(),
        (0.08, 0.1, 0.2, 0.3),
        ((60, 50, 0.1, 1), (61, 20, 0.3, 2)),
        0.95,
        _WIDE,
        ranks=3,
        never_worse=True,
    ),
    Case(
        DeepThinCodebook(),
        (0.03, 0.05, 0.2),
        ((96, 64, 0.06, 1), (96, 64, 0.06, 2)),
        0.9,
        ((71, 33, 0.08, 1), (71, 33, 0.08, 3)),
        ranks=3,
    ),
    Case(
        DeepThinFloat16(),
        (0.04, 0.06, 0.1, 0.15),
        ((60, 50, 0.05, 1), (61, 20, 0.15, 2), (24, 200, 0.04, 1)),
        0.95,
        _WIDE,
        ranks=4,
        never_worse=True,
    ),
    Case(
        DeepThinInt8(),
        (0.03, 0.05, 0.06, 0.3),
        ((60, 50, 0.05, 1), (61, 20, 0.12, 2), (24, 200, 0.04, 1)),
        0.95,
        _WIDE,
        ranks=4,
        never_worse=True,
    ),
    Case(
        Hashed(),
        (0.02, 0.1, 0.3, 1.0),
        ((60, 50, 0.1, 1),),
        0.95,
        ((40, 33, 0.2, 1), (7, 90, 0.01, 1), (1, 5, 1.0, 1)),
        never_worse=True,
    ),
    Case(
        LowRank(),
        (0.05, 0.2, 0.8, 2.0),
        ((60, 50, 0.1, 1),),
        0.95,
        ((40, 33, 0.2, 1), (7, 90, 0.3, 1)),
        never_worse=True,
    ),
    Case(LowRankCodebook(), (0.05, 0.08, 0.16, 0.3), ((96, 64, 0.05, 1), (96, 64, 0.15, 1)), 0.7, ((70, 33, 0.1, 1),)),
    Case(
        SameSize(),
        (0.02, 0.1, 0.4, 1.1),
        ((60, 50, 0.3, 1),),
        0.95,
        ((40, 33, 0.2, 1), (7, 90, 0.05, 1), (12, 8, 9.0, 1), (5, 5, 0.09, 1)),
        helpers=40,
        never_worse=True,
    ),
    Case(
        PrunedCsr(),
        (0.04, 0.1, 0.3, 0.8, 1.4),
        ((96, 64, 0.05, 1), (96, 64, 0.3, 1), (96, 64, 1.2, 1)),
        0.7,
        ((70, 33, 0.2, 1),),
    ),
    Case(
        DeepCompression(),
        (0.03, 0.06, 0.12, 0.25, 0.45),
        ((96, 64, 0.03, 1), (96, 64, 0.15, 1)),
        0.7,
        ((150, 33, 0.03, 1),),
    ),
)
EACH = pytest.mark.parametrize("case", CASES, ids=str)


@EACH
@settings(max_examples=40, deadline=None)
@given(
    Q=st.integers(1, 70),
    R=st.integers(1, 40),
    wish=st.one_of(st.floats(1e-4, 3.0), st.floats(0.005, 1.0)),
    rank=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_what_is_stored_is_what_was_planned(case: Case, Q: int, R: int, wish: float, rank: int, seed: int) -> None:
    contract.check_plan(case.method, Q, R, wish, rank=min(rank, case.ranks), seed=seed)


@EACH
def test_errors_fall_as_sizes_grow(case: Case) -> None:
    contract.check_errors(case.method, 48, 40, case.sizes)


@EACH
def test_calibration_pays(case: Case) -> None:
    for Q, R, size, rank in case.gains:
        aware, plain = contract.gain(case.method, weight(Q, R), size, correlated(Q)[1], rank=rank)
        assert aware < case.pays * plain, (Q, R, size, rank)


@pytest.mark.parametrize("case", [case for case in CASES if case.never_worse], ids=str)
@settings(max_examples=20, deadline=None)
@given(Q=st.integers(2, 24), R=st.integers(2, 24), size=st.floats(0.02, 1.2), seed=st.integers(0, 99))
def test_calibration_never_costs(case: Case, Q: int, R: int, size: float, seed: int) -> None:
    assume(size >= case.method.sizes(Q, R)[0])
    # Fewer rows than inputs: the moment alone could not be inverted.
    aware, plain = contract.gain(case.method, weight(Q, R, seed), size, correlated(Q, 3, seed)[1])
    assert aware <= plain


@EACH
def test_streams_and_exported_layers(case: Case) -> None:
    for Q, R, size, rank in case.exports:
        plan = case.method.plan(Q, R, size, rank=rank)
        assert case.ranks == 1 or plan.geometry["r"] == rank
        compressed = case.method.compress(weight(Q, R), plan, correlated(Q)[1])
        contract.check_stream(case.method, compressed)
        contract.check_export(case.method, compressed, helpers=case.helpers)


@EACH
def test_a_stream_of_another_shape_is_refused(case: Case) -> None:
    plan = case.method.plan(40, 30, 0.3)
    stream = case.method.encode(case.method.compress(weight(40, 30), plan))
    for other in (case.method.plan(60, 30, 0.3), case.method.plan(40, 45, 0.3)):
        with pytest.raises(StreamError):
            case.method.decode(stream, other)


@EACH
def test_nothing_stays_nothing(case: Case) -> None:
    for Q, R in ((20, 30), (30, 20)):
        contract.check_nothing(case.method, Q, R, 0.5)
