"""Networks from configurations: build, start from a parent, replace weights by compressed ones by rule."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from models.compression.base import Compressed, CompressionError, ConvMethod, Matrix, SizeError
from models.compression.registry import method
from models.decoding.lexicon import UNITS
from models.families.base import AcousticNet
from models.families.deepspeech import DeepSpeech, Gru
from models.families.tfkaldi import TfKaldi
from models.training.ami import BINS, CONTEXT, AmiNetwork
from models.training.compressed_weight import CompressedWeight, install, installed, swapped
from models.training.config import CompressRule, ConfigError, TrainingConfig
from models.training.deepthin import DeepThinWeight, parametrize_by_factors
from models.training.parametrizations import parametrization
from ops.fastest import solve_fastest
from ops.layout import Geometry, solve


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


def compress(
    net: AcousticNet,
    rules: tuple[CompressRule, ...],
    *,
    keep: bool,
    seed: int = 0,
    stored: Mapping[str, Tensor] | None = None,
) -> None:
    """Replace the matched weights by trainable compressed ones, in place.

    Args:
        net: an ordinary network.
        rules: what applies where.
        keep: they start as the best stand-ins of the present weights. Otherwise DeepThin's start at random, and those
            of other methods as stand-ins of the present weights at the same scale.
        seed: of the random factors.
        stored: what a network compressed by these rules was saved as, if it will be loaded: the geometry of least time
            was chosen on the processor that it was first made on, which may be another one.

    Raises:
        ConfigError: a rule matches no weight, or a method does not take such a weight.
        GeometryError: a size that a DeepThin weight cannot have.
        SizeError: the same for other methods.
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
        if rule.method == "deepthin":
            R, Q = weight.shape[0], weight.numel() // weight.shape[0]
            geometry = _geometry(Q, R, rule, (stored or {}).get(f"{path}.parametrizations.{leaf}.original1"))
            weights = DeepThinWeight(geometry, weight.shape, keep=keep, seed=seed * 1000 + number)
            parametrize_by_factors(module, leaf, weights)
        else:
            _install(module, leaf, rule, name, keep=keep)


def _geometry(Q: int, R: int, rule: CompressRule, Wf: Tensor | None) -> Geometry:
    if rule.rank != "fastest":
        return solve(Q, R, rule.size, rule.rank)
    if Wf is None:
        return solve_fastest(Q, R, rule.size)
    r, n = Wf.shape
    return Geometry(Q, R, -(-Q * R // n), n, r)


def _install(module: nn.Module, leaf: str, rule: CompressRule, name: str, *, keep: bool) -> None:
    chosen = method(rule.method)
    weight = cast(Tensor, getattr(module, leaf)).detach()
    gates = isinstance(module, Gru)
    matrix = matrix_of(weight, swap_gates=gates)
    Q, R = matrix.shape
    try:
        if weight.dim() > 2 and isinstance(chosen, ConvMethod):
            plan = chosen.plan_conv(tuple(weight.shape), rule.size)
        else:
            assert rule.rank != "fastest"
            plan = chosen.plan(Q, R, rule.size, rank=rule.rank)
    except SizeError as error:
        raise SizeError(f"{name}: {error}") from error
    except CompressionError as error:
        raise ConfigError(f"{name}: {error}") from error
    compressed = chosen.compress(matrix, plan)
    install(module, leaf, parametrization(compressed, weight.shape, inputs_first=False, swap_gates=gates))
    found = installed(module, leaf)
    assert found is not None
    if not keep and found[0].proportional:
        # What a stand-in of a random weight lacks in size would fade the signal from layer to layer.
        with torch.no_grad():
            found[1][0].mul_(weight.norm() / cast(Tensor, getattr(module, leaf)).norm().clamp(min=1e-30))


def matrix_of(weight: Tensor, *, swap_gates: bool) -> Matrix:
    """A weight [R, ...] as the matrix [Q, R] that compression methods see, a GRU's with its gates in ONNX's order."""
    ordered = swapped(weight) if swap_gates else weight
    return np.ascontiguousarray(ordered.detach().cpu().reshape(len(ordered), -1).numpy().T, dtype=np.float32)


def compressed_weights(net: AcousticNet) -> dict[str, Compressed]:
    """The weights of methods other than DeepThin by name, as they are stored."""
    found = {}
    for path, module in net.named_modules():
        for leaf in getattr(module, "parametrizations", {}):
            weight = installed(module, leaf)
            if weight is not None:
                dense = matrix_of(getattr(module, leaf), swap_gates=weight[0].swap_gates)
                found[f"{path}.{leaf}"] = weight[0].finish(weight[1], dense)
    return found


def sizes(net: AcousticNet) -> tuple[int, int, int, int]:
    """Values in all weights as stored, the same if dense, and in all parameters as stored and if dense.

    Weights of methods that store other things than fp32 values count by their bytes, four a value.
    """
    stored = dense = other = 0
    for module in net.modules():
        if isinstance(module, DeepThinWeight):
            stored += module.geometry.values
            dense += module.geometry.Q * module.geometry.R
        elif isinstance(module, CompressedWeight):
            stored += -(-module.compressed.plan.disk_bytes // 4)
            dense += module.Q * module.R
    for name, parameter in net.named_parameters():
        if ".parametrizations." in f".{name}":
            continue
        if parameter.dim() >= 2:
            stored += parameter.numel()
            dense += parameter.numel()
        else:
            other += parameter.numel()
    return stored, dense, stored + other, dense + other
