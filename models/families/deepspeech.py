"""`deepspeech`: convolution, unidirectional recurrent layers and feed-forward layers, after the second model of the
DeepThin paper. The look-ahead is that of the convolutions alone, so that the network can stream."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.families.base import AcousticNet, activate, linear
from models.families.dimensions import DeepSpeechConfig
from models.families.recurrence import GruRecurrence


class Gru(nn.Module):
    """One unidirectional GRU layer; its parameters have the names and shapes of `nn.GRU` (gates r, z, n).

    Unlike `nn.GRU` it reads its weights at each call, so that they may be parametrized.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.inputs, self.hidden = inputs, hidden
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden, inputs))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden, hidden))
        self.bias_ih = nn.Parameter(torch.zeros(3 * hidden))
        self.bias_hh = nn.Parameter(torch.zeros(3 * hidden))
        nn.init.normal_(self.weight_ih, std=inputs**-0.5)
        for block in self.weight_hh.data.view(3, hidden, hidden):
            nn.init.orthogonal_(block)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, inputs] to [batch, time, hidden], from a zero state."""
        # With parametrizations a weight is recomputed at every access, so each is read once per call.
        return self.recur(self.project(x.transpose(0, 1))).transpose(0, 1)

    def project(self, x: Tensor) -> Tensor:
        """[time, batch, inputs] to what it adds to the gates, [time, batch, 3 * hidden]."""
        return nn.functional.linear(x, self.weight_ih, self.bias_ih)

    def recur(self, projected: Tensor) -> Tensor:
        """[time, batch, 3 * hidden] to the states, [time, batch, hidden]."""
        output: Tensor = GruRecurrence.apply(projected, self.weight_hh, self.bias_hh)  # type: ignore[no-untyped-call]
        return output


class DeepSpeech(AcousticNet):
    """The network."""

    def __init__(self, config: DeepSpeechConfig, bins: int, units: int) -> None:
        super().__init__()
        self.config = config
        self.bins, self.units, self.subsampling = bins, units, config.subsampling
        (time1, freq1), (time2, freq2) = config.kernels
        first, second = config.channels
        self.conv = nn.ModuleList(
            [
                nn.Conv2d(1, first, (time1, freq1), (config.subsampling, 2), (0, freq1 // 2)),
                nn.Conv2d(first, second, (time2, freq2), (1, 2), (0, freq2 // 2)),
            ]
        )
        self.left_context = self.right_context = time1 // 2 + time2 // 2 * config.subsampling
        rows = (bins + 3) // 4
        sizes = [second * rows] + [config.hidden] * config.layers
        self.rnn = nn.ModuleList(Gru(a, b) for a, b in pairwise(sizes))
        self.top = nn.Linear(config.hidden, config.top)
        self.output = nn.Linear(config.top, units)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Features [batch, left + frames + right, bins] to log posteriors [batch, out_frames, units]."""
        x = features.unsqueeze(1)
        for conv in self.conv:
            x = activate(conv(x), "clipped_relu")
        x = x.permute(0, 2, 1, 3).flatten(2)
        for layer in self.rnn:
            x = self.dropout(layer(x))
        x = self.dropout(linear(self.top, x, "relu"))
        logits: Tensor = self.output(x)
        return logits.log_softmax(-1)
