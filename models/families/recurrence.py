"""The recurrence of a GRU layer with a backward pass that leaves the weight's gradient to one matrix product.

PyTorch's CPU implementation adds to the recurrent weight's gradient at every time step, which costs more than all the
rest; cuDNN and this function collect the gates' gradients instead and multiply once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""Of the rows of one time step with a matrix; the result may be overwritten at the next call."""


def steps(projected: Tensor, product: Product) -> tuple[Tensor, Tensor, Tensor]:
    """All time steps of one layer from a zero state, gates in the order r, z, n (reset applied after the product).

    Args:
        projected: [time, batch, 3 * hidden], the inputs times their weight plus their bias.
        product: a state [batch, hidden] times the recurrent weight plus its bias, [batch, 3 * hidden].

    Returns:
        The states [time + 1, batch, hidden], the first one zero; the gates [time, batch, 3 * hidden]; and what the
        products gave for the gate n, [time, batch, hidden].
    """
    count, batch, width = projected.shape
    hidden = width // 3
    states = projected.new_zeros(count + 1, batch, hidden)
    gates = torch.empty_like(projected)
    recurrent_new = projected.new_empty(count, batch, hidden)
    for step in range(count):
        found = product(states[step])
        both = torch.sigmoid(projected[step, :, : 2 * hidden] + found[:, : 2 * hidden])
        recurrent_new[step] = found[:, 2 * hidden :]
        new = torch.addcmul(projected[step, :, 2 * hidden :], both[:, :hidden], recurrent_new[step]).tanh_()
        gates[step, :, : 2 * hidden] = both
        gates[step, :, 2 * hidden :] = new
        torch.lerp(new, states[step], both[:, hidden:], out=states[step + 1])
    return states, gates, recurrent_new


def steps_back(
    gradient: Tensor, states: Tensor, gates: Tensor, recurrent_new: Tensor, transposed: Product
) -> tuple[Tensor, Tensor]:
    """Gradients of the projected inputs and of the recurrent products, both [time, batch, 3 * hidden].

    Args:
        gradient: [time, batch, hidden], at the states.
        states: as `steps` gave them, with the next two.
        gates: see there.
        recurrent_new: see there.
        transposed: a gradient [batch, 3 * hidden] times the transposed recurrent weight, [batch, hidden].
    """
    count, batch, hidden = gradient.shape
    reset, update, new = gates.chunk(3, dim=2)
    to_new = (1 - update) * (1 - new.square())
    to_update = (states[:-1] - new) * update * (1 - update)
    to_reset = recurrent_new * reset * (1 - reset)
    projected = torch.empty_like(gates)
    recurrent = torch.empty_like(gates)
    carried = gradient.new_zeros(batch, hidden)
    for step in range(count - 1, -1, -1):
        state = gradient[step] + carried
        d_new = torch.mul(state, to_new[step], out=projected[step, :, 2 * hidden :])
        torch.mul(d_new, to_reset[step], out=recurrent[step, :, :hidden])
        torch.mul(state, to_update[step], out=recurrent[step, :, hidden : 2 * hidden])
        torch.mul(d_new, reset[step], out=recurrent[step, :, 2 * hidden :])
        carried = torch.addcmul(transposed(recurrent[step]), state, update[step])
    projected[:, :, : 2 * hidden] = recurrent[:, :, : 2 * hidden]
    return projected, recurrent


class GruRecurrence(torch.autograd.Function):
    """`steps` with a dense recurrent weight."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """From a zero state.

        Args:
            ctx: what the backward pass needs.
            projected: [time, batch, 3 * hidden], the inputs times their weight plus their bias.
            weight: [3 * hidden, hidden].
            bias: [3 * hidden].

        Returns:
            [time, batch, hidden].
        """
        columns = weight.t().contiguous()
        states, gates, recurrent_new = steps(projected, lambda state: torch.addmm(bias, state, columns))
        ctx.save_for_backward(states, gates, recurrent_new, weight)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the three inputs of `forward`."""
        states, gates, recurrent_new, weight = ctx.saved_tensors
        projected, recurrent = steps_back(gradient, states, gates, recurrent_new, lambda rows: rows @ weight)
        flat = recurrent.flatten(0, 1)
        return projected, flat.t() @ states[:-1].flatten(0, 1), flat.sum(0)
