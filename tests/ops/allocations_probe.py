"""Print how often a call of a recurrent layer allocates, for sequences of two lengths.

``python -m tests.ops.allocations_probe OPERATOR BATCH``, with allocations.cpp loaded before.
"""

import ctypes
import sys

import numpy as np
import onnxruntime as ort

from ops.library import session
from tests.ops.operators import factors, gru_model, lstm_model

WIDTH = H = 64


def main() -> None:
    op, batch = sys.argv[1], int(sys.argv[2])
    gates, model = (3, gru_model) if op == "DeepThinGRU" else (4, lstm_model)
    rng = np.random.default_rng(0)
    values = (*factors(rng, WIDTH, gates * H, 11, 1), *factors(rng, H, gates * H, 11, 1))
    ready = session(model(values, WIDTH, H, None, False, input_size=WIDTH))
    calls = []
    for steps in (3, 18):
        binding = ready.io_binding()
        binding.bind_ortvalue_input("X", ort.OrtValue.ortvalue_from_numpy(np.zeros((steps, batch, WIDTH), np.float32)))
        for made in ready.get_outputs():
            shape = (steps, batch, H) if made.name == "Y" else (batch, H)
            binding.bind_ortvalue_output(made.name, ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32)))
        calls.append(binding)
    # Working memory grows until every length was there.
    for binding in calls * 3:
        ready.run_with_iobinding(binding)
    allocations = ctypes.CDLL(None).allocations
    allocations.restype = ctypes.c_long
    for binding in calls:
        ready.run_with_iobinding(binding)
        before = allocations()
        ready.run_with_iobinding(binding)
        print(allocations() - before)


if __name__ == "__main__":
    main()
