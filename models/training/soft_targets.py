"""A parent's log posteriors on every variant of the training features, computed once and cached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from models.training.config import TrainingConfig
from models.training.corpus import FeatureCache


def load_run(folder: Path) -> torch.nn.Module:
    """The averaged network of a run folder, with its factors."""
    from models.training.network import build, compress

    state = torch.load(folder / "model.pt", weights_only=True)
    config = TrainingConfig.model_validate(state["config"])
    net = build(config)
    compress(net, config.compress, keep=False)
    net.load_state_dict(state["net"])
    net.eval()
    return net


def soft_targets(parent: Path, cache: FeatureCache, device: str) -> FeatureCache:
    """The parent's log posteriors as a cache of fp16 [out_frames, units], stored in the parent's run folder.

    The file carries the parent's modification time, so that a parent trained further is run again.
    """
    from models.families.base import AcousticNet

    stamp = int((parent / "model.pt").stat().st_mtime)
    net = load_run(parent).to(device)
    assert isinstance(net, AcousticNet)
    frames, offsets = [], []
    for variant in range(len(cache.frames)):
        data = parent / f"soft-{stamp}-{variant}.npy"
        count = len(cache.offsets[variant]) - 1
        lengths = [net.out_frames(cache.length(u, variant)) for u in range(count)]
        if not data.is_file():
            parts = [_posteriors(net, cache.get(u, variant), device) for u in range(count)]
            np.save(data.with_suffix(".tmp.npy"), np.concatenate(parts))
            data.with_suffix(".tmp.npy").rename(data)
        frames.append(np.load(data, mmap_mode="r"))
        offsets.append(np.concatenate([[0], np.cumsum(lengths)]))
    return FeatureCache(tuple(frames), tuple(offsets))


def _posteriors(net: torch.nn.Module, features: np.ndarray, device: str) -> np.ndarray:
    left, right = int(net.left_context), int(net.right_context)  # type: ignore[arg-type]
    padded = np.pad(features.astype(np.float32), ((left, right), (0, 0)), mode="edge")
    with torch.no_grad():
        result: torch.Tensor = net(torch.from_numpy(padded)[None].to(device))[0]
    return result.cpu().numpy().astype(np.float16)
