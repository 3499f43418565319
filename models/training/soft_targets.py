"""A parent's log posteriors on every variant of the training features, computed once and cached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from models.families.base import AcousticNet
from models.training.config import ConfigError, TrainingConfig
from models.training.corpus import FeatureCache, open_frames, store_frames
from models.training.network import build, compress

_TOGETHER = 16


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
    compress(net, config.compress, keep=False, stored=state["net"])
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
            store_frames(all_posteriors(net, [cache.get(u, variant) for u in range(count)], device), stem)
    return open_frames(stems)


def posteriors(net: AcousticNet, features: npt.NDArray[np.float16], device: str) -> npt.NDArray[np.float16]:
    """Log posteriors [out_frames, units] of one utterance's features [frames, bins]."""
    return all_posteriors(net, [features], device)[0]


def all_posteriors(
    net: AcousticNet, features: Sequence[npt.NDArray[np.float16]], device: str
) -> list[npt.NDArray[np.float16]]:
    """Log posteriors [out_frames, units] of every utterance's features [frames, bins], several at a time."""
    found: dict[int, npt.NDArray[np.float16]] = {}
    order = sorted(range(len(features)), key=lambda index: len(features[index]))
    for start in range(0, len(order), _TOGETHER):
        chosen = order[start : start + _TOGETHER]
        longest = len(features[chosen[-1]])
        # No frame sees further than its context, so that what fills the shorter ones up changes nothing.
        batch = np.stack([_padded(net, features[index], longest) for index in chosen])
        with torch.no_grad():
            log_probs = net(torch.from_numpy(batch).to(device)).cpu().numpy().astype(np.float16)
        for index, frames in zip(chosen, log_probs, strict=True):
            found[index] = frames[: net.out_frames(len(features[index]))].copy()
    return [found[index] for index in range(len(features))]


def _padded(net: AcousticNet, features: npt.NDArray[np.float16], longest: int) -> npt.NDArray[np.float32]:
    context = np.pad(features.astype(np.float32), ((net.left_context, net.right_context), (0, 0)), mode="edge")
    return np.pad(context, ((0, longest - len(features)), (0, 0)))
