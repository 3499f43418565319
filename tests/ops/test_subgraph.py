"""The operators in the body of a loop, where recurrent layers have them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ops.library import session
from tests.ops import formats

rng = np.random.default_rng(4)
H = 20


@pytest.mark.parametrize(
    "stored",
    [
        formats.csr(rng, H, H, 0.3),
        formats.codebook(rng, H, H, 3),
        formats.codebook_csr(rng, H, H, 0.3, 4, 3),
        formats.hashed(rng, H, H, 30, 1),
        formats.shuffled(rng, H, H, 7, 1, 1),
    ],
    ids=lambda stored: stored.op,
)
def test_in_the_body_of_a_scan(isa: str, stored: formats.Stored) -> None:
    """A recurrence ``h = tanh(x + h · W)``, W among the body's own initialisers."""

    def value(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes = [
        helper.make_node(stored.op, ["h", *stored.inputs], ["u"], domain="deepthin", Q=H, R=H, **stored.attributes),
        helper.make_node("Add", ["x", "u"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["next"]),
        helper.make_node("Identity", ["next"], ["y"]),
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in stored.inputs.items()]
    row = (1, H)
    body = helper.make_graph(
        nodes, "body", [value("h", *row), value("x", *row)], [value("next", *row), value("y", *row)], constants
    )
    scan = helper.make_node("Scan", ["h0", "X"], ["last", "Y"], body=body, num_scan_inputs=1)
    graph = helper.make_graph(
        [scan], "graph", [value("h0", *row), value("X", 6, *row)], [value("last", *row), value("Y", 6, *row)]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("deepthin", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    x = rng.standard_normal((6, 1, H)).astype(np.float32)
    last, y = session(model.SerializeToString()).run(None, {"h0": np.zeros(row, np.float32), "X": x})
    state = np.zeros(row)
    for step, found in zip(x, y, strict=True):
        state = np.tanh(step + state @ stored.weight)
        np.testing.assert_allclose(found, state, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(last, y[-1])
