"""Memory that was freed and that the C library keeps for itself."""

import ctypes
from collections.abc import Callable
from functools import cache


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        function = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):
        return None  # not glibc: its allocator needs no telling, or cannot be told
    function.argtypes, function.restype = (ctypes.c_size_t,), ctypes.c_int
    return function


def return_freed_memory() -> None:
    """Give the operating system what has been freed; does nothing without glibc.

    glibc keeps small blocks on free lists of each thread's arena. Those that loading a model leaves behind can be as
    much memory as the model itself.
    """
    if (trim := _trim()) is not None:
        trim(0)
