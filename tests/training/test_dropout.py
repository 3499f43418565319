"""Dropout of `tfkaldi`: a recording goes without the same units in all of its frames."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.training.network import build
from tests.training.support import config


def test_frames_alike_stay_alike_and_recordings_differ() -> None:
    torch.manual_seed(0)
    net = build(config("tfkaldi"))
    same = torch.randn(1, 1, net.bins).expand(2, 61, net.bins)
    with torch.no_grad():
        first, second = net.train()(same)
        assert torch.allclose(first, first[:1].expand_as(first), atol=1e-5)
        assert not torch.allclose(first, second, atol=1e-5)
        again, too = net.eval()(same)
        assert torch.allclose(again, too)
