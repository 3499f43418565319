"""Print by how many bytes a process grows with a model: ``python -m tests.ops.memory_probe FILE Q``."""

import gc
import sys
from pathlib import Path

import numpy as np

from ops.library import session
from tests.ops import formats
from tests.ops.operators import matrix_model

PROC = Path("/proc/self/smaps_rollup")


def anonymous() -> int:
    """Bytes of memory that no file backs."""
    return next(int(line.split()[1]) * 1024 for line in PROC.read_text().splitlines() if line.startswith("Pss_Anon:"))


def run(model: bytes | str, Q: int) -> object:
    """The session, after a call with one row and one with 16."""
    ready = session(model)
    for rows in (1, 16):
        ready.run(None, {"X": np.ones((rows, Q), np.float32)})
    return ready


def main() -> None:
    small = formats.csr(np.random.default_rng(0), 8, 8, 0.5)
    held = [run(matrix_model(small.op, 8, 8, small.inputs), 8)]
    before = anonymous()
    held.append(run(sys.argv[1], int(sys.argv[2])))
    gc.collect()
    print(anonymous() - before)


if __name__ == "__main__":
    main()
