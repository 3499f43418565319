"""What the tests of recurrent layers share: random factors, and ONNX Runtime's own layer on the dense weights."""

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from ops.layout import reconstruct
from tests.ops.operators import Float, factors

GATES = {"GRU": 3, "LSTM": 4}


def layer_factors(
    op: str, rng: np.random.Generator, inputs: int, H: int, n: int, r: int = 1
) -> tuple[Float, Float, Float, Float]:
    """Xf_w, Wf_w, Xf_r and Wf_r of a "GRU" or an "LSTM"."""
    gates = GATES[op]
    return (*factors(rng, inputs, gates * H, n, r), *factors(rng, H, gates * H, n, r))


def normal(rng: np.random.Generator, *shape: int) -> Float:
    """Normally distributed values."""
    return rng.standard_normal(shape, np.float32)


def dense_layer(
    op: str, x: Float, all_factors: Sequence[Float], B: Float, states: Sequence[Float], **attributes: int
) -> list[Float]:
    """What ONNX Runtime's `op` gives, whose weights are the reconstructed ones and whose gates are in ONNX's order.

    Args:
        op: "GRU" or "LSTM".
        x: [steps, batch, inputs]
        all_factors: as `layer_factors` gives them.
        B: the biases.
        states: the initial ones, [batch, H] each: h, and c of an LSTM.
        attributes: of the node.

    Returns:
        The outputs [steps, batch, H], and the last states.
    """
    Xf_w, Wf_w, Xf_r, Wf_r = all_factors
    H = states[0].shape[1]
    W = reconstruct(Xf_w, Wf_w, x.shape[2], GATES[op] * H).T
    U = reconstruct(Xf_r, Wf_r, H, GATES[op] * H).T
    letters = "hc"[: len(states)]
    outputs = ["Y", *(f"Y_{letter}" for letter in letters)]
    node = helper.make_node(op, ["X", "W", "R", "B", "", *letters], outputs, hidden_size=H, **attributes)
    constants = {"W": W, "R": U, "B": B, **dict(zip(letters, states, strict=True))}
    layer = helper.make_graph(
        [node],
        op,
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.ascontiguousarray(values[None]), name) for name, values in constants.items()],
    )
    model = helper.make_model(layer, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    Y, *last = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"X": x})
    return [Y[:, 0], *(state[0] for state in last)]
