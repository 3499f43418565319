"""The small model writer: what it writes is what ONNX's own reader reads."""

import numpy as np
import onnx

from ops import graph


def test_a_written_model_passes_the_checker() -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    node = graph.node("MatMul", ["X", "W"], ["H"]), graph.node("Flatten", ["H"], ["Y"], axis=-1)
    model = graph.model(node, [graph.value("X", ["N", 2])], [graph.value("Y", ["N", 3])], [graph.tensor("W", weight)])
    read = onnx.load_from_string(model)
    onnx.checker.check_model(read)
    assert read.graph.node[1].attribute[0].i == -1
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(read.graph.initializer[0]), weight)
    assert [d.dim_param or d.dim_value for d in read.graph.input[0].type.tensor_type.shape.dim] == ["N", 2]


def test_text_attributes_and_domains() -> None:
    node = onnx.NodeProto.FromString(graph.node("Op", ["a", ""], ["b"], "deepthin", activation="relu"))
    assert (node.op_type, node.domain, list(node.input)) == ("Op", "deepthin", ["a", ""])
    assert onnx.helper.get_attribute_value(node.attribute[0]) == b"relu"
