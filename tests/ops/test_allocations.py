"""Recurrent layers take no memory from one step to the next."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPILER = shutil.which("c++")


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that counts allocations."""
    if COMPILER is None:
        pytest.skip("needs a C++ compiler")
    if os.environ.get("LD_PRELOAD"):
        pytest.skip("another library is loaded before the interpreter, such as a sanitizer's with its own allocator")
    library = tmp_path_factory.mktemp("counter") / "allocations.so"
    source = Path(__file__).with_name("allocations.cpp")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", str(source), "-o", str(library)], check=True, timeout=300)
    return library


@pytest.mark.parametrize("batch", [1, 12])
@pytest.mark.parametrize("op", ["DeepThinGRU", "DeepThinLSTM"])
def test_a_longer_sequence_allocates_no_more_often(op: str, batch: int, counter: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "tests.ops.allocations_probe", op, str(batch)],
        env={**os.environ, "LD_PRELOAD": str(counter)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    short, long = map(int, found.stdout.split())
    assert 0 < short == long  # those of a call, such as the shapes of its inputs
