"""`deepthin compress`: a checkpoint in, an evaluated model package out."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from models.compression import stages
from models.compression.base import CompressionError
from models.compression.pipeline import Event, Outcome, run
from models.compression.registry import METHODS
from models.compression.spec import CompressionSpec, parse_spec
from models.errors import CorpusError
from models.package import MANIFEST_FILE, ModelPackage
from models.store import ModelStore, home

# Corpora that the command line gave as folders, by the names that the job knows them by.
_folders: dict[str, Path] = {}

_INPUTS: Final = {"recordings": "recordings", "random": "random inputs"}
_JOB: Final = ".job"
_WIDTH: Final = 30
_EXAMPLES: Final = """\
examples:
  deepthin compress net.onnx --method deepthin --size .02 -o out
  deepthin compress tfkaldi-dense --method low-rank --size .1 --calibration calls --evaluate calls -o out
  deepthin compress net.onnx --rule 'layer*.weight=deepthin:.02' --rule 'out.weight=int8:.26' -o out
  deepthin compress net.onnx --budget-bytes 200000 --front-end ami-dnn --calibration calls -o out

A job that was interrupted goes on where it was when the same command is given again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code: 0 done, 3 done but not accepted by the gate."""
    args = _parser().parse_args(argv)
    if args.list:
        print_methods()
        return 0
    if args.checkpoint is None or args.output is None:
        _parser().error("CHECKPOINT and -o OUT are needed (or --list)")
    spec = _spec(args)
    folder = args.output / _JOB
    _prepare(folder, args, spec)
    bar = Bar(quiet=args.quiet)
    start = time.perf_counter()
    try:
        outcome = run(folder, spec, progress=bar, corpora=corpus_folder, threads=args.threads)
    finally:
        bar.close()
    outcome = _delivered(outcome, folder, args.output)
    report = stages.read_json(outcome.report)
    if args.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _print(report, outcome, time.perf_counter() - start)
    return 0 if outcome.accepted else 3


def print_methods() -> None:
    """One line for each method: name, sizes that a 1024 x 1024 weight can have, what it does, where it is from."""
    rows = [("METHOD", "SIZES", "WHAT IT DOES", "SOURCE")]
    for name, method in METHODS.items():
        low, high = method.sizes(1024, 1024)
        span = f"{low:.4g}" if high < 1.05 * low else f"{low:.2g} to {min(high, 1.0):.4g}"
        rows.append((name, span, method.summary, method.source))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]).rstrip())
    print("\nSIZES: bytes by those of the dense fp32 matrix, for a 1024 x 1024 weight.")


def corpus_folder(name: str) -> Path:
    """The folder of the installed corpus `name`: under `$DEEPTHIN_HOME/corpora`, else under `$DEEPTHIN_DATA`.

    Raises:
        CorpusError: there is none.
    """
    if name in _folders:
        return _folders[name]
    roots = [home() / "corpora"]
    if data := os.environ.get("DEEPTHIN_DATA"):
        roots.append(Path(data))
    for root in roots:
        if (root / name / "manifest.tsv").is_file():
            return root / name
    raise CorpusError(f"there is no corpus {name!r} in {' or '.join(str(root) for root in roots)}")


def pack_package(package: Path, target: Path) -> None:
    """Write the package in folder `package` as the zip file that a job takes."""
    with zipfile.ZipFile(target, "w") as archive:
        for name in (MANIFEST_FILE, *ModelPackage.load(package).manifest.files):
            archive.write(package / name, name)


class Bar:
    """A progress bar on stderr; lines instead of a bar where stderr is no terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        """`quiet`: print nothing."""
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._stage = ""
        self._drawn = False

    def __call__(self, event: Event) -> None:
        if self._quiet:
            return
        if self._terminal:
            full = round(_WIDTH * event.fraction)
            text = f"[{'#' * full}{'.' * (_WIDTH - full)}] {event.fraction:4.0%} {event.stage}: {event.message}"
            columns = shutil.get_terminal_size().columns
            print(f"\r\x1b[K{text[: columns - 1]}", end="", file=sys.stderr, flush=True)
            self._drawn = True
        elif event.stage != self._stage or event.layer is not None:
            self._stage = event.stage
            print(f"{event.fraction:4.0%} {event.stage}: {event.message}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the line."""
        if self._drawn:
            print(file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "deepthin compress",
        description="Compress a network by any of the methods, compare it with its parent and write a model package.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", nargs="?", help=".onnx, package .zip, .safetensors, or an installed model")
    add("--list", action="store_true", help="list the methods: what each does, its range of sizes, its source")
    add("-o", "--output", type=Path, metavar="OUT", help="folder for the package, model.dtz and report.json")
    add("--method", metavar="M", help="method of every weight that no rule matches")
    add("--size", type=float, metavar="S", help="bytes of the weights by those of the dense fp32 matrices, such as .02")
    add("--rank", type=_rank, default=1, metavar="N|fastest", help="rank, or that of least time (deepthin); 1")
    add("--rule", action="append", default=[], metavar="PATTERN=METHOD[:SIZE[:RANK]]", help="for weights by name")
    add("--budget-bytes", type=int, metavar="N", help="search: bytes of all weights, at most")
    add("--budget-wer", type=float, metavar="D", help="search: word error rate above the parent's, at most (.01)")
    add("--budget-latency", type=float, metavar="S", help="search: seconds by second of audio, at most")
    add("--calibration", action="append", default=[], metavar="CORPUS", help="fit to this audio: a name or a folder")
    add("--calibration-seconds", type=float, metavar="S", help="audio used of the calibration corpora (600)")
    add("--evaluate", action="append", default=[], metavar="CORPUS", help="evaluate on this: a name or a folder")
    add("--limit", type=int, metavar="N", help="utterances of each evaluation corpus")
    add("--fine-tune", action="store_true", help="distil from the parent afterwards (needs PyTorch and --calibration)")
    add("--epochs", type=int, metavar="N", help="epochs of fine-tuning (4)")
    add("--learning-rate", type=float, metavar="X", help="its peak rate (.02); less where little was changed")
    add("--fine-tune-seconds", type=float, metavar="S", help="audio to fine-tune on (that of --calibration-seconds)")
    add("--steps", type=int, metavar="N", help="deep-compression: prune in so many steps, with --epochs after each (1)")
    add("--front-end", metavar="NAME|JSON", help="how audio goes into a bare .onnx: 'ami-dnn' or a front end's fields")
    add("--config", type=Path, metavar="TOML", help="training configuration of a .safetensors checkpoint")
    add("--max-wer-delta", type=float, metavar="D", help="gate: word error rate above the parent's")
    add("--allow-slower", action="store_true", help="accept a result that is slower than its parent")
    add("--name", help="name of the result")
    add("--threads", type=int, default=1, metavar="N", help="threads (1)")
    add("--json", action="store_true", help="print the report as JSON")
    add("--quiet", action="store_true", help="no progress on stderr")
    return parser


def _spec(args: argparse.Namespace) -> CompressionSpec:
    fields: dict[str, Any] = {
        "name": args.name,
        "method": args.method,
        "size": args.size,
        "rank": args.rank,
        "compress": [_rule(text) for text in args.rule],
        "calibration": [_corpus(name) for name in args.calibration],
        "evaluation": [_corpus(name) for name in args.evaluate],
        "limit": args.limit,
        "max_wer_delta": args.max_wer_delta,
        "allow_slower": args.allow_slower,
    }
    if args.calibration_seconds is not None:
        fields["calibration_seconds"] = args.calibration_seconds
    budget = {
        "target_bytes": args.budget_bytes,
        "max_wer_delta": args.budget_wer,
        "target_latency": args.budget_latency,
    }
    if any(value is not None for value in budget.values()):
        fields["budget"] = budget
    if args.fine_tune:
        wishes = {
            "epochs": args.epochs,
            "learning_rate": args.learning_rate,
            "seconds": args.fine_tune_seconds,
            "steps": args.steps,
        }
        fields["fine_tune"] = {name: value for name, value in wishes.items() if value is not None}
    if args.front_end is not None:
        text = args.front_end
        try:
            fields["front_end"] = json.loads(text) if text.lstrip().startswith("{") else text
        except ValueError as error:
            raise CompressionError(f"--front-end is not JSON: {error}") from error
    if args.name is None and not any(value is not None for value in budget.values()):
        fields["name"] = _name(args)
    return parse_spec(json.dumps(fields))


def _name(args: argparse.Namespace) -> str:
    stem = re.sub(r"[^a-z0-9._-]+", "-", Path(args.checkpoint).stem.lower()).strip("-._") or "network"
    kind = args.method if not args.rule else "mixed"
    size = "" if args.size is None else f"-{args.size:g}"
    ending = f"-{kind}{size}"
    return stem[: 64 - len(ending)] + ending


def _rank(text: str) -> int | str:
    return text if text == "fastest" else int(text)


def _rule(text: str) -> dict[str, Any]:
    pattern, equals, rest = text.rpartition("=")
    parts = rest.split(":")
    try:
        if not equals or not pattern or len(parts) > 3:
            raise ValueError
        rule: dict[str, Any] = {"pattern": pattern, "method": parts[0]}
        if len(parts) > 1:
            rule["size"] = float(parts[1])
        if len(parts) > 2:
            rule["rank"] = _rank(parts[2])
    except ValueError:
        raise CompressionError(
            f"--rule {text!r} is not PATTERN=METHOD:SIZE, such as 'layer*.weight=deepthin:.02'"
        ) from None
    return rule


def _corpus(name: str) -> str:
    """A name for a corpus given by name or folder."""
    folder = Path(name)
    if folder.is_dir():
        label = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).lstrip("-._") or "corpus"
        _folders[label] = folder.resolve()
        return label
    return name


def _prepare(folder: Path, args: argparse.Namespace, spec: CompressionSpec) -> None:
    """Put the checkpoint into the job's folder; a job that is there goes on if it is the same one."""
    source = Path(args.checkpoint)
    if source.is_file():
        kinds = {".onnx": "checkpoint.onnx", ".zip": "checkpoint.zip", ".safetensors": "checkpoint.safetensors"}
        if source.suffix.lower() not in kinds:
            raise CompressionError(f"{source.name} is no checkpoint: it must end in {', '.join(kinds)}")
        files = {kinds[source.suffix.lower()]: source}
        if args.config is not None:
            files["config.toml"] = args.config
    else:
        package = source if (source / MANIFEST_FILE).is_file() else ModelStore().load(args.checkpoint).path
        names = (MANIFEST_FILE, *ModelPackage.load(package).manifest.files)
        files = {name: package / name for name in names}
    digest = hashlib.sha256(spec.model_dump_json().encode())
    for name, path in sorted(files.items()):
        if not path.is_file():
            raise CompressionError(f"there is no file {path}")
        digest.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    stamp = folder / "stamp"
    if stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return
    stages.clear(folder)
    folder.mkdir(parents=True)
    if MANIFEST_FILE in files:
        pack_package(files[MANIFEST_FILE].parent, folder / "checkpoint.zip")
    else:
        for name, path in files.items():
            shutil.copyfile(path, folder / name)
    stages.write(stamp, digest.hexdigest().encode())


def _delivered(outcome: Outcome, folder: Path, output: Path) -> Outcome:
    package = output / outcome.package.name
    stages.clear(package)
    outcome.package.rename(package)
    moved = []
    for path in (outcome.transport, outcome.report):
        path.replace(output / path.name)
        moved.append(output / path.name)
    stages.clear(folder)
    return Outcome(package, moved[0], moved[1], outcome.accepted, outcome.reasons)


def _print(report: dict[str, Any], outcome: Outcome, seconds: float) -> None:
    rows = [("WEIGHT", "METHOD", "SHAPE", "BYTES", "SIZE", "WEIGHT ERROR", "OUTPUT ERROR")]
    for layer in report["layers"]:
        error = "" if layer["output_error"] is None else f"{layer['output_error']:.3f}"
        shape = f"{layer['Q']} x {layer['R']}"
        size = f"{layer['relative_size']:.4f}"
        rows.append(
            (layer["name"], layer["method"], shape, str(layer["disk"]), size, f"{layer['relative_error']:.3f}", error)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if report["dequantised"]:
        print(f"dequantised to fp32 first: {', '.join(report['dequantised'])}")
    for skipped in report["skipped"]:
        print(f"left as it is: {skipped['name']} {skipped['reason']}")
    sizes, parent, same, times = report["bytes"], report["parent"], report["agreement"], report["speed"]
    print(f"\nfile         {sizes['disk']:,} bytes, the parent's {parent['disk']:,}")
    print(f"weights      {report['weights']['relative_size']:.4f} of dense fp32")
    print(f"in memory    {sizes['resident']:,} bytes, the parent's {parent['resident']:,}")
    print(f"to download  {sizes['transport']:,} bytes ({outcome.transport})")
    on = _INPUTS[same["inputs"]]
    print(f"agreement    {same['frames']:.1%} of frames, {same['phones']:.1%} of the sequence, on {on}")
    print(f"speed        {1 / times['ratio']:.2f} times the parent's")
    for corpus, quality in report["quality"].items():
        before = report["parent_quality"][corpus]["wer"]
        print(f"word errors  {quality['wer']:.2%} on {corpus}, the parent's {before:.2%}")
    print(f"package      {outcome.package}, in {seconds:.0f} s")
    for reason in outcome.reasons:
        print(f"NOT ACCEPTED: {reason}")
