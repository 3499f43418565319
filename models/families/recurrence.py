"""The recurrence of a GRU layer with a backward pass that leaves the weight's gradient to one matrix product.

PyTorch's CPU implementation adds to the recurrent weight's gradient at every time step, which costs more than all the
rest; cuDNN and this function collect the gates' gradients instead and multiply once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class GruRecurrence(torch.autograd.Function):
    """All time steps of one layer, gates in the order r, z, n (reset applied after the recurrent product)."""

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
        steps, batch, width = projected.shape
        hidden = width // 3
        states = projected.new_zeros(steps + 1, batch, hidden)
        gates = torch.empty_like(projected)
        recurrent_new = projected.new_empty(steps, batch, hidden)
        transposed = weight.t().contiguous()
        for step in range(steps):
            product = torch.addmm(bias, states[step], transposed)
            both = torch.sigmoid(projected[step, :, : 2 * hidden] + product[:, : 2 * hidden])
            recurrent_new[step] = product[:, 2 * hidden :]
            new = torch.addcmul(projected[step, :, 2 * hidden :], both[:, :hidden], recurrent_new[step]).tanh_()
            gates[step, :, : 2 * hidden] = both
            gates[step, :, 2 * hidden :] = new
            torch.lerp(new, states[step], both[:, hidden:], out=states[step + 1])
        ctx.save_for_backward(states, gates, recurrent_new, weight)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the three inputs of `forward`."""
        states, gates, recurrent_new, weight = ctx.saved_tensors
        steps, batch, hidden = gradient.shape
        reset, update, new = gates.split(hidden, dim=2)
        to_new = (1 - update) * (1 - new.square())
        to_update = (states[:-1] - new) * update * (1 - update)
        to_reset = recurrent_new * reset * (1 - reset)
        projected = torch.empty_like(gates)
        recurrent = torch.empty_like(gates)
        carried = gradient.new_zeros(batch, hidden)
        for step in range(steps - 1, -1, -1):
            state = gradient[step] + carried
            d_new = torch.mul(state, to_new[step], out=projected[step, :, 2 * hidden :])
            torch.mul(d_new, to_reset[step], out=recurrent[step, :, :hidden])
            torch.mul(state, to_update[step], out=recurrent[step, :, hidden : 2 * hidden])
            torch.mul(d_new, reset[step], out=recurrent[step, :, 2 * hidden :])
            carried = torch.addmm(state * update[step], recurrent[step], weight)
        projected[:, :, : 2 * hidden] = recurrent[:, :, : 2 * hidden]
        flat = recurrent.flatten(0, 1)
        return projected, flat.t() @ states[:-1].flatten(0, 1), flat.sum(0)
