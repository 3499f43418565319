"""Trained networks to ONNX with the custom ops, and to model packages: `python -m models.training.export RUN`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils import parametrize

from models.compression.base import Compressed
from models.compression.export import export as replace_weights
from models.compression.network import Layer, Network
from models.compression.registry import method
from models.compression.transport import note_size
from models.decoding.lexicon import UNITS
from models.families.base import AcousticNet
from models.families.deepspeech import DeepSpeech, Gru
from models.families.tfkaldi import TfKaldi
from models.features import FrontEnd
from models.package import Manifest, ModelPackage, State, Weights
from models.training.cli import corpus_and_cache
from models.training.compressed_weight import CompressedWeight
from models.training.config import ConfigError, TrainingConfig
from models.training.deepthin import DeepThinWeight
from models.training.network import compressed_weights, sizes
from models.training.soft_targets import load_config_and_net, posteriors
from ops.layout import Geometry
from ops.measure import kept_bytes

Array = npt.NDArray[np.float32]
OPSET = 17
# Tuned on held-out utterances of the training corpora, never on the evaluation sets; see docs/accuracy.md.
_OF_CTC = {"lm_weight": 1.1, "word_score": -0.4, "prior_scale": 0.7}
_OF_CTC_CRF = {"lm_weight": 1.1, "word_score": -0.2, "prior_scale": 0.3}
_END = np.iinfo(np.int64).max


class GraphBuilder:
    """Collects nodes and initialisers; every method that adds a node returns the name of its output."""

    def __init__(self, *, half: bool) -> None:
        """`half`: matrices and factors are stored as fp16 and cast to fp32 when a session loads them."""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.half = half
        self.disk_bytes = self.resident_bytes = 0

    def node(self, op: str, inputs: Sequence[str], *, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its first output, the others have `.1`, `.2` ... behind it."""
        name = f"{op.lower()}{len(self.nodes)}"
        names = [name] + [f"{name}.{index}" for index in range(1, outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, domain=domain, **attributes))
        return name

    def integers(self, values: Sequence[int]) -> str:
        """A constant int64 vector."""
        name = f"ints{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype=np.int64), name))
        return name

    def weight(self, name: str, values: npt.NDArray[np.floating]) -> str:
        """A weight; matrices follow `half`, vectors stay fp32."""
        self.resident_bytes += 4 * values.size
        if self.half and values.ndim >= 2:
            self.disk_bytes += 2 * values.size
            self.initializers.append(numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
            self.nodes.append(helper.make_node("Cast", [f"{name}.fp16"], [name], to=TensorProto.FLOAT))
            return name
        self.disk_bytes += 4 * values.size
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name))
        return name

    def linear(self, name: str, x: str, layer: nn.Linear, activation: str = "") -> str:
        """A fully connected layer with its activation ("" , "relu" or "sigmoid")."""
        bias = self.weight(f"{name}.bias", _numpy(layer.bias))
        factors = deepthin_factors(layer, "weight")
        if factors is not None:
            Q, R = layer.in_features, layer.out_features
            inputs = [x, *self.factors(f"{name}.weight", *factors, Q, R), bias]
            return self.node("DeepThinMatMul", inputs, domain="deepthin", activation=activation, Q=Q, R=R)
        product = self.node("MatMul", [x, self.weight(f"{name}.weight", _numpy(layer.weight).T)])
        y = self.node("Add", [product, bias])
        return self.node({"relu": "Relu", "sigmoid": "Sigmoid"}[activation], [y]) if activation else y

    def factors(self, name: str, Xf: Array, Wf: Array, Q: int, R: int) -> list[str]:
        """The two factor initialisers of one DeepThin weight Q x R; the op keeps what it packs of them, too."""
        self.resident_bytes += kept_bytes(Geometry(Q, R, Xf.shape[0], Wf.shape[1], Xf.shape[1]))
        return [self.weight(f"{name}.Xf", Xf), self.weight(f"{name}.Wf", Wf)]

    def convolution(self, name: str, conv: nn.Conv2d) -> str:
        """The kernel of a convolution. DeepThin factors are multiplied out when a session loads, not at each run."""
        factors = deepthin_factors(conv, "weight")
        if factors is None:
            return self.weight(name, _numpy(conv.weight))
        resident = self.resident_bytes
        stored = [self.weight(f"{name}.{key}", each) for key, each in zip(("Xf", "Wf"), factors, strict=True)]
        product = self.node("MatMul", stored)
        self.resident_bytes = resident + 4 * conv.weight.numel()
        flat = self.node("Reshape", [product, self.integers([-1])])
        used = self.node("Slice", [flat, self.integers([0]), self.integers([conv.weight.numel()])])
        return self.node("Reshape", [used, self.integers(conv.weight.shape)])

    def splice(self, x: str, width: int, stride: int = 1) -> str:
        """Windows of `width` frames every `stride` frames of [batch, frames, dim]."""
        axes, steps = self.integers([1]), self.integers([stride])
        parts = []
        for offset in range(width):
            end = offset - width + 1 or _END
            inputs = [x, self.integers([offset]), self.integers([end]), axes, steps]
            parts.append(self.node("Slice", inputs))
        return self.node("Concat", parts, axis=2)


def deepthin_factors(module: nn.Module, leaf: str) -> tuple[Array, Array] | None:
    """Xf and Wf of a DeepThin weight, None for a dense one or one of another method."""
    if not parametrize.is_parametrized(module, leaf):
        return None
    entry = cast(parametrize.ParametrizationList, module.parametrizations[leaf])  # type: ignore[index]
    if not isinstance(entry[0], DeepThinWeight):
        return None
    return _numpy(cast(torch.Tensor, entry.original0)), _numpy(cast(torch.Tensor, entry.original1))


def export(net: AcousticNet, *, half: bool) -> tuple[onnx.ModelProto, GraphBuilder, tuple[State, ...]]:
    """The ONNX model of a network, the builder with its byte counts, and its recurrent states."""
    compressed = compressed_weights(net)
    builder = GraphBuilder(half=half and not compressed)
    states: list[State] = []
    if isinstance(net, TfKaldi):
        logits = _tfkaldi(builder, net)
    elif isinstance(net, DeepSpeech):
        logits = _deepspeech(builder, net, states)
    else:
        raise ConfigError(f"{type(net).__name__} cannot be exported")
    builder.nodes.append(helper.make_node("LogSoftmax", [logits], ["log_probs"], axis=-1))
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", "frames", net.bins])]
    outputs = [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["batch", "out_frames", net.units])]
    for state in states:
        inputs.append(helper.make_tensor_value_info(state.input, TensorProto.FLOAT, ["batch", *state.shape]))
        outputs.append(helper.make_tensor_value_info(state.output, TensorProto.FLOAT, ["batch", *state.shape]))
    graph = helper.make_graph(builder.nodes, "deepthin", inputs, outputs, builder.initializers)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("deepthin", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return (_with_compressed(model, compressed, builder) if compressed else model), builder, tuple(states)


def _with_compressed(
    model: onnx.ModelProto, compressed: Mapping[str, Compressed], builder: GraphBuilder
) -> onnx.ModelProto:
    """The model with the dense weights of these names replaced by what their methods store."""
    layers = [_layer(model, name) for name in compressed]
    # A GRU is replaced as a whole, whichever of its two weights is compressed.
    both = [
        _layer(model, model.graph.node[layer.nodes[0]].input[3 - layer.operand])
        for layer in layers
        if layer.op == "GRU"
    ]
    for weight in compressed.values():
        stored = method(weight.plan.method)
        builder.disk_bytes += weight.plan.disk_bytes - 4 * weight.plan.Q * weight.plan.R
        builder.resident_bytes += stored.resident_bytes(weight) - 4 * weight.plan.Q * weight.plan.R
    every = {layer.name: layer for layer in (*layers, *both)}
    return replace_weights(Network(model, tuple(every.values()), ()), compressed)


def _layer(model: onnx.ModelProto, name: str) -> Layer:
    """Where a weight is used; there is one such place in the graphs made here."""
    (place,) = [(index, node) for index, node in enumerate(model.graph.node) if name in node.input]
    shape = next(tuple(tensor.dims) for tensor in model.graph.initializer if tensor.name == name)
    index, node = place
    if node.op_type == "MatMul":
        Q, R = shape
    elif node.op_type == "GRU":
        R, Q = shape[1:]
    else:
        R, Q = shape[0], int(np.prod(shape[1:]))
    return Layer(name, node.op_type, (index,), list(node.input).index(name), Q, R, shape)


def _tfkaldi(builder: GraphBuilder, net: TfKaldi) -> str:
    config = net.config
    x = builder.splice("features", 2 * config.context + 1, config.subsampling)
    for number, layer in enumerate(net.hidden):
        x = builder.linear(f"hidden.{number}", x, cast(nn.Linear, layer), config.activation)
    x = builder.splice(builder.linear("bottleneck", x, net.bottleneck), 2 * config.wide_context + 1)
    for number, layer in enumerate(net.top):
        x = builder.linear(f"top.{number}", x, cast(nn.Linear, layer), "relu")
    return builder.linear("output", x, net.output)


def _deepspeech(builder: GraphBuilder, net: DeepSpeech, states: list[State]) -> str:
    x = builder.node("Unsqueeze", ["features", builder.integers([1])])
    low, high = builder.weight("zero", np.zeros((), np.float32)), builder.weight("twenty", np.full((), 20.0))
    for number, layer in enumerate(net.conv):
        conv = cast(nn.Conv2d, layer)
        weight = builder.convolution(f"conv.{number}.weight", conv)
        bias = builder.weight(f"conv.{number}.bias", _numpy(cast(nn.Parameter, conv.bias)))
        _, reach = cast(tuple[int, int], conv.padding)
        x = builder.node("Conv", [x, weight, bias], strides=list(conv.stride), pads=[0, reach, 0, reach])
        x = builder.node("Clip", [x, low, high])
    x = builder.node("Transpose", [x], perm=[0, 2, 1, 3])
    x = builder.node("Reshape", [x, builder.integers([0, 0, -1])])
    for number, layer in enumerate(net.rnn):
        x = _gru(builder, f"rnn.{number}", x, cast(Gru, layer), states)
    x = builder.linear("top", x, net.top, "relu")
    return builder.linear("output", x, net.output)


def _gru(builder: GraphBuilder, name: str, x: str, layer: Gru, states: list[State]) -> str:
    state = State(input=f"{name}.state", output=f"{name}.state_out", shape=(layer.hidden,))
    states.append(state)
    inputs, recurrent = deepthin_factors(layer, "weight_ih"), deepthin_factors(layer, "weight_hh")
    biases = [_numpy(layer.bias_ih), _numpy(layer.bias_hh)]
    if inputs is not None and recurrent is not None:
        factors = [
            *builder.factors(f"{name}.weight_ih", *inputs, layer.inputs, 3 * layer.hidden),
            *builder.factors(f"{name}.weight_hh", *recurrent, layer.hidden, 3 * layer.hidden),
        ]
        bias = builder.weight(f"{name}.bias", np.concatenate(biases))
        y = builder.node(
            "DeepThinGRU",
            [x, *factors, bias, state.input],
            outputs=2,
            domain="deepthin",
            input_size=layer.inputs,
            hidden_size=layer.hidden,
            linear_before_reset=1,
            layout=1,
            gate_order="rzh",
        )
        builder.nodes.append(helper.make_node("Identity", [f"{y}.1"], [state.output]))
        return y
    if inputs is not None or recurrent is not None:
        raise ConfigError(f"{name}: compress both weight_ih and weight_hh of a recurrent layer, or neither")
    weights = [
        builder.weight(f"{name}.{leaf}", _onnx_gates(_numpy(getattr(layer, leaf)))[None])
        for leaf in ("weight_ih", "weight_hh")
    ]
    bias = builder.weight(f"{name}.bias", np.concatenate([_onnx_gates(b) for b in biases])[None])
    time_first = builder.node("Transpose", [x], perm=[1, 0, 2])
    initial = builder.node("Unsqueeze", [state.input, builder.integers([0])])
    y = builder.node(
        "GRU", [time_first, *weights, bias, "", initial], outputs=2, hidden_size=layer.hidden, linear_before_reset=1
    )
    builder.nodes.append(helper.make_node("Squeeze", [f"{y}.1", builder.integers([0])], [state.output]))
    sequence = builder.node("Squeeze", [y, builder.integers([1])])
    return builder.node("Transpose", [sequence], perm=[1, 0, 2])


def _onnx_gates(values: Array) -> Array:
    """PyTorch's gate blocks r, z, n in ONNX's order z, r, h."""
    reset, update, new = np.split(values, 3)
    return np.concatenate([update, reset, new])


def _numpy(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float32)


def log_priors(config: TrainingConfig, net: AcousticNet, runs: Path) -> tuple[float, ...]:
    """Natural log of each unit's mean posterior on every tenth training utterance."""
    utterances, cache = corpus_and_cache(config, runs)
    chosen = range(1, len(utterances), 10)
    frames = np.concatenate([np.exp(posteriors(net, cache.get(u, 0), "cpu").astype(np.float64)) for u in chosen])
    return tuple(round(float(value), 4) for value in np.log(frames.mean(axis=0) + 1e-8))


def _decoder(config: TrainingConfig) -> dict[str, float | int | bool | str]:
    weights = _OF_CTC if config.crf is None else _OF_CTC_CRF
    return {**weights, "beam": config.search.beam, "max_active": config.search.max_active}


def package(
    config: TrainingConfig, net: AcousticNet, folder: Path, *, graph: str | None = None, priors: Sequence[float] = ()
) -> ModelPackage:
    """Write the model package of a trained network under `folder`; the decoder's options need `priors`."""
    stored, dense, parameters, dense_parameters = sizes(net)
    model, builder, states = export(net, half=True)
    manifest = Manifest(
        name=config.name,
        family=config.family,
        method=main_method(net),
        relative_size=stored / dense,
        parent=config.parent,
        description=config.description,
        sample_rate=16_000,
        front_end=FrontEnd(**config.front_end.model_dump()).to_dict(),
        units=UNITS,
        subsampling=net.subsampling,
        left_context=net.left_context,
        right_context=net.right_context,
        states=states,
        graph=graph,
        decoder=_decoder(config) if priors else {},
        log_priors=tuple(priors),
        weights=Weights(
            parameters=parameters,
            dense_parameters=dense_parameters,
            disk_bytes=builder.disk_bytes,
            resident_bytes=builder.resident_bytes,
        ),
        licence="MIT",
        attribution=_ATTRIBUTION + (_AMI_ATTRIBUTION if config.family == "tfkaldi" else ""),
    )
    return note_size(ModelPackage.save(folder, manifest, model.SerializeToString()).path)


def main_method(net: AcousticNet) -> str:
    """The method that compresses most of the network's weights, "dense" when there is none."""
    shares: dict[str, int] = {}
    for module in net.modules():
        if isinstance(module, DeepThinWeight):
            shares["deepthin"] = shares.get("deepthin", 0) + module.geometry.Q * module.geometry.R
        elif isinstance(module, CompressedWeight):
            name = module.compressed.plan.method
            shares[name] = shares.get(name, 0) + module.Q * module.R
    return max(shares, key=lambda name: shares[name], default="dense")


_ATTRIBUTION = (
    "Trained on LibriSpeech (V. Panayotov, G. Chen, D. Povey, S. Khudanpur, ICASSP 2015; OpenSLR 12 and 31; CC BY 4.0) "
    "and AN4 (Carnegie Mellon University)."
)
_AMI_ATTRIBUTION = " Its training began with the AMI acoustic model of Idiap's bob.kaldi (BSD)."


def main(argv: Sequence[str] | None = None) -> int:
    """Export run folders."""
    parser = argparse.ArgumentParser(prog="python -m models.training.export", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders with a model.pt")
    parser.add_argument("--out", type=Path, default=Path("models/pretrained"), help="folder of packages")
    parser.add_argument("--graph", default="english", help="name of the decoding graph")
    arguments = parser.parse_args(argv)
    for run in arguments.runs:
        config, net = load_config_and_net(run)
        priors = log_priors(config, net, run.parent)
        written = package(config, net, arguments.out, graph=arguments.graph or None, priors=priors)
        print(f"{written.path}: {written.manifest.weights.disk_bytes:,} bytes of weights")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
