"""Freed memory goes back to the operating system."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import memory
from models.recognisers import load

# Blocks below the size that glibc maps one by one; the last stays and holds the top of the heap.
SCRIPT = """
import os
from pathlib import Path
import numpy as np
from models.memory import return_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

blocks = [np.ones(50_000, np.uint8) for _ in range(1000)]
del blocks[:-1]
before = resident()
return_freed_memory()
print(before - resident())
"""


@pytest.fixture
def looked_up_anew() -> Iterator[None]:
    memory._trim.cache_clear()
    yield
    memory._trim.cache_clear()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or not Path("/proc/self/statm").exists(), reason="no glibc")
def test_freed_blocks_are_returned() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > 30_000_000


@pytest.mark.usefixtures("looked_up_anew")
@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def library(_name: None) -> object:
        if error is AttributeError:
            return object()
        raise error

    monkeypatch.setattr(ctypes, "CDLL", library)
    memory.return_freed_memory()
    assert memory._trim() is None


def test_loading_a_model_returns_memory(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    asked: list[int] = []
    monkeypatch.setattr(memory, "_trim", lambda: asked.append)
    load(home / "models" / "tiny-thin")
    assert asked == [0]
