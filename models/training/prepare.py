"""`python -m models.training.prepare OUT.npz`: phone alignments of the training corpora.

The first alignment comes from the third-party AMI network; a better one from a run of our own, once it is trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from models.decoding.lexicon import PHONES, UNITS, LexiconBuilder
from models.features import FrontEnd
from models.training import alignments, ami
from models.training.alignment import align
from models.training.cli import data_root
from models.training.config import DataTable
from models.training.corpus import Variant, feature_cache, load_corpora
from models.training.soft_targets import load_run, posteriors

Scorer = Callable[[npt.NDArray[np.float16]], npt.NDArray[np.float32]]
"""Features [frames, dim] to log posteriors [out_frames, units], silence first."""

_STRIDE = 3
_PRIOR_SCALE = 0.7  # full prior division favours rare phones too much in a network from another domain


def ami_scorer(folder: Path) -> Scorer:
    """Log posteriors of the AMI network over our units; its silence and noise classes become the blank."""
    net = ami.load(folder)
    columns = [net.phones.index(phone) for phone in PHONES]
    silence = [net.phones.index(name) for name in ("sil", "noise", "laughter")]

    def score(features: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
        log_probs = net.log_posteriors(features.astype(np.float32), stride=_STRIDE)
        return np.concatenate([log_probs[:, silence].max(axis=1, keepdims=True), log_probs[:, columns]], axis=1)

    return score


def run_scorer(folder: Path) -> Scorer:
    """Log posteriors of one of our own runs; it should have been trained with frame targets."""
    net = load_run(folder)
    return lambda features: posteriors(net, features, "cpu").astype(np.float32)


def main(argv: Sequence[str] | None = None) -> int:
    """Align every training utterance and save the result."""
    parser = argparse.ArgumentParser(prog="python -m models.training.prepare", description=__doc__)
    parser.add_argument("out", type=Path, help="where to write the alignments, such as runs/alignments.npz")
    parser.add_argument("--run", type=Path, help="run folder of a tfkaldi network to align with (default: ami-dnn)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the feature cache")
    arguments = parser.parse_args(argv)
    utterances = load_corpora(data_root() / name for name in DataTable().corpora)  # type: ignore[call-arg]
    cache = feature_cache(utterances, FrontEnd(ami.BINS), [Variant()], arguments.runs / "cache")
    builder = LexiconBuilder()
    lexicon = builder.build(word for u in utterances for word in u.transcript.split())
    print(f"{len(lexicon)} words; pronunciations from {builder.sources}")
    unit = {name: number for number, name in enumerate(UNITS)}
    score = run_scorer(arguments.run) if arguments.run else ami_scorer(data_root() / "ami-dnn")
    torch.set_num_threads(1)
    scored = [score(cache.get(index, 0)) for index in tqdm(range(len(utterances)), desc="score", unit="utterance")]
    prior = np.log(np.concatenate([np.exp(s) for s in scored[::10]]).mean(axis=0) + 1e-6)
    results = [
        align(
            log_probs - _PRIOR_SCALE * prior.astype(np.float32),
            utterance.transcript.split(),
            lambda word: [[unit[phone] for phone in said] for said in lexicon.pronunciations(word)],
        )
        for utterance, log_probs in zip(tqdm(utterances, desc="align", unit="utterance"), scored, strict=True)
    ]
    alignments.save(arguments.out, [u.name for u in utterances], results)
    unaligned = sum(result is None for result in results)
    wild = sum(result is not None and result.phones is None for result in results)
    print(f"{len(results)} utterances, {unaligned} not aligned, {wild} with a word that has no pronunciation")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
