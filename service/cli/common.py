"""What several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from models.package import MANIFEST_FILE
from models.recognisers import DECODERS, Recogniser, load
from models.store import ModelStore

if TYPE_CHECKING:
    Parsers = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Parsers = object


def add_decoder(parser: argparse.ArgumentParser) -> None:
    """Add `--decoder`."""
    parser.add_argument(
        "--decoder",
        choices=DECODERS,
        help="graph: words, with dictionary and language model (usual); greedy: the network's own phones, faster",
    )


def load_model(name: str, decoder: str | None) -> Recogniser:
    """The model called `name`, or in the folder `name`."""
    folder = Path(name)
    if not (folder / MANIFEST_FILE).is_file():
        store = ModelStore()
        folder = store.folder(store.resolve(name))
    return load(folder, decoder=decoder)
