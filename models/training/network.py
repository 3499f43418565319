"""Networks from configurations: build, start from a parent, replace weights by compressed ones by rule."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from models.decoding.lexicon import UNITS
from models.families.base import AcousticNet
from models.families.deepspeech import DeepSpeech
from models.families.tfkaldi import TfKaldi
from models.training.ami import BINS, CONTEXT, AmiNetwork
from models.training.config import CompressRule, ConfigError, TrainingConfig
from models.training.deepthin import DeepThinWeight, parametrize_by_factors
from ops.layout import solve


def build(config: TrainingConfig) -> AcousticNet:
    """The ordinary network of a configuration, with random weights from its seed."""
    torch.manual_seed(config.seed)
    bins = config.front_end.bins
    if config.family == "tfkaldi":
        return TfKaldi(config.tfkaldi, bins, len(UNITS))
    return DeepSpeech(config.deepspeech, bins, len(UNITS))


def start_from_ami(net: AcousticNet, ami: AmiNetwork) -> None:
    """Copy the third-party network's hidden layers into the first stack of a `tfkaldi` network.

    Raises:
        ConfigError: the dimensions differ.
    """
    if not isinstance(net, TfKaldi) or net.bins != BINS or net.config.context != CONTEXT:
        raise ConfigError(f"start_ami needs family tfkaldi with {BINS} bins and context {CONTEXT}")
    if net.config.activation != "sigmoid":
        raise ConfigError("start_ami needs activation 'sigmoid'")
    for number, layer in enumerate(net.hidden):
        weight = torch.tensor(ami.weights[number].T, dtype=torch.float32)
        linear = cast(nn.Linear, layer)
        if linear.weight.shape != weight.shape:
            shapes = f"{tuple(linear.weight.shape)}, not {tuple(weight.shape)}"
            raise ConfigError(f"start_ami: hidden layer {number} is {shapes}")
        linear.weight.data.copy_(weight)
        linear.bias.data.copy_(torch.tensor(ami.biases[number], dtype=torch.float32))


def weight_names(net: AcousticNet) -> list[str]:
    """Names of the weights that rules can match: every parameter of two or more dimensions."""
    return [name for name, parameter in net.named_parameters() if parameter.dim() >= 2]


def rule_for(name: str, rules: Iterable[CompressRule]) -> CompressRule | None:
    """The last rule that matches, or None."""
    matching = [rule for rule in rules if fnmatch.fnmatchcase(name, rule.pattern)]
    return matching[-1] if matching else None


def compress(net: AcousticNet, rules: tuple[CompressRule, ...], *, keep: bool, seed: int = 0) -> None:
    """Replace the matched weights by trainable factors, in place.

    Args:
        net: an ordinary network.
        rules: what applies where.
        keep: factors start as the best ones of the present weight, not at random.
        seed: of the random factors.

    Raises:
        ConfigError: a rule matches no weight.
        GeometryError: a size that a weight cannot have.
    """
    names = weight_names(net)
    for candidate in rules:
        if not fnmatch.filter(names, candidate.pattern):
            raise ConfigError(f"rule {candidate.pattern!r} matches no weight; the weights are {', '.join(names)}")
    for number, name in enumerate(names):
        rule = rule_for(name, rules)
        if rule is None or rule.method == "dense":
            continue
        path, _, leaf = name.rpartition(".")
        module = net.get_submodule(path)
        weight = cast(Tensor, getattr(module, leaf))
        R, Q = weight.shape[0], weight.numel() // weight.shape[0]
        geometry = solve(Q, R, rule.size, rule.rank)
        weights = DeepThinWeight(geometry, weight.shape, keep=keep, seed=seed * 1000 + number)
        parametrize_by_factors(module, leaf, weights)


def sizes(net: AcousticNet) -> tuple[int, int, int, int]:
    """Values in all weights as stored, the same if dense, and in all parameters as stored and if dense."""
    stored = dense = other = 0
    for module in net.modules():
        if isinstance(module, DeepThinWeight):
            stored += module.geometry.values
            dense += module.geometry.Q * module.geometry.R
    for name, parameter in net.named_parameters():
        if ".parametrizations." in f".{name}":
            continue
        if parameter.dim() >= 2:
            stored += parameter.numel()
            dense += parameter.numel()
        else:
            other += parameter.numel()
    return stored, dense, stored + other, dense + other
