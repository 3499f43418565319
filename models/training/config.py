"""The one TOML file that describes a training run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models.compression.spec import RANK, Rank
from models.families.dimensions import DeepSpeechConfig, TfKaldiConfig
from models.training.corpus import Variant
from ops.errors import DeepThinError


class ConfigError(DeepThinError, ValueError):
    """A training configuration that cannot be used."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FrontEndTable(_Table):
    """`[front_end]`: see `models.features.FrontEnd`."""

    bins: int = 40
    normalise: Literal["mean", "none"] = "mean"
    dynamic_range: float = 16.0


class DataTable(_Table):
    """`[data]`: what is trained on."""

    corpora: tuple[str, ...] = Field(("librispeech-train", "an4-train"), description="folders under DEEPTHIN_DATA")
    speeds: tuple[float, ...] = (1.0, 0.9, 1.1)
    mp3_kbits: tuple[int, ...] = Field((), description="rates of MP3 coding, at speed 1, beside the speeds")
    hold_out: int = Field(30, ge=2, description="every n-th utterance is kept for tuning and never trained on")
    alignments: Path | None = Field(None, description="phone alignments, see `python -m models.training.prepare`")

    def variants(self) -> tuple[Variant, ...]:
        """Every form in which a recording is trained on; each epoch draws one for each recording."""
        return (*(Variant(speed) for speed in self.speeds), *(Variant(1.0, kbits) for kbits in self.mp3_kbits))


class AugmentTable(_Table):
    """`[augment]`: SpecAugment (Park et al., Interspeech 2019) on mean-normalised features."""

    time_masks_per_second: float = Field(0.15, ge=0)
    time_width: int = Field(30, ge=0, description="largest time mask in feature frames")
    frequency_masks: int = Field(2, ge=0)
    frequency_width: int = Field(6, ge=0, description="largest frequency mask in bins")
    band_limit: float = Field(0.5, ge=0, le=1, description="share of utterances that lose their upper bins, as in MP3")
    band_limit_bins: float = Field(0.25, ge=0, lt=1, description="largest share of the bins lost that way")


class TrainTable(_Table):
    """`[train]`: the optimiser."""

    frame_epochs: float = Field(0.0, ge=0, description="epochs with frame targets from the alignments, before CTC")
    epochs: float = Field(8.0, gt=0, description="all epochs, the frame epochs included")
    learning_rate: float = Field(1e-3, gt=0)
    warm_up: float = Field(0.05, ge=0, lt=1, description="share of the run with a rising rate; then cosine decay")
    batch_seconds: float = Field(200.0, gt=0)
    gradient_clip: float = Field(1.0, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    average: float = Field(0.998, ge=0, lt=1, description="decay of the running average of the weights")
    frame_weight: float = Field(0.0, ge=0, le=1, description="share of the frame loss kept beside CTC")


class DistillTable(_Table):
    """`[distill]`: soft targets from a trained parent, frame by frame."""

    parent: Path = Field(description="run folder of the parent")
    weight: float = Field(0.9, ge=0, le=1, description="share of the distillation loss; the rest is CTC or CTC-CRF")


class CrfTable(_Table):
    """`[crf]`: the CTC-CRF loss (see `models.training.crf`) with a model of the training set's phones."""

    weight: float = Field(
        0.9, ge=0, le=1, description="its share of the loss that is not distillation; the rest is CTC"
    )


class SearchTable(_Table):
    """`[search]`: how wide the package's decoder searches; a small network's doubts make a wide search slow."""

    beam: float = Field(16.0, gt=0, description="natural logs that a hypothesis may be behind the best one")
    max_active: int = Field(3000, gt=0, description="most hypotheses kept from frame to frame")


class CompressRule(_Table):
    """One `[[compress]]` rule: the last rule whose pattern matches a weight's name decides."""

    pattern: str = Field(description="shell-style pattern on parameter names, such as 'hidden.*.weight'")
    method: str = Field("deepthin", description="compression method whose weights can be trained, 'dense' for none")
    size: float = Field(1.0, gt=0, le=1, description="bytes of the weight by those of the dense fp32 matrix")
    rank: Rank = Field(1, description=RANK)

    @field_validator("method")
    @classmethod
    def _method_can_be_trained(cls, name: str) -> str:
        from models.training.parametrizations import PARAMETRIZATIONS

        if name not in PARAMETRIZATIONS:
            raise ValueError(f"no weights of method {name!r} can be trained: use {', '.join(PARAMETRIZATIONS)}")
        return name

    @model_validator(mode="after")
    def _rank_can_be_chosen(self) -> CompressRule:
        if self.rank == "fastest" and self.method != "deepthin":
            raise ValueError(f"{self.method} cannot choose its rank by time: rank 'fastest' is for deepthin")
        return self


class TrainingConfig(_Table):
    """The whole file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    family: Literal["tfkaldi", "deepspeech"]
    description: str = ""
    seed: int = Field(1, description="of the first weights and, with the name, of everything drawn in training")
    parent: str | None = Field(None, description="name of the dense model that this one is compared with")
    start: Path | None = Field(None, description="run folder to start from: dense, or with the same rules")
    start_ami: bool = Field(False, description="start the first stack from $DEEPTHIN_DATA/ami-dnn")
    front_end: FrontEndTable = FrontEndTable()
    tfkaldi: TfKaldiConfig = TfKaldiConfig()  # type: ignore[call-arg]
    deepspeech: DeepSpeechConfig = DeepSpeechConfig()  # type: ignore[call-arg]
    data: DataTable = DataTable()  # type: ignore[call-arg]
    augment: AugmentTable = AugmentTable()  # type: ignore[call-arg]
    train: TrainTable = TrainTable()  # type: ignore[call-arg]
    distill: DistillTable | None = None
    crf: CrfTable | None = None
    search: SearchTable = SearchTable()  # type: ignore[call-arg]
    compress: tuple[CompressRule, ...] = ()

    @property
    def drawing_seed(self) -> int:
        """Seed of batches, masks and dropout: another one for a run that goes on from this one under its own name."""
        return crc32(f"{self.seed} {self.name}".encode())


def load_config(path: Path) -> TrainingConfig:
    """Read and check a TOML file; a `ConfigError` names what is wrong and where."""
    try:
        return TrainingConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ConfigError(f"no such configuration: {path}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{path}: " + "; ".join(lines)) from error
