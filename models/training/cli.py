"""`deepthin train CONFIG.toml`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from models.decoding.lexicon import UNITS
from models.evaluation import Utterance
from models.families.base import AcousticNet
from models.features import FrontEnd
from models.training import alignments, ami
from models.training.batches import BatchSource, Example
from models.training.config import ConfigError, TrainingConfig, load_config
from models.training.corpus import FeatureCache, feature_cache, load_corpora
from models.training.crf import PhoneModel
from models.training.network import build, compress, sizes, start_from_ami
from models.training.soft_targets import load_config_and_net, soft_targets
from models.training.trainer import Trainer, saved_network
from models.training.validation import validate
from ops.errors import DeepThinError


def main(argv: Sequence[str] | None = None) -> int:
    """Train as a TOML file says; the exit status is 0 at the end of the run, 2 for a bad configuration."""
    parser = argparse.ArgumentParser(
        prog="deepthin train",
        description="Train a speech model as a TOML file describes it. A run that was stopped goes on where it was.",
    )
    parser.add_argument("config", type=Path, help="TOML file, such as models/configs/tfkaldi-dense.toml")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the run folders (default: runs)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    parser.add_argument("--steps", type=int, default=None, help="stop after so many steps in all; start again to go on")
    arguments = parser.parse_args(argv)
    try:
        train(load_config(arguments.config), arguments)
    except DeepThinError as error:
        print(f"deepthin train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def data_root() -> Path:
    """The folder of the corpora, from the environment variable DEEPTHIN_DATA."""
    value = os.environ.get("DEEPTHIN_DATA")
    if not value:
        raise ConfigError("set DEEPTHIN_DATA to the folder that holds the corpora")
    return Path(value)


def corpus_and_cache(config: TrainingConfig, runs: Path) -> tuple[list[Utterance], FeatureCache]:
    """The configuration's utterances and their features in every variant."""
    utterances = load_corpora(data_root() / name for name in config.data.corpora)
    front_end = FrontEnd(**config.front_end.model_dump())
    return utterances, feature_cache(utterances, front_end, config.data.variants(), runs / "cache")


def split(examples: Sequence[Example], every: int) -> tuple[list[Example], list[Example]]:
    """Examples to train on and those held out for tuning."""
    kept = [e for e in examples if e.utterance % every]
    return kept, [e for e in examples if e.utterance % every == 0]


def initial_network(config: TrainingConfig, stored: Mapping[str, Tensor] | None = None) -> AcousticNet:
    """The network before training, compressed by the configuration's rules; `stored` as in `compress`."""
    net = build(config)
    if config.start_ami:
        start_from_ami(net, ami.load(data_root() / "ami-dnn"))
    if config.start is None:
        compress(net, config.compress, keep=config.start_ami, seed=config.seed, stored=stored)
        return net
    earlier, trained = load_config_and_net(config.start)
    if earlier.compress == config.compress:
        compress(net, config.compress, keep=False, stored=trained.state_dict())
        net.load_state_dict(trained.state_dict())
    elif not earlier.compress:
        net.load_state_dict(trained.state_dict())
        compress(net, config.compress, keep=True, seed=config.seed, stored=stored)
    else:
        raise ConfigError(f"{config.start} is compressed by other rules; start from a dense run or keep its rules")
    return net


def train(config: TrainingConfig, arguments: argparse.Namespace) -> None:
    """Run the whole of one configuration."""
    from tqdm import tqdm

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    folder: Path = arguments.runs / config.name
    utterances, cache = corpus_and_cache(config, arguments.runs)
    path = config.data.alignments or arguments.runs / "alignments.npz"
    training, held_out = split(alignments.load(path, [u.name for u in utterances]), config.data.hold_out)
    net = initial_network(config, saved_network(folder))
    stored, dense, parameters, _ = sizes(net)
    share = f"{stored:,} of {dense:,} values ({stored / dense:.5f})"
    print(f"{config.name}: weights {share}, {parameters:,} parameters in all")
    soft = None if config.distill is None else soft_targets(config.distill.parent, cache, arguments.device)
    speeds = [variant.speed for variant in config.data.variants()]
    source = BatchSource(cache, speeds, training, net, int(config.train.batch_seconds * 100), soft)
    phone_model = None
    if config.crf is not None:
        phone_model = PhoneModel.estimate((e.phones for e in training if e.phones), len(UNITS))
    trainer = Trainer(config, net, source, folder, arguments.device, phone_model)
    if trainer.resume():
        print(f"going on after step {trainer.position.step}")
    check = BatchSource(cache, [1.0], held_out, net, int(config.train.batch_seconds * 100))
    form = "{l_bar}{bar}| {n:.2f}/{total} epochs [{elapsed}<{remaining}{postfix}]"
    with tqdm(total=config.train.epochs, bar_format=form) as bar:

        def progress(done: float, running: dict[str, float]) -> None:
            bar.n = done
            bar.set_postfix({name: f"{value:.3f}" for name, value in running.items()})

        trainer.run(progress=progress, validate=lambda n: validate(n, check, phone_model), stop_after=arguments.steps)
