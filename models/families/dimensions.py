"""Dimensions of the speech networks, which are read without PyTorch too."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TfKaldiConfig(BaseModel):
    """Dimensions of `models.families.tfkaldi.TfKaldi`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    context: int = Field(8, ge=0, description="feature frames spliced on each side")
    hidden: tuple[int, ...] = Field((1024, 1024, 1024), description="units of the first stack")
    activation: Literal["sigmoid", "relu"] = "sigmoid"
    bottleneck: int = Field(256, ge=1, description="linear units between the stacks")
    wide_context: int = Field(4, ge=0, description="output frames spliced on each side before the second stack")
    top: tuple[int, ...] = Field((1024, 1024), description="units of the second stack (ReLU)")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of the units that a recording goes without")
    subsampling: int = Field(3, ge=1)


class DeepSpeechConfig(BaseModel):
    """Dimensions of `models.families.deepspeech.DeepSpeech`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[int, int] = Field((32, 32), description="channels of the two convolutions over time and frequency")
    kernels: tuple[tuple[int, int], tuple[int, int]] = Field(((9, 7), (5, 5)), description="time x frequency, odd")
    hidden: int = Field(512, ge=1, description="units of every recurrent layer")
    layers: int = Field(3, ge=1, description="recurrent layers")
    top: int = Field(512, ge=1, description="units of the feed-forward layer (ReLU)")
    dropout: float = Field(0.1, ge=0, lt=1)
    subsampling: int = Field(3, ge=1)
