"""A parent's log posteriors on every variant of the training features, computed once and cached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from models.families.base import AcousticNet
from models.training.config import ConfigError, TrainingConfig
from models.training.corpus import FeatureCache, open_frames, store_frames
from models.training.network import build, compress


def load_config_and_net(folder: Path) -> tuple[TrainingConfig, AcousticNet]:
    """The configuration of a run folder and its averaged network, ready for inference.

    Raises:
        ConfigError: the folder holds no trained model.
    """
    path = folder / "model.pt"
    if not path.is_file():
        raise ConfigError(f"{folder} holds no model.pt; train it first")
    state = torch.load(path, weights_only=True)
    config = TrainingConfig.model_validate(state["config"])
    net = build(config)
    compress(net, config.compress, keep=False)
    net.load_state_dict(state["net"])
    net.eval()
    return config, net


def load_run(folder: Path) -> AcousticNet:
    """The averaged network of a run folder."""
    return load_config_and_net(folder)[1]


def soft_targets(parent: Path, cache: FeatureCache, device: str) -> FeatureCache:
    """The parent's log posteriors as a cache of fp16 [out_frames, units], stored in the parent's run folder.

    The files carry the parent's modification time, so that a parent trained further is run again.
    """
    net = load_run(parent).to(device)
    stamp = int((parent / "model.pt").stat().st_mtime)
    stems = [parent / f"soft-{stamp}-{variant}" for variant in range(len(cache.frames))]
    for variant, stem in enumerate(stems):
        if not stem.with_suffix(".npy").is_file():
            count = len(cache.offsets[variant]) - 1
            store_frames([posteriors(net, cache.get(u, variant), device) for u in range(count)], stem)
    return open_frames(stems)


def posteriors(net: AcousticNet, features: npt.NDArray[np.float16], device: str) -> npt.NDArray[np.float16]:
    """Log posteriors [out_frames, units] of one utterance's features [frames, bins]."""
    padded = np.pad(features.astype(np.float32), ((net.left_context, net.right_context), (0, 0)), mode="edge")
    with torch.no_grad():
        log_probs = net(torch.from_numpy(padded)[None].to(device))[0]
    return np.asarray(log_probs.cpu().numpy(), dtype=np.float16)
