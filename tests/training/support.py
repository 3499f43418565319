"""Small networks, configurations and corpora made of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.training.batches import BatchSource, Example
from models.training.config import TrainingConfig
from models.training.corpus import FeatureCache, open_frames, store_frames
from models.training.network import build, compress

TFKALDI = {"context": 3, "hidden": [48, 32], "bottleneck": 12, "wide_context": 2, "top": [40], "dropout": 0.1}
DEEPSPEECH = {
    "channels": [4, 6],
    "kernels": [[5, 3], [3, 3]],
    "hidden": 24,
    "layers": 2,
    "top": 20,
    "dropout": 0.1,
}
MATRICES = {"tfkaldi": "*weight", "deepspeech": "*weight*"}


def config(family: str, size: float | None = None, rank: int = 1, **fields: object) -> TrainingConfig:
    """A tiny configuration; with a `size`, every matrix is a DeepThin one."""
    rules = [] if size is None else [{"pattern": MATRICES[family], "size": size, "rank": rank}]
    return TrainingConfig.model_validate(
        {
            "name": "tiny",
            "family": family,
            "front_end": {"bins": 8},
            "tfkaldi": TFKALDI,
            "deepspeech": DEEPSPEECH,
            "compress": rules,
            **fields,
        }
    )


def network(settings: TrainingConfig, *, keep: bool = False):
    """The network of a configuration."""
    net = build(settings)
    compress(net, settings.compress, keep=keep, seed=settings.seed)
    return net


def noise_cache(folder: Path, utterances: int = 12, bins: int = 8) -> FeatureCache:
    """Random features of utterances of 40 to 80 frames."""
    rng = np.random.default_rng(5)
    parts = [rng.normal(size=(int(rng.integers(40, 80)), bins)).astype(np.float16) for _ in range(utterances)]
    store_frames(parts, folder / "noise")
    return open_frames([folder / "noise"])


def source(cache: FeatureCache, net, batch_frames: int = 200) -> BatchSource:
    """Batches of the noise with random phones."""
    rng = np.random.default_rng(6)
    examples = []
    for utterance in range(len(cache.offsets[0]) - 1):
        frames = net.out_frames(cache.length(utterance, 0))
        phones = tuple(int(p) for p in rng.integers(1, 40, size=4))
        examples.append(Example(utterance, phones, rng.integers(0, 40, size=frames).astype(np.int16)))
    return BatchSource(cache, [1.0], examples, net, batch_frames)
