"""Deep Compression of the AMI network in steps, with labels: bytes against frame errors on utterances held out.

``python -m models.compression.benchmarks.deep_compression --alignments runs/alignments.npz -o FILE`` prunes, shares
values and trains by ever smaller sizes (`models.training.gradual`); after each step it counts the whole stream (Huffman
codes, codebooks and what stays dense) and the frames whose best phone is not the aligned one. Targets are half the
alignment and half the parent's posteriors. Alignments are made by ``python -m models.training.prepare``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import onnx

from models.audio import decode
from models.compression import stages
from models.compression.base import Array, Compressed
from models.compression.network import Network, find, with_weights
from models.compression.planning import plan
from models.compression.registry import METHODS
from models.decoding.lexicon import PHONES
from models.evaluation import Utterance
from models.features import preset
from ops import library

if TYPE_CHECKING:
    from models.training.batches import Example

NAME: Final = "ami-dnn"
METHOD: Final = "deep-compression"
STRIDE: Final = 3  # feature frames by alignment label
_SILENCE: Final = ("sil", "noise", "laughter")
_SMALLEST: Final = 1e-4  # of a target's probabilities

Labels = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Point:
    """The network after a step.

    Attributes:
        size: relative size on disk that was planned; 1 for the parent.
        bytes: of the whole stream.
        ratio: bytes of the parent in fp32 by that.
        frame_error: share of labelled held-out frames whose best unit is another one.
        agreement: share of held-out frames with the parent's best class.
        frames: labelled held-out frames.
    """

    size: float
    bytes: int
    ratio: float
    frame_error: float
    agreement: float
    frames: int


@dataclass(frozen=True, slots=True)
class Speech:
    """Recordings with labels.

    Attributes:
        feeds: a row of features for every label.
        labels: unit of every row, silence 0, the phones from 1 on, -1 where unknown.
    """

    feeds: Sequence[Mapping[str, Array]]
    labels: Sequence[Labels]


class Units:
    """The alignment's units among the network's classes."""

    def __init__(self, phones: Sequence[str]) -> None:
        """`phones`: names of the classes in output order."""
        self.silence = [phones.index(name) for name in _SILENCE]
        self.columns = [phones.index(phone) for phone in PHONES]

    def best(self, log_probs: Array) -> Labels:
        """The best unit of each row."""
        quiet = log_probs[:, self.silence].max(axis=1, keepdims=True)
        units: Labels = np.concatenate([quiet, log_probs[:, self.columns]], axis=1).argmax(axis=1)
        return units

    def targets(self, log_probs: Array, labels: Labels) -> Array:
        """Log posteriors half the parent's and half the label's; silence is shared as the parent shares it."""
        own = np.exp(log_probs)
        told = own.copy()
        quiet = np.flatnonzero(labels == 0)
        told[quiet] = 0
        for column in self.silence:
            told[quiet, column] = own[quiet, column]
        told[quiet] /= np.maximum(told[quiet].sum(axis=1, keepdims=True), 1e-20)
        spoken = np.flatnonzero(labels > 0)
        told[spoken] = 0
        told[spoken, np.asarray(self.columns)[labels[spoken] - 1]] = 1
        mixed: Array = np.log(np.maximum((own + told) / 2, _SMALLEST)).astype(np.float32)
        return mixed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps from the command line; returns the exit status."""
    options = _parser().parse_args(argv)
    folder = Path(os.environ["DEEPTHIN_DATA"]) / NAME
    network = find(onnx.load(str(folder / f"{NAME}.onnx")))
    units = Units((folder / "phones.txt").read_text(encoding="utf-8").split())
    training, held_out = _speech(options)
    points: list[Point] = []
    for point in measure(network, units, training, held_out, options):
        points.append(point)
        stages.write_json(options.output, [asdict(each) for each in points])
        print(list(table([point]))[-1], file=sys.stderr, flush=True)
    print("\n".join(table(points)))
    return 0


def measure(
    network: Network, units: Units, training: Speech, held_out: Speech, options: argparse.Namespace
) -> Iterator[Point]:
    """The parent, then the network after each step."""
    name = network.model.graph.output[0].name
    session = library.session(network.model.SerializeToString())
    parents = [session.run([name], dict(feed))[0] for feed in held_out.feeds]
    dense = 4 * _values(network.model)
    yield _point(1.0, dense, dense, parents, parents, held_out, units)
    outputs = [session.run([name], dict(feed))[0] for feed in training.feeds]
    targets = [units.targets(each, labels) for each, labels in zip(outputs, training.labels, strict=True)]
    last = network.layers[-1].name
    # The output layer is small, and what it loses no other layer can make up for.
    steps = [
        {layer.name: plan(METHODS[METHOD], layer, min(4 * size, 1.0) if layer.name == last else size)
         for layer in network.layers}
        for size in options.sizes
    ]  # fmt: skip
    from models.training.gradual import compress_gradually  # PyTorch comes with it

    done = compress_gradually(
        network.model, steps, training.feeds, targets=targets, epochs=options.epochs, learning_rate=options.rate,
        batch_rows=options.batch,
    )  # fmt: skip
    for size, tuned in zip(options.sizes, done, strict=True):
        weights = {key: METHODS[METHOD].decompress(layer) for key, layer in tuned.layers.items()}
        model = library.session(with_weights(network.model, {**tuned.values, **weights}).SerializeToString())
        found = [model.run([name], dict(feed))[0] for feed in held_out.feeds]
        yield _point(size, _stream(network, tuned.layers), dense, found, parents, held_out, units)


def table(points: Sequence[Point]) -> Iterator[str]:
    """The points as Markdown."""
    yield "| Planned size | Bytes | Ratio | Frames wrong | Frames as the parent |"
    yield "| --: | --: | --: | --: | --: |"
    for each in points:
        rates = f"{each.frame_error:.2%} | {each.agreement:.1%}"
        yield f"| {each.size:.4f} | {each.bytes:,} | {each.ratio:.1f} | {rates} |"


def _point(
    size: float, count: int, dense: int, found: Sequence[Array], parents: Sequence[Array], speech: Speech, units: Units
) -> Point:
    wrong = known = same = rows = 0
    for log_probs, parent, labels in zip(found, parents, speech.labels, strict=True):
        told = labels >= 0
        wrong += int((units.best(log_probs) != labels)[told].sum())
        known += int(told.sum())
        same += int((log_probs.argmax(axis=1) == parent.argmax(axis=1)).sum())
        rows += len(labels)
    return Point(size, count, dense / count, wrong / known, same / rows, known)


def _values(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)


def _stream(network: Network, layers: Mapping[str, Compressed]) -> int:
    """Bytes of all coded weights, and of everything else in fp32."""
    rest = _values(network.model) - sum(layer.Q * layer.R for layer in network.layers)
    return 4 * rest + sum(len(METHODS[METHOD].encode(layer)) for layer in layers.values())


def _speech(options: argparse.Namespace) -> tuple[Speech, Speech]:
    root = Path(os.environ["DEEPTHIN_DATA"])
    from models.training import alignments
    from models.training.config import DataTable
    from models.training.corpus import load_corpora

    utterances = load_corpora(root / name for name in DataTable().corpora)  # type: ignore[call-arg]
    known = alignments.load(options.alignments, [each.name for each in utterances])
    order = [known[index] for index in np.random.default_rng(1).permutation(len(known))]
    held_out = _features(order[: options.held_out], utterances, None)
    return _features(order[options.held_out :], utterances, options.seconds), held_out


def _features(examples: Sequence[Example], utterances: Sequence[Utterance], seconds: float | None) -> Speech:
    front_end, feeds, labels, heard = preset(NAME), [], [], 0.0
    for example in examples:
        if seconds is not None and heard >= seconds:
            break
        audio = decode(utterances[example.utterance].path.read_bytes())
        heard += audio.seconds
        rows = front_end.extract(audio)[::STRIDE]
        count = min(len(rows), len(example.labels))
        feeds.append({"features": np.ascontiguousarray(rows[:count], np.float32)})
        labels.append(example.labels[:count])
    return Speech(feeds, labels)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deep_compression", description="Bytes against frame errors.")
    add = parser.add_argument
    add("--alignments", type=Path, required=True, help="file of `python -m models.training.prepare`")
    add("-o", "--output", type=Path, required=True, help="JSON file of the points")
    add("--sizes", type=float, nargs="+", default=[0.08, 0.045, 0.026], help="relative sizes on disk, falling")
    add("--seconds", type=float, default=3600.0, help="audio to train on (3600)")
    add("--held-out", type=int, default=40, help="utterances to measure on (40)")
    add("--epochs", type=int, default=2, help="passes over the audio after each step (2)")
    add("--rate", type=float, default=2e-2, help="peak learning rate, by the size of the weights (.02)")
    add("--batch", type=int, default=512, help="rows of a step of training (512)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
