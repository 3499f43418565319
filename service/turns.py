"""Threads that work for the request that came first, whichever stage it is at."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

T = TypeVar("T")

_turns: Final = itertools.count(1)
_turn: ContextVar[int] = ContextVar("deepthin_turn", default=0)


def take_turn() -> None:
    """Have all that the current task asks for come behind what others ask for that took their turns before."""
    _turn.set(next(_turns))


def current_turn() -> int:
    """The turn of the current task; 0, before all others, if it never took one."""
    return _turn.get()


@dataclass(order=True, slots=True)
class _Work:
    turn: int
    number: int
    call: Callable[[], Any] = field(compare=False)
    result: Future[Any] = field(compare=False)


class TurnPool:
    """A pool of threads with a queue in the order of turns.

    In the order of submission, a request would wait again at every stage for the first stages of those that came later,
    and all of them would be late together.
    """

    def __init__(self, threads: int, name: str) -> None:
        """Up to `threads` threads, called `name` and a number."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._waiting: list[_Work] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def submit(self, turn: int, call: Callable[[], T]) -> Future[T]:
        """Have `call` called, after what is of an earlier turn, or of the same and was submitted before."""
        result: Future[T] = Future()
        with self._lock:
            heapq.heappush(self._waiting, _Work(turn, next(self._numbers), call, result))
        # One for each piece of work, and none knows which it will get.
        self._pool.submit(self._do_next)
        return result

    def shutdown(self) -> None:
        """Take no more work, and cancel what has not begun."""
        with self._lock:
            for work in self._waiting:
                work.result.cancel()
        self._pool.shutdown(wait=False)

    def _do_next(self) -> None:
        with self._lock:
            work = heapq.heappop(self._waiting)
        if not work.result.set_running_or_notify_cancel():
            return
        try:
            value = work.call()
        except BaseException as error:
            work.result.set_exception(error)
        else:
            work.result.set_result(value)
