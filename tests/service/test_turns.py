"""Threads that work in the order of turns."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from service.turns import TurnPool


def test_the_earliest_turn_goes_first_and_what_it_asked_for_first() -> None:
    pool = TurnPool(1, "test")
    begun, gate = threading.Event(), threading.Event()
    order: list[str] = []

    def block() -> bool:
        begun.set()
        return gate.wait(120)

    blocked = pool.submit(9, block)
    assert begun.wait(120)
    results = [
        pool.submit(turn, lambda name=name: order.append(name))
        for turn, name in ((3, "c"), (1, "a"), (2, "b"), (1, "A"))
    ]
    gate.set()
    assert blocked.result(120) is True
    for result in results:
        result.result(120)
    assert order == ["a", "A", "b", "c"]
    pool.shutdown()


def test_what_fails_fails_alone_and_what_is_cancelled_is_never_done() -> None:
    pool = TurnPool(1, "test")
    begun, gate = threading.Event(), threading.Event()

    def block() -> bool:
        begun.set()
        return gate.wait(120)

    pool.submit(0, block)
    assert begun.wait(120)
    done: list[int] = []
    failing = pool.submit(1, lambda: 1 // 0)
    cancelled = pool.submit(2, lambda: done.append(2))
    assert cancelled.cancel()
    after = pool.submit(3, lambda: "well")
    gate.set()
    with pytest.raises(ZeroDivisionError):
        failing.result(120)
    assert after.result(120) == "well"
    assert done == []
    pool.shutdown()


def test_a_pool_that_is_shut_down_ends_what_runs_and_cancels_the_rest() -> None:
    pool = TurnPool(2, "test")
    begun, gate = threading.Barrier(3), threading.Event()

    def block() -> bool:
        begun.wait(120)
        return gate.wait(120)

    running = [pool.submit(1, block) for _ in range(2)]
    begun.wait(120)
    waiting = [pool.submit(turn, lambda: True) for turn in (0, 2)]
    pool.shutdown()
    gate.set()
    assert [work.result(120) for work in running] == [True, True]
    for work in waiting:
        with pytest.raises(CancelledError):
            work.result(120)
    with pytest.raises(RuntimeError):
        pool.submit(1, lambda: True)
