"""A limit on the memory of a worker: a network from a stranger may ask for any amount, and ONNX Runtime tries."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ops.errors import DeepThinError

# What is said by those that have no exception of their own for it: the C++ library (through ONNX Runtime), ONNX
# Runtime's allocator, NumPy, PyTorch.
_COMPLAINTS: Final = ("bad_alloc", "Failed to allocate memory", "Unable to allocate", "can't allocate memory")
_CONTAINER: Final = Path("/sys/fs/cgroup/memory.max")


class OutOfMemoryError(DeepThinError, MemoryError):
    """A job needs more memory than it may have."""


def half_of_memory() -> int:
    """Bytes: half of what the machine, or the container, has."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # There is no such file outside Linux, and it says "max" where nothing is limited.
    with suppress(OSError, ValueError):
        total = min(total, int(_CONTAINER.read_text(encoding="ascii")))
    return total // 2


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Let this process have at most `size` bytes of memory of its own; what goes beyond them fails.

    Mapped files and address space that is only reserved, of which libraries take much, do not count. Linux enforces
    it; other systems may not.

    Raises:
        OutOfMemoryError: it was not enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = size if soft == resource.RLIM_INFINITY else min(size, soft)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        try:
            yield
        finally:
            # What is left to do needs a little, whatever a traceback still holds on to.
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    except Exception as error:
        if ran_out(error):
            raise OutOfMemoryError(f"it needs more memory than DEEPTHIN_JOB_MEMORY_BYTES ({size} bytes)") from error
        raise


def ran_out(error: BaseException | None) -> bool:
    """Whether `error`, or one that led to it, says that memory was refused."""
    while error is not None:
        if isinstance(error, MemoryError) or any(complaint in str(error) for complaint in _COMPLAINTS):
            return True
        error = error.__cause__ or error.__context__
    return False
