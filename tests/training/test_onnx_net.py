"""The converter from ONNX to PyTorch, node by node against ONNX Runtime, and what it says of weights."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.compression.base import CompressionError
from models.training.export import export
from models.training.onnx_graph import SUPPORTED_OPERATORS, posterior
from models.training.onnx_net import OnnxNet
from tests.training.support import config, network


def random(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def integers(*values):
    return np.asarray(values, dtype=np.int64)


def one_node(op, x, *constants, outputs=1, opset=17, **attributes):
    """A graph of one node on the input `x` and constants (None: left out)."""
    names = ["x"] + ["" if value is None else f"c{i}" for i, value in enumerate(constants)]
    results = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op, names, results, **attributes)],
        "one",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_empty_tensor_value_info(name) for name in results],
        [numpy_helper.from_array(value, f"c{i}") for i, value in enumerate(constants) if value is not None],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9 if opset < 20 else 10)


def compare(model, feeds, atol=2e-6):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    expected = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)
    net = OnnxNet(model)
    with torch.no_grad():
        results = net({name: torch.from_numpy(value) for name, value in feeds.items()})
    for name, values in zip(net.outputs, expected, strict=True):
        found = results[name].numpy()
        assert found.shape == values.shape, name
        np.testing.assert_allclose(found, values, atol=atol, rtol=1e-5)


X = random(3, 5)
POSITIVE = np.abs(X) + 0.1
IMAGE, LINE = random(2, 3, 9, 8), random(2, 3, 11)
KERNEL, KERNEL_1D = random(4, 3, 3, 2), random(4, 3, 3)
SEQUENCE = random(6, 2, 5)
GRU = [random(1, 12, 5, seed=1), random(1, 12, 4, seed=2), random(1, 24, seed=3)]
EDGES = integers(0, 2, 1, 3)
COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")

PLAIN = (
    "Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "Identity", "Neg", "Relu", "Sigmoid", "Sin", "Softplus", "Tanh",
)  # fmt: skip
YES_NO = np.asarray([[True, False, True], [False, False, True]])

CASES = {
    **{op: one_node(op, X) for op in PLAIN},
    **{op: one_node(op, YES_NO, np.asarray([True, True, False])) for op in ("And", "Or")},
    **{op: one_node(op, integers(1, 2, 3), integers(2)) for op in COMPARISONS},
    "Not": one_node("Not", YES_NO),
    "Where": one_node("Where", YES_NO, random(2, 1), random(3, seed=1)),
    "Range": one_node("Range", np.asarray(2), np.asarray(11), np.asarray(3)),
    "Range of floats": one_node("Range", np.asarray(2, np.float32), np.float32(-1), np.float32(-0.75)),
    "Trilu": one_node("Trilu", X, np.asarray(1)),
    "Trilu below": one_node("Trilu", X, upper=0),
    "Tile": one_node("Tile", X, integers(2, 3)),
    "InstanceNormalization": one_node("InstanceNormalization", IMAGE, random(3), random(3, seed=1), epsilon=1e-3),
    "Gather of a number": one_node("Gather", integers(4, 5, 6), np.asarray(1)),
    **{op: one_node(op, POSITIVE) for op in ("Log", "Reciprocal", "Sqrt")},
    **{op: one_node(op, X, random(5, seed=1)) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")},
    "Dropout": one_node("Dropout", X),
    "Max of three": one_node("Max", X, random(5, seed=1), random(3, 1, seed=2)),
    "Pow": one_node("Pow", X, np.float32(2.0)),
    "Div of integers": one_node("Div", integers(-7, 7, 9), integers(2, 2, 3)),
    "LeakyRelu": one_node("LeakyRelu", X, alpha=0.2),
    "Elu": one_node("Elu", X, alpha=0.7),
    "HardSigmoid": one_node("HardSigmoid", X, alpha=0.3, beta=0.4),
    "Gelu": one_node("Gelu", X, opset=20),
    "Gelu with tanh": one_node("Gelu", X, opset=20, approximate="tanh"),
    "Clip": one_node("Clip", X, np.float32(-0.5), np.float32(0.5)),
    "Clip above": one_node("Clip", X, None, np.float32(0.5)),
    "Clip by attributes": one_node("Clip", X, opset=9, min=-0.3, max=0.8),
    "MatMul": one_node("MatMul", X, random(5, 4, seed=1)),
    "MatMul of a batch": one_node("MatMul", LINE, random(11, 4, seed=1)),
    "Gemm": one_node("Gemm", X, random(5, 4, seed=1), random(4, seed=2), alpha=0.5, beta=2.0),
    "Gemm transposed": one_node("Gemm", X, random(4, 3, seed=1), transA=1, transB=1),
    "Conv": one_node("Conv", IMAGE, KERNEL, random(4), strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2]),
    "Conv 1-D": one_node("Conv", LINE, KERNEL_1D, strides=[2], pads=[2, 0]),
    "Conv in groups": one_node("Conv", LINE, random(6, 1, 3), group=3),
    "Conv same": one_node("Conv", IMAGE, KERNEL, auto_pad="SAME_UPPER", strides=[2, 3]),
    "Conv same lower": one_node("Conv", LINE, random(4, 3, 2), auto_pad="SAME_LOWER"),
    "Conv valid": one_node("Conv", IMAGE, KERNEL, auto_pad="VALID"),
    "MaxPool": one_node("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]),
    "AveragePool": one_node("AveragePool", LINE, kernel_shape=[3], strides=[2]),
    "GlobalAveragePool": one_node("GlobalAveragePool", IMAGE),
    "BatchNormalization": one_node(
        "BatchNormalization", IMAGE, random(3), random(3, seed=1), random(3, seed=2), np.abs(random(3)), epsilon=1e-3
    ),
    "LayerNormalization": one_node("LayerNormalization", LINE, random(11), random(11, seed=1), epsilon=1e-3),
    "Softmax": one_node("Softmax", LINE, axis=1),
    "LogSoftmax": one_node("LogSoftmax", LINE),
    "Softmax of old": one_node("Softmax", LINE, opset=11),
    "LogSoftmax of old": one_node("LogSoftmax", LINE, opset=11, axis=2),
    "ReduceMean": one_node("ReduceMean", LINE, axes=[1, -1], keepdims=0),
    "ReduceMean of newer": one_node("ReduceMean", LINE, integers(2), opset=18),
    "ReduceMean of all": one_node("ReduceMean", LINE),
    "ReduceSum": one_node("ReduceSum", LINE, integers(-1)),
    "ReduceMax": one_node("ReduceMax", LINE, axes=[0]),
    "Cast": one_node("Cast", X * 3, to=TensorProto.INT64),
    "Cast to half": one_node("Cast", random(2, 2, dtype=np.float16), to=TensorProto.FLOAT),
    "ConstantOfShape": one_node("ConstantOfShape", integers(2, 3), value=helper.make_tensor("v", 1, [1], [2.5])),
    "Shape": one_node("Shape", LINE),
    "Shape in part": one_node("Shape", LINE, start=1, end=-1),
    "Gather": one_node("Gather", LINE, np.asarray([[0, -1], [2, 1]]), axis=1),
    "Gather of one": one_node("Gather", LINE, np.asarray(-2), axis=2),
    "Slice": one_node("Slice", IMAGE, integers(1, -5), integers(2**40, -1), integers(3, 2), integers(3, 1)),
    "Slice backwards": one_node("Slice", LINE, integers(-1), integers(-(2**40)), integers(2), integers(-2)),
    "Slice of nothing": one_node("Slice", LINE, integers(4), integers(2), integers(1)),
    "Slice of old": one_node("Slice", LINE, opset=9, starts=[1], ends=[5], axes=[2]),
    "Concat": one_node("Concat", LINE, random(2, 3, 4), axis=-1),
    "Split": one_node("Split", LINE, integers(2, 9), outputs=2, axis=2),
    "Split equally": one_node("Split", LINE, outputs=2, opset=18, axis=2, num_outputs=2),
    "Reshape": one_node("Reshape", IMAGE, integers(0, -1, 8)),
    "Flatten": one_node("Flatten", IMAGE, axis=-1),
    "Transpose": one_node("Transpose", IMAGE, perm=[0, 2, 1, 3]),
    "Transpose of all": one_node("Transpose", LINE),
    "Squeeze": one_node("Squeeze", random(1, 3, 1), integers(0)),
    "Squeeze of old": one_node("Squeeze", random(1, 3, 1), opset=11),
    "Unsqueeze": one_node("Unsqueeze", X, integers(-1, 0)),
    "Unsqueeze of old": one_node("Unsqueeze", X, opset=11, axes=[1]),
    "Expand": one_node("Expand", random(3, 1), integers(2, 1, 4)),
    "Pad": one_node("Pad", LINE, integers(0, 0, 2, 1, 0, 3), np.float32(0.7)),
    "Pad with the edge": one_node("Pad", LINE, integers(0, 1, 2, 0, 0, 3), mode="edge"),
    "Pad by reflection": one_node("Pad", LINE, integers(0, 1, 2, 0, 2, 3), mode="reflect"),
    "Pad of axes": one_node("Pad", LINE, integers(1, 2), None, integers(2), opset=18),
    "GRU": one_node("GRU", SEQUENCE, *GRU, outputs=2, hidden_size=4, linear_before_reset=1),
    "GRU with reset first": one_node("GRU", SEQUENCE, *GRU, outputs=2, hidden_size=4),
    "GRU from a state": one_node(
        "GRU", SEQUENCE, *GRU, None, random(1, 2, 4), outputs=2, hidden_size=4, linear_before_reset=1
    ),
    "GRU without bias": one_node("GRU", SEQUENCE, *GRU[:2], outputs=2, hidden_size=4),
}
INPUTS = {
    **dict.fromkeys(("Log", "Reciprocal", "Sqrt"), POSITIVE),
    "Div of integers": integers(-7, 7, 9),
    **dict.fromkeys(("And", "Not", "Or", "Where"), YES_NO),
    **dict.fromkeys(COMPARISONS, integers(1, 2, 3)),
    "Range": np.asarray(2),
    "Range of floats": np.asarray(2, np.float32),
    "Gather of a number": integers(4, 5, 6),
    "Cast": X * 3,
    "Cast to half": random(2, 2, dtype=np.float16),
    "ConstantOfShape": integers(2, 3),
}


def value_for(model, case):
    if case in INPUTS:
        return INPUTS[case]
    shape = tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    return random(*shape, seed=9)


@pytest.mark.parametrize("case", CASES)
def test_every_operator_gives_what_onnx_runtime_gives(case):
    model = CASES[case]
    compare(model, {"x": value_for(model, case)})


def test_every_operator_is_tested():
    here = {model.graph.node[0].op_type for model in CASES.values()} | {"Constant"}
    assert here | {"If", "Loop"} == set(SUPPORTED_OPERATORS)  # these two: test_onnx_control


@pytest.mark.parametrize("value", [{"value_float": 2.5}, {"value_ints": [1, 2]}, {"value_int": 3}])
def test_constants(value):
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], **value), helper.make_node("Identity", ["c"], ["y"])],
        "constant",
        [],
        [helper.make_empty_tensor_value_info("y")],
    )
    compare(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), {})


@pytest.mark.parametrize("family", ["tfkaldi", "deepspeech"])
@pytest.mark.parametrize("half", [False, True])
def test_our_families(family, half):
    net = network(config(family))
    model, _, states = export(net, half=half)
    feeds = {"features": random(2, net.left_context + 30 + net.right_context, net.bins)}
    feeds.update({state.input: np.zeros((2, *state.shape), np.float32) for state in states})
    compare(model, feeds, atol=2e-5)
    converted = OnnxNet(model)
    assert sum(p.numel() for p in converted.parameters()) == sum(p.numel() for p in net.parameters())
    assert posterior(model, "log_probs") == "LogSoftmax"


def test_an_unknown_operator_is_named():
    model = one_node("Cosh", X)
    with pytest.raises(CompressionError, match=r"Cosh cannot be fine-tuned; supported are .*MatMul"):
        OnnxNet(model)
    model.graph.node[0].domain = "com.microsoft"
    with pytest.raises(CompressionError, match=r"com\.microsoft\.Cosh"):
        OnnxNet(model)


@pytest.mark.parametrize(
    "model",
    [
        one_node("Cast", X, to=TensorProto.STRING),
        one_node("Conv", random(1, 1, 3, 3, 3), random(1, 1, 2, 2, 2)),
        one_node("GRU", SEQUENCE, np.repeat(GRU[0], 2, 0), np.repeat(GRU[1], 2, 0), hidden_size=4, direction="reverse"),
        one_node("MaxPool", IMAGE, kernel_shape=[3, 3], ceil_mode=1),
        one_node("MatMul", X, random(4, 3)),
    ],
    ids=lambda model: model.graph.node[0].op_type,
)
def test_an_unsupported_form_is_an_error_that_names_the_node(model):
    feeds = {"x": torch.from_numpy(value_for(model, ""))}
    with pytest.raises(CompressionError, match=r"node 'y0' \("):
        OnnxNet(model)(feeds)


def two_layers(transposed):
    """x [rows, 5] -> Gemm -> Relu -> MatMul with an fp16 weight that is cast."""
    first = random(4, 5) if transposed else random(5, 4)
    nodes = [
        helper.make_node("Gemm", ["x", "first", "bias"], ["h"], transB=int(transposed)),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Cast", ["second"], ["second.wide"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["r", "second.wide"], ["m"]),
        helper.make_node("Mul", ["m", "half"], ["y"]),
    ]
    constants = {
        "first": first,
        "bias": random(4),
        "second": random(4, 3, dtype=np.float16),
        "half": np.float32(0.5),
    }
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), constants


@pytest.mark.parametrize("transposed", [False, True])
def test_weights_are_found_and_given_as_matrices(transposed):
    model, constants = two_layers(transposed)
    compare(model, {"x": X})
    net = OnnxNet(model)
    assert set(net.parameter_names) == {"first", "bias", "second"}
    np.testing.assert_array_equal(net.matrix("first"), constants["first"].T if transposed else constants["first"])
    np.testing.assert_array_equal(net.matrix("second.wide"), constants["second"].astype(np.float32))
    np.testing.assert_array_equal(net.value("second"), constants["second"])
    assert net.value("second").dtype == np.float16
    with pytest.raises(CompressionError, match="'bias' cannot be replaced"):
        net.matrix("bias")
    with pytest.raises(CompressionError, match="no initialiser 'third'"):
        net.matrix("third")


def test_a_kernel_and_a_recurrent_weight_are_given_as_matrices():
    np.testing.assert_array_equal(OnnxNet(CASES["Conv"]).matrix("c0"), KERNEL.reshape(4, -1).T)
    np.testing.assert_array_equal(OnnxNet(CASES["GRU"]).matrix("c1"), GRU[1][0].T)
    with pytest.raises(CompressionError, match="cannot be replaced"):
        OnnxNet(CASES["Conv in groups"]).matrix("c0")


def test_gradients_reach_every_parameter():
    net = OnnxNet(two_layers(True)[0])
    net({"x": torch.from_numpy(X)})["y"].square().sum().backward()
    for name in net.parameter_names:
        (parameter,) = net.trained(name)
        assert parameter.grad.abs().sum() > 0


def test_a_missing_input_is_an_error():
    with pytest.raises(CompressionError, match="input 'x'"):
        OnnxNet(two_layers(True)[0])({})


def test_only_a_softmax_over_the_last_axis_makes_posteriors():
    def output(op, rank, **attributes):
        model = one_node(op, LINE, **attributes)
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y0", TensorProto.FLOAT, [None] * rank))
        return posterior(onnx.load_from_string(model.SerializeToString()), "y0")

    assert output("LogSoftmax", 3) == "LogSoftmax"
    assert output("Softmax", 3, axis=2, opset=11) == "Softmax"
    assert output("Softmax", 3, axis=1) is None
    assert output("Softmax", 3, opset=11) is None
    assert output("Tanh", 3) is None
