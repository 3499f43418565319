"""Bytes of whole networks at equal loss on held-out speech, coded by nncodec and by this project's methods.

``python -m models.compression.benchmarks.at_equal_loss MODEL.onnx --nncodec PYTHON`` codes all weights of a network in
each way at several settings, decodes them, and runs the result beside the original on recordings of speakers that
nothing was fitted to. It prints bytes against two losses, the divergence of the posteriors from the original's and the
share of frames with another best class, and beside them the bytes that nncodec takes at the same loss, between its own
points. Points are kept in ``--output``: a run that was interrupted goes on.

nncodec is no dependency: it lives in an environment of its own, whose interpreter ``--nncodec`` names.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final

import onnx

from models.compression import stages
from models.compression.assess import agreement
from models.compression.base import Array, Compressed
from models.compression.benchmarks.against_nncodec import coded_by_nncodec, interpolated
from models.compression.calibrate import FEW_ROWS, Calibrator
from models.compression.cli import corpus_folder
from models.compression.compressing import approximated, compress_layer
from models.compression.feeds import Feed, inputs_for
from models.compression.network import Network, as_stored, find, with_weights
from models.compression.normalise import normalise
from models.compression.planning import uniform
from models.compression.recordings import feeds
from models.compression.registry import METHODS
from models.features import preset
from ops import library

NNCODEC: Final = "nncodec"
AWARE, PLAIN, TUNED = FORMS = ("data-aware", "plain", "tuned")
"""Fitted to the outputs of the layers, to the weights alone, or the first and then fine-tuned by distillation."""
LOSSES: Final = ("divergence", "frames_differ")
WAYS: Final = ("low-rank-codebook", "deepthin-codebook", "deep-compression", NNCODEC)


@dataclass(frozen=True, slots=True)
class Point:
    """A network coded in one way.

    Attributes:
        way: how.
        setting: the way's own: nncodec's qp, or the relative size on disk.
        bytes: all streams of its weights together.
        divergence: nats by frame of the original's posteriors from those of the decoded network, held out.
        frames_differ: share of the held-out frames with another best class.
        frames: held-out frames.
    """

    way: str
    setting: float
    bytes: int
    divergence: float
    frames_differ: float
    frames: int


@dataclass(frozen=True, slots=True)
class Bench:
    """What all points have in common.

    Attributes:
        network: the original.
        calibration: recordings that weights are fitted to.
        held_out: recordings of other speakers.
    """

    network: Network
    calibration: Sequence[Feed]
    held_out: Sequence[Feed]

    def point(self, way: str, setting: float, size: int, model: onnx.ModelProto) -> Point:
        """Run a decoded network beside the original."""
        parent, other = (library.session(each.SerializeToString()) for each in (self.network.model, model))
        found = agreement(parent, other, self.held_out, "recordings")
        if found.divergence is None:
            raise SystemExit("the network's first output must be log posteriors")
        return Point(way, setting, size, found.divergence, 1 - found.frames, found.rows)

    def by_nncodec(self, steps: Sequence[int], python: str) -> Iterator[Point]:
        """All weights through nncodec at each of its steps, every weight in a stream of its own."""
        decoded: dict[int, dict[str, Array]] = {qp: {} for qp in steps}
        totals = dict.fromkeys(steps, 0)
        for layer in self.network.layers:
            for qp, size, weight in coded_by_nncodec(self.network.weight(layer), python, steps):
                decoded[qp][layer.name] = as_stored(layer, self.network.nodes(layer)[0], weight)
                totals[qp] += size
        for qp in steps:
            yield self.point(NNCODEC, qp, totals[qp], with_weights(self.network.model, decoded[qp]))

    def by_method(self, size: float, way: str, form: str, epochs: int) -> Point:
        """All weights by one method at one relative size on disk, layer after layer, in one of the `FORMS`."""
        aware = form != PLAIN
        plans = uniform(METHODS[way], self.network.layers, size)
        calibrator = Calibrator(self.network, self.calibration, max_rows=FEW_ROWS) if aware else None
        layers: dict[str, Compressed] = {}
        changed: dict[str, Array] = {}
        for layer in self.network.layers:
            if layer.name not in plans:
                raise SystemExit(f"{way} does not take {layer.name}")
            so_far = partial(approximated, self.network, layers, changed) if aware and layers else None
            done = compress_layer(self.network, layer, plans[layer.name], calibrator, so_far, changed)
            layers[layer.name] = done.compressed
            changed |= done.changed
        if form == TUNED:
            from models.training.finetune import fine_tune  # the only part that needs PyTorch

            changed_model = with_weights(self.network.model, changed)
            tuned = fine_tune(changed_model, layers, self.calibration, parent=self.network.model, epochs=epochs)
            layers, changed = dict(tuned.layers), {**changed, **tuned.values}
        total = sum(len(METHODS[way].encode(each)) for each in layers.values())
        return self.point(_name(way, form), size, total, approximated(self.network, layers, changed))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison from the command line; returns the exit status."""
    options = _parser().parse_args(argv)
    if options.nncodec is None and NNCODEC in options.ways:
        _parser().error("--nncodec names the interpreter that has it; without one, give --ways")
    bench = _bench(options)
    points = [Point(**each) for each in stages.read_json(options.output)] if options.output.is_file() else []
    for point in _missing(bench, options, {(point.way, point.setting) for point in points}):
        points.append(point)
        stages.write_json(options.output, [asdict(each) for each in points])
        print(list(table([point]))[-1], file=sys.stderr, flush=True)
    print("\n".join(table(points)))
    return 0


def table(points: Sequence[Point]) -> Iterator[str]:
    """The points as Markdown, with their bytes by those that nncodec takes, between its points, at the same loss."""
    yield "| Way | Setting | Bytes | Divergence | by nncodec's bytes | Frames that differ | by nncodec's bytes |"
    yield "| --- | --: | --: | --: | --: | --: | --: |"
    for each in sorted(points, key=lambda point: (point.way, point.bytes)):
        there, differ = (_against(points, each, loss) for loss in LOSSES)
        losses = f"{each.divergence:.4f} | {there} | {each.frames_differ:.1%} | {differ}"
        yield f"| {each.way} | {each.setting:g} | {each.bytes:,} | {losses} |"


def _against(points: Sequence[Point], point: Point, loss: str) -> str:
    curve = [(getattr(each, loss), each.bytes) for each in points if each.way == NNCODEC]
    size = interpolated(curve, getattr(point, loss))
    if point.way == NNCODEC:
        return ""
    return "out of its range" if size is None else f"{point.bytes / size:.2f}"


def _missing(bench: Bench, options: argparse.Namespace, there: Set[tuple[str, float]]) -> Iterator[Point]:
    """The points that are asked for and not there."""
    for way in options.ways:
        if way == NNCODEC:
            if steps := [qp for qp in options.qp if (NNCODEC, qp) not in there]:
                yield from bench.by_nncodec(steps, options.nncodec)
            continue
        for size, form in product(options.sizes, options.forms):
            if (_name(way, form), size) not in there:
                yield bench.by_method(size, way, form, options.epochs)


def _name(way: str, form: str) -> str:
    return way if form == AWARE else f"{way}, {form}"


def _bench(options: argparse.Namespace) -> Bench:
    network = find(normalise(onnx.load(str(options.model))).model)
    inputs = inputs_for(network.model, None, preset(options.front_end))
    if inputs is None:
        raise SystemExit(f"the network does not take what front end {options.front_end} gives")
    folders = [corpus_folder(name) for name in (*options.calibration, options.held_out)]
    calibration = feeds(folders[:-1], inputs, seconds=options.calibration_seconds)[0]
    return Bench(network, calibration, feeds(folders[-1:], inputs, seconds=options.held_out_seconds)[0])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="at_equal_loss", description="Compare bytes with nncodec's at equal loss.")
    add = parser.add_argument
    add("model", type=Path, help="the ONNX file; its first output is log posteriors")
    add("-o", "--output", type=Path, required=True, help="JSON file of the points, gone on with if it is there")
    add("--front-end", default="ami-dnn", help="preset that turns recordings into the network's input (ami-dnn)")
    add(
        "--calibration",
        nargs="+",
        default=["librispeech-train", "an4-train"],
        help="corpora that weights are fitted to",
    )
    add("--calibration-seconds", type=float, default=240.0, help="audio used of them (240)")
    add("--held-out", default="librispeech-dev", help="corpus that losses are measured on (librispeech-dev)")
    add("--held-out-seconds", type=float, default=120.0, help="audio used of it (120)")
    add("--sizes", type=float, nargs="+", default=[0.03, 0.05, 0.08, 0.12], help="relative sizes on disk")
    add("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="what to measure; points that are there stay")
    add("--forms", nargs="+", choices=FORMS, default=[AWARE, TUNED], help="how this project's methods fit weights")
    add("--epochs", type=int, default=6, help="of fine-tuning (6)")
    add("--nncodec", metavar="PYTHON", help="interpreter of an environment with nncodec")
    add("--qp", type=int, nargs="+", default=[-16, -20, -24, -28], help="nncodec's steps")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
