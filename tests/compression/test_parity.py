"""The comparison of an exported model with its reference."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from models.compression.parity import TOLERANCE, ParityError, check
from tests.compression import networks

FEEDS = [{"x": networks.random(8, 6, seed=4, scale=1.0)}]


def sigmoid(bias: float, *, scale: float = 1.0) -> onnx.ModelProto:
    weights = {"w": networks.random(6, 5) * np.float32(scale), "b": np.full(5, bias, np.float32)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["y"]),
    ]
    return networks.model(nodes, weights, {"x": ["rows", 6]}, {"y": ["rows", 5]})


def test_the_same_model_does_not_differ() -> None:
    assert check(sigmoid(0.5), sigmoid(0.5), FEEDS, TOLERANCE).difference == 0


@pytest.mark.parametrize("bias", [0.0, 2.0, -6.0])
def test_other_weights_do(bias: float) -> None:
    with pytest.raises(ParityError, match="output y differs by"):
        check(sigmoid(bias, scale=1.01), sigmoid(bias), FEEDS, TOLERANCE)


def test_a_level_that_differs_does_where_nothing_varies() -> None:
    with pytest.raises(ParityError, match="output y differs by"):
        check(sigmoid(0.1, scale=0.0), sigmoid(0.0, scale=0.0), FEEDS, TOLERANCE)


def test_what_is_left_of_a_sigmoid_far_from_its_middle_may_differ() -> None:
    result = check(sigmoid(-17.5, scale=1e-3), sigmoid(-18.0, scale=1e-3), FEEDS, TOLERANCE)
    assert result.difference < TOLERANCE
    with pytest.raises(ParityError, match="output y differs by"):
        check(sigmoid(-11.0, scale=1e-3), sigmoid(-18.0, scale=1e-3), FEEDS, TOLERANCE)
