"""Deep Compression in turns of pruning and training."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.compression.registry import method
from models.training.finetune import fine_tune
from models.training.gradual import compress_gradually
from models.training.onnx_net import OnnxNet
from tests.training.test_finetune import classifier, recordings


def test_gradual_compression_is_better_than_one_step_of_the_same_bytes():
    model, chosen = classifier(), method("deep-compression")
    net = OnnxNet(model)
    matrices = {"first": net.matrix("first")}
    plans = {name: chosen.plan(*matrix.shape, 0.12) for name, matrix in matrices.items()}
    at_once = {name: chosen.compress(matrix, plans[name]) for name, matrix in matrices.items()}
    feeds = recordings(24)
    told = []
    single = fine_tune(model, at_once, feeds, epochs=18, batch_rows=32)
    gradual = compress_gradually(
        model,
        plans,
        feeds,
        turns=(2.0, 1.0),
        epochs=6,
        batch_rows=32,
        progress=lambda fraction, loss: told.append(fraction),
    )
    assert gradual.after < 0.9 * single.after
    assert told == sorted(told)
    assert told[-1] == 1.0
    for name, plan in plans.items():
        assert gradual.layers[name].plan == plan
        assert sum(array.nbytes for array in gradual.layers[name].arrays.values()) == plan.disk_bytes
    assert set(gradual.values) == {"first.bias", "second", "second.bias"}
    assert np.count_nonzero(chosen.decompress(gradual.layers["first"])) <= int(plans["first"].geometry["entries"])
