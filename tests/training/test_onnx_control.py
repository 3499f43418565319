"""Graphs with graphs inside, run and trained in PyTorch, against ONNX Runtime; a pulled recogniser among them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.compression.base import CompressionError
from models.compression.joined import join
from models.compression.normalise import normalise
from models.compression.registry import method
from models.training.compressed_weight import originals
from models.training.onnx_net import OnnxNet
from models.training.parametrizations import parametrization
from tests.models.moonshine import pulled
from tests.training.test_onnx_net import compare, random

WIDE = random(5, 64, seed=3)  # large enough to be told from its copies
SMALL = random(64, seed=4)


def graph(nodes, inputs, outputs, weights=None, name="inside"):
    return helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(key, *kind) for key, kind in inputs.items()],
        [helper.make_empty_tensor_value_info(key) for key in outputs],
        [numpy_helper.from_array(value, key) for key, value in (weights or {}).items()],
    )


def built(nodes, inputs, outputs, weights=None):
    body = graph(nodes, inputs, outputs, weights, "outside")
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


FLOAT_ROWS = (TensorProto.FLOAT, ["rows", 5])
FLAG = (TensorProto.BOOL, [])


def choosing():
    """y = tanh(x) · W + b if `flag`, otherwise x · W - b: each branch with copies of W and b of its own."""
    branches = {}
    for key, ops in (("then_branch", ("Tanh", "Add")), ("else_branch", ("Identity", "Sub"))):
        nodes = [
            helper.make_node(ops[0], ["x"], ["h"]),
            helper.make_node("MatMul", ["h", "W"], ["m"]),
            helper.make_node(ops[1], ["m", "b"], ["y"]),
        ]
        branches[key] = graph(nodes, {}, ["y"], {"W": WIDE, "b": SMALL})
    return built([helper.make_node("If", ["flag"], ["y"], **branches)], {"x": FLOAT_ROWS, "flag": FLAG}, ["y"])


def feeds(flag, rows=3):
    return {"x": random(rows, 5), "flag": np.asarray(flag)}


@pytest.mark.parametrize("flag", [True, False])
def test_the_branch_that_is_chosen_runs(flag):
    compare(choosing(), feeds(flag))


def test_weights_that_branches_share_are_one_parameter_and_small_ones_stay():
    net = OnnxNet(choosing())
    assert net.parameter_names == ("W",)
    for flag in (True, False):
        given = {key: torch.from_numpy(value) for key, value in feeds(flag).items()}
        net.zero_grad()
        net(given)["y"].square().sum().backward()
        assert net.trained("W")[0].grad.abs().sum() > 0


def test_the_gradient_is_that_of_small_changes():
    net = OnnxNet(choosing()).double()
    given = {"x": torch.from_numpy(random(3, 5)).double(), "flag": torch.tensor(True)}
    (weight,) = net.trained("W")
    net(given)["y"].square().sum().backward()
    with torch.no_grad():
        for place in [(0, 0), (2, 31), (4, 63)]:
            sides = []
            for step in (1e-5, -1e-5):
                weight[place] += step
                sides.append(float(net(given)["y"].square().sum()))
                weight[place] -= step
            assert weight.grad[place] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("name", ["low-rank", "int4-compact"])
def test_a_compressed_weight_takes_the_place_of_one_in_branches(name):
    net, chosen = OnnxNet(choosing()), method(name)
    done = chosen.compress(WIDE, chosen.plan(5, 64, chosen.sizes(5, 64)[0]))
    net.parametrize("W", parametrization(done, net.shape("W"), inputs_first=net.inputs_first("W")))
    given = feeds(False)
    found = net({key: torch.from_numpy(value) for key, value in given.items()})["y"]
    expected = given["x"] @ chosen.decompress(done) - SMALL
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5)
    found.sum().backward()
    weight = net.parametrizations[net._leaf["W"]]
    assert all(value.grad is not None for value in originals(weight))


def test_a_table_that_is_looked_up_and_multiplied_by():
    table = random(6, 50)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["columns"], axis=1),
        helper.make_node("Transpose", ["columns"], ["rows"], perm=[1, 0]),
        helper.make_node("MatMul", ["rows", "table"], ["y"]),
    ]
    model = built(nodes, {"ids": (TensorProto.INT64, ["n"])}, ["y"], {"table": table})
    compare(model, {"ids": np.asarray([3, 0, 49])}, atol=2e-5)
    net = OnnxNet(model)
    np.testing.assert_array_equal(net.matrix("table"), table)
    chosen = method("low-rank")
    done = chosen.compress(table, chosen.plan(6, 50, 0.4))
    net.parametrize("table", parametrization(done, (6, 50), inputs_first=True))
    short = chosen.decompress(done)
    found = net({"ids": torch.tensor([3, 0])})["y"].detach().numpy()
    np.testing.assert_allclose(found, short[:, [3, 0]].T @ short, atol=1e-4)


def looping(most=None, going=None):
    """h <- tanh(h · W) again and again while its sum is above 0, at most `most` times; all of them beside the last."""
    body = graph(
        [
            helper.make_node("MatMul", ["h", "W"], ["m"]),
            helper.make_node("Tanh", ["m"], ["next"]),
            helper.make_node("ReduceSum", ["next"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "zero"], ["again"]),
            helper.make_node("Identity", ["next"], ["seen"]),
        ],
        {"turn": (TensorProto.INT64, []), "on": FLAG, "h": FLOAT_ROWS},
        ["again", "next", "seen"],
    )
    weights = {"W": random(5, 5, seed=1), "zero": np.asarray(0, np.float32)}
    weights |= {} if most is None else {"most": np.asarray(most)}
    weights |= {} if going is None else {"going": np.asarray(going)}
    given = ["" if most is None else "most", "" if going is None else "going", "x"]
    return built(
        [helper.make_node("Loop", given, ["last", "all"], body=body)], {"x": FLOAT_ROWS}, ["last", "all"], weights
    )


@pytest.mark.parametrize("seed", [0, 1, 5])
@pytest.mark.parametrize("options", [{"most": 3}, {"most": 2, "going": True}])
def test_a_loop_runs_as_often_as_it_says(options, seed):
    compare(looping(**options), {"x": random(2, 5, seed=seed)})


def test_a_loop_without_a_turn_is_an_error():
    with pytest.raises(CompressionError, match=r"\(Loop\): a loop without a turn"):
        OnnxNet(looping(most=0))({"x": torch.zeros(2, 5)})


def test_an_operator_inside_that_is_not_supported_is_named():
    model = choosing()
    model.graph.node[0].attribute[0].g.node[0].op_type = "Cosh"
    with pytest.raises(CompressionError, match=r"Cosh cannot be fine-tuned"):
        OnnxNet(model)


def test_what_encodes_places_is_not_trained():
    nodes = [
        helper.make_node("Mul", ["x", "frequencies"], ["angles"]),
        helper.make_node("Cos", ["angles"], ["c"]),
        helper.make_node("Mul", ["c", "gain"], ["y"]),
    ]
    model = built(nodes, {"x": FLOAT_ROWS}, ["y"], {"frequencies": random(5), "gain": random(5, seed=1)})
    assert OnnxNet(model).parameter_names == ("gain",)


def test_a_pulled_recogniser_gives_what_onnx_runtime_gives():
    package = pulled()
    networks = {name: onnx.load(package.path / name) for name in package.manifest.networks}
    model = normalise(join(package.manifest, networks)).model
    given = {value.name: value.type.tensor_type for value in model.graph.input}
    first = {
        name: np.zeros([0, *(axis.dim_value or 1 for axis in kind.shape.dim[1:])], np.float32)
        for name, kind in given.items()
    }
    first |= {"input_values": random(1, 24_000) / 20, "use_cache_branch": np.asarray([False])}
    compare(model, first | {"input_ids": np.asarray([[1, 400, 30_000]])}, atol=2e-3)
    past = {name: random(1, *kind.shape[1:]) for name, kind in first.items() if name.startswith("past")}
    second = first | past | {"input_ids": np.asarray([[7]]), "use_cache_branch": np.asarray([True])}
    compare(model, second, atol=2e-3)
