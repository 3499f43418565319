"""Choosing decoder options on saved log probabilities: ``python -m models.decoding.tune GRAPH POSTERIORS``.

POSTERIORS is a folder with ``refs.tsv`` (utterance, tab, transcript) and ``.npz`` files that hold an array
[frames, units] of log probabilities for each utterance. Tune on a slice of the training data that neither the acoustic
model nor the graph's language models have seen (``models.decoding.build --leave-out``), never on the evaluation sets.
"""

import argparse
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import numpy.typing as npt

from .decoder import Graph, GraphDecoder

FRAMES_PER_SECOND = 100 / 3


@dataclass(frozen=True)
class Utterance:
    """A held-out utterance.

    Attributes:
        name: as in ``refs.tsv``.
        transcript: what was said, upper case.
        log_probs: [frames, units] natural logs.
    """

    name: str
    transcript: str
    log_probs: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outcome:
    """What a set of options gave.

    Attributes:
        options: of ``GraphDecoder``.
        wer: word error rate, a ratio.
        cer: character error rate, a ratio.
        rtf: processor seconds of the search per second of audio, at 33.3 frames a second.
    """

    options: Mapping[str, float]
    wer: float
    cer: float
    rtf: float


def read(folder: Path, prefix: str = "") -> list[Utterance]:
    """Read the utterances of ``refs.tsv`` whose names start with ``prefix``."""
    rows = (folder / "refs.tsv").read_text(encoding="utf-8").splitlines()
    references = dict(row.split("\t", 1) for row in rows if row.startswith(prefix))
    found: list[Utterance] = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            found += [Utterance(name, references[name], arrays[name]) for name in arrays.files if name in references]
    return found


def measure(decoder: GraphDecoder, utterances: Sequence[Utterance], options: Mapping[str, float]) -> Outcome:
    """Decode everything and score it."""
    start = time.process_time()
    texts = [decoder.decode(utterance.log_probs).text for utterance in utterances]
    seconds = sum(len(utterance.log_probs) for utterance in utterances) / FRAMES_PER_SECOND
    rtf = (time.process_time() - start) / seconds
    references = [utterance.transcript for utterance in utterances]
    return Outcome(options, float(jiwer.wer(references, texts)), float(jiwer.cer(references, texts)), rtf)


def main(argv: list[str] | None = None) -> None:
    """Command line: every combination of the values given, best last."""
    parser = argparse.ArgumentParser(description="Measure decoder options on saved log probabilities.")
    parser.add_argument("graph", type=Path, help="folder of the decoding graph")
    parser.add_argument("posteriors", type=Path, help="folder with refs.tsv and .npz files")
    parser.add_argument("--prefix", default="", help="only utterances whose names start with this")
    parser.add_argument("--lm-weight", type=float, nargs="+", default=[0.6, 0.8, 1.0])
    parser.add_argument("--word-score", type=float, nargs="+", default=[-1.0, 0.0, 1.0])
    parser.add_argument("--beam", type=float, nargs="+", default=[14.0])
    parser.add_argument("--max-active", type=int, nargs="+", default=[3000])
    parser.add_argument("--blank-skip", type=float, nargs="+", default=[1.0], help="1 searches every frame")
    options = parser.parse_args(argv)
    utterances = read(options.posteriors, options.prefix)
    words = sum(len(utterance.transcript.split()) for utterance in utterances)
    print(f"{len(utterances)} utterances, {words} words")
    graph = Graph.load(options.graph)
    names = ("lm_weight", "word_score", "beam", "max_active", "blank_skip")
    outcomes: list[Outcome] = []
    for values in itertools.product(*(getattr(options, name) for name in names)):
        tried = dict(zip(names, values, strict=True))
        outcomes.append(measure(GraphDecoder(graph, graph.units, **tried), utterances, tried))
    for outcome in sorted(outcomes, key=lambda item: -item.wer):
        shown = "  ".join(f"{name} {value:g}" for name, value in outcome.options.items())
        print(f"WER {outcome.wer:.2%}  CER {outcome.cer:.2%}  RTF {outcome.rtf:.4f}  {shown}")


if __name__ == "__main__":
    main()
