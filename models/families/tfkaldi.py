"""`tfkaldi`: a feed-forward network over spliced frames, after the first model of the DeepThin paper.

Frames are spliced and pass a stack of hidden layers every third frame; a linear bottleneck of that stack is spliced
once more over a wide context for a second stack (stacked bottleneck features, Grezl et al., ICASSP 2009), which ends in
CTC outputs.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from models.families.base import AcousticNet, linear, splice
from models.families.dimensions import TfKaldiConfig


class TfKaldi(AcousticNet):
    """The network; every weight matrix is the `weight` of an `nn.Linear` named by its place."""

    def __init__(self, config: TfKaldiConfig, bins: int, units: int) -> None:
        super().__init__()
        self.config = config
        self.bins, self.units, self.subsampling = bins, units, config.subsampling
        self.left_context = self.right_context = config.context + config.wide_context * config.subsampling
        sizes = [(2 * config.context + 1) * bins, *config.hidden]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.bottleneck = nn.Linear(sizes[-1], config.bottleneck)
        sizes = [(2 * config.wide_context + 1) * config.bottleneck, *config.top]
        self.top = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.output = nn.Linear(sizes[-1], units)
        for layer in (*self.hidden, *self.top):
            assert isinstance(layer, nn.Linear)
            gain = 2.0 if config.activation == "relu" or layer in list(self.top) else 1.0
            nn.init.normal_(layer.weight, std=(gain / layer.in_features) ** 0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features [batch, left + frames + right, bins] to log posteriors [batch, out_frames, units]."""
        config = self.config
        x = splice(features, 2 * config.context + 1, config.subsampling)
        for layer in self.hidden:
            x = self._drop(linear(layer, x, config.activation))
        x = splice(self.bottleneck(x), 2 * config.wide_context + 1)
        for layer in self.top:
            x = self._drop(linear(layer, x, "relu"))
        logits: Tensor = self.output(x)
        return logits.log_softmax(-1)

    def _drop(self, x: Tensor) -> Tensor:
        # One mask for all frames of a recording: drawing one for each took as long as a wide DeepThin layer.
        if not self.training or self.config.dropout == 0:
            return x
        return x * functional.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.config.dropout)
