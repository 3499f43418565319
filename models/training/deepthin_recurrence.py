"""The recurrence of a GRU layer from DeepThin factors, in training, on the CPU in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.families.recurrence import steps, steps_back
from ops import training
from ops.layout import Geometry


class DeepThinRecurrence(torch.autograd.Function):
    """`models.families.recurrence.steps` with a recurrent weight that is never built."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, Xf: Tensor, Wf: Tensor, geometry: Geometry, bias: Tensor) -> Tensor:
        """From a zero state.

        Args:
            ctx: what the backward pass needs.
            projected: [time, batch, 3 * hidden], the inputs times their weight plus their bias.
            Xf: [m, r]
            Wf: [r, n]
            geometry: of the factors: Q is hidden and R is 3 * hidden.
            bias: [3 * hidden]

        Returns:
            [time, batch, hidden].
        """
        Xf, Wf, bias = Xf.contiguous(), Wf.contiguous(), bias.contiguous()
        found = projected.new_empty(projected.shape[1:])

        def product(state: Tensor) -> Tensor:
            training.forward(
                geometry,
                Xf.data_ptr(),
                Wf.data_ptr(),
                bias.data_ptr(),
                state.data_ptr(),
                len(state),
                found.data_ptr(),
                threads=torch.get_num_threads(),
            )
            return found

        states, gates, recurrent_new = steps(projected, product)
        ctx.save_for_backward(states, gates, recurrent_new, Xf, Wf)
        ctx.geometry = geometry
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs of `forward`."""
        states, gates, recurrent_new, Xf, Wf = ctx.saved_tensors
        found = gradient.new_empty(gradient.shape[1:])
        threads = torch.get_num_threads()

        def transposed(rows: Tensor) -> Tensor:
            into = found.data_ptr()
            factors = (Xf.data_ptr(), Wf.data_ptr())
            training.transposed(ctx.geometry, *factors, rows.data_ptr(), len(rows), into, threads=threads)
            return found

        projected, recurrent = steps_back(gradient, states, gates, recurrent_new, transposed)
        dXf, dWf, bias = torch.empty_like(Xf), torch.empty_like(Wf), gradient.new_empty(ctx.geometry.R)
        training.backward(
            ctx.geometry,
            Xf.data_ptr(),
            Wf.data_ptr(),
            states.data_ptr(),
            None,
            recurrent.data_ptr(),
            gradient.shape[0] * gradient.shape[1],
            training.Gradients(dXf.data_ptr(), dWf.data_ptr(), None, bias.data_ptr()),
            threads=threads,
        )
        return projected, dXf, dWf, None, bias
