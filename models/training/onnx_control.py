"""The ONNX operators with graphs inside that `onnx_net` runs: If and Loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.training.onnx_operators import Body, Inputs, Node, given

Run = Callable[[Body, Sequence[Tensor]], tuple[Tensor, ...]]
"""Runs a body on the values of its inputs, with all names of the graphs around it in sight."""

Control = Callable[[Node, Inputs, Run], tuple[Tensor, ...]]


def _if(node: Node, inputs: Inputs, run: Run) -> tuple[Tensor, ...]:
    condition = given(node, inputs, 0)
    if condition.numel() != 1:
        raise node.error(f"a condition of {condition.numel()} values is not supported")
    return run(node.bodies["then_branch" if bool(condition) else "else_branch"], ())


def _loop(node: Node, inputs: Inputs, run: Run) -> tuple[Tensor, ...]:
    body, most = node.bodies["body"], inputs[0]
    going = inputs[1] is None or bool(inputs[1])
    carried = [given(node, inputs, index) for index in range(2, len(inputs))]
    count = len(carried)
    scanned: list[list[Tensor]] = [[] for _ in body.outputs[1 + count :]]
    turn = 0
    while going and (most is None or turn < int(most)):
        condition, *values = run(body, [torch.tensor(turn), torch.tensor(going), *carried])
        carried = values[:count]
        for values_so_far, value in zip(scanned, values[count:], strict=True):
            values_so_far.append(value)
        going, turn = bool(condition), turn + 1
    if scanned and not turn:
        raise node.error("a loop without a turn, whose outputs have no known shape, is not supported")
    return (*carried, *(torch.stack(values_so_far) for values_so_far in scanned))


CONTROL: dict[str, Control] = {"If": _if, "Loop": _loop}
"""By operator."""
