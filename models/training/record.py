"""`python -m models.training.record MODEL...`: measure bundled models on corpora and write it into their manifests."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from models.compression.transport import note_size
from models.evaluation import Evaluation, evaluate
from models.package import MANIFEST_FILE, ModelPackage, Quality
from models.recognisers import load
from models.store import BUNDLED
from models.training.cli import data_root


def record(package: ModelPackage, results: dict[str, Evaluation]) -> None:
    """Write evaluations into the package's manifest, keeping those of other corpora."""
    measured = {
        name: Quality(wer=r.wer, cer=r.cer, rtf=r.rtf, utterances=r.utterances, words=r.words)
        for name, r in results.items()
    }
    manifest = package.manifest.model_copy(update={"quality": {**package.manifest.quality, **measured}})
    fields = manifest.model_dump(mode="json")
    for quality in fields["quality"].values():
        quality.update({key: round(quality[key], 5) for key in ("wer", "cer", "rtf")})
    text = json.dumps(fields, indent=2, ensure_ascii=False)
    (package.path / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
    note_size(package.path)


def _timed(package: ModelPackage, corpus: str, measured: Evaluation) -> Evaluation:
    """The accuracy that the package has on record with the speed of `measured`."""
    known = package.manifest.quality[corpus]
    return replace(measured, wer=known.wer, cer=known.cer, utterances=known.utterances, words=known.words)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate and record; every corpus is taken whole, one recording at a time on one thread."""
    parser = argparse.ArgumentParser(prog="python -m models.training.record", description=__doc__)
    parser.add_argument("models", nargs="+", help="names of bundled models")
    parser.add_argument("--corpora", nargs="*", default=["an4-test", "librispeech-dev"], help="under DEEPTHIN_DATA")
    parser.add_argument("--folder", type=Path, default=BUNDLED, help="folder of the packages")
    parser.add_argument("--time", type=int, metavar="N", help="renew the real-time factor alone, on N recordings")
    arguments = parser.parse_args(argv)
    for name in arguments.models:
        package = ModelPackage.load(arguments.folder / name)
        recogniser = load(package.path, threads=1)
        results = {}
        for corpus in arguments.corpora:
            with tqdm(desc=f"{name} {corpus}", unit="utterance") as bar:

                def progress(done: int, total: int, bar: tqdm = bar) -> None:
                    bar.total, bar.n = total, done
                    bar.refresh()

                measured = evaluate(recogniser, data_root() / corpus, arguments.time, progress=progress)
            results[corpus] = measured if arguments.time is None else _timed(package, corpus, measured)
            print(f"{name} {corpus}: WER {results[corpus].wer:.4f}, RTF {results[corpus].rtf:.4f}")
        record(package, results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
