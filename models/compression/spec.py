"""What a compression job is asked to do: the JSON body of `POST /compress`, also built by the command line."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from models.compression.base import CompressionError, RankWish
from models.features import FrontEnd, FrontEndError, preset
from models.package import Name

UPLOAD: Final = "upload"
"""As the name of a corpus: the one that was uploaded with the job."""

RANK: Final = (
    "rank, for methods that have one beside the size; 'fastest' (deepthin): the geometry of about that size that this "
    "processor computes a row with in the least time"
)
"""What a rank is, for those who ask for one."""

Size = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


def _one_message(value: Any, handler: ValidatorFunctionWrapHandler) -> RankWish:
    try:
        rank: RankWish = handler(value)
    except ValidationError:
        raise ValueError("must be a whole number from 1 to 4096, or 'fastest'") from None
    return rank


Rank = Annotated[Annotated[int, Field(ge=1, le=4096)] | Literal["fastest"], WrapValidator(_one_message)]
Corpora = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")], ...], Field(max_length=8)
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LayerRule(_Strict):
    """One entry of `compress`, in the schema of training's `[[compress]]`: the last rule that matches a weight wins."""

    pattern: str = Field(min_length=1, max_length=256, description="shell-style pattern on the names of weights")
    method: str = Field("deepthin", description="compression method, 'dense' to leave the weight as it is")
    size: Size = Field(1.0, description="bytes of the weight by those of the dense fp32 matrix")
    rank: Rank = Field(1, description=RANK)


class Budget(_Strict):
    """What the compressed model may cost; a search picks a method and a size for every weight."""

    target_bytes: int | None = Field(None, gt=0, description="bytes of all weights on disk, at most")
    max_wer_delta: float | None = Field(
        None, ge=0, le=1, description="word error rate above the parent's, at most (.01: one point); see the gate's"
    )
    target_latency: float | None = Field(
        None, gt=0, description="seconds of the network by second of audio (without a front end: by run), at most"
    )
    methods: tuple[str, ...] = Field((), max_length=16, description="methods to choose from; empty: those that suit")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Budget:
        if self.target_bytes is None and self.max_wer_delta is None and self.target_latency is None:
            raise ValueError("a budget needs target_bytes, max_wer_delta or target_latency")
        return self


class FineTune(_Strict):
    """End-to-end distillation from the parent after compression; needs PyTorch and calibration audio."""

    epochs: int = Field(4, ge=1, le=100, description="passes over the calibration audio")
    seconds: float | None = Field(
        None, gt=0, le=36_000, description="audio of the calibration corpora to train on; None: calibration_seconds"
    )
    learning_rate: float = Field(2e-2, gt=0, le=1, description="peak rate of Adam, by the size of the weights")
    steps: int = Field(
        1, ge=1, le=16, description="for deep-compression alone: prune in so many steps, with `epochs` after each"
    )


class CompressionSpec(_Strict):
    """One compression job.

    Either `method` with `size`, or rules in `compress`, or both (rules win where they match), or a `budget`.
    """

    name: Name | None = Field(None, description="name of the result; made from checkpoint, method and size without one")
    method: str | None = Field(None, description="compression method of every weight that no rule matches")
    size: Size | None = Field(
        None,
        description="bytes of those weights by those of the dense fp32 matrices; a weight that cannot be so small has "
        "its smallest size and the others make up for it. Not needed for methods that have one size",
    )
    rank: Rank = Field(1, description=RANK)
    compress: tuple[LayerRule, ...] = Field((), max_length=256, description="rules for weights by name")
    budget: Budget | None = Field(None, description="what the model may cost, instead of a method and a size")
    calibration: Corpora = Field(
        (), description="corpora whose audio the compression is fitted to; 'upload': the uploaded one"
    )
    evaluation: Corpora = Field((), description="corpora that parent and result are evaluated on; 'upload' likewise")
    limit: int | None = Field(None, ge=1, description="utterances of each evaluation corpus")
    calibration_seconds: float = Field(600.0, gt=0, le=36_000, description="audio used of the calibration corpora")
    fine_tune: FineTune | None = Field(None, description="fine-tuning after compression; None: none")
    front_end: dict[str, Any] | str | None = Field(
        None, description="for a bare .onnx: fields of a front end, or the preset 'ami-dnn'"
    )
    max_wer_delta: float | None = Field(
        None,
        ge=0,
        le=1,
        description="gate: word error rate above the parent's; without a decoder, share of phones that differ",
    )
    allow_slower: bool = Field(False, description="host the result even where it is slower than its parent")
    host: bool = Field(True, description="host the result when it is accepted")

    @field_validator("method")
    @classmethod
    def _method_is_known(cls, name: str | None) -> str | None:
        if name is not None:
            _known(name)
        return name

    @field_validator("compress")
    @classmethod
    def _methods_of_rules_are_known(cls, rules: tuple[LayerRule, ...]) -> tuple[LayerRule, ...]:
        for rule in rules:
            _known(rule.method, rule.rank)
        return rules

    @field_validator("front_end")
    @classmethod
    def _front_end_is_known(cls, value: dict[str, Any] | str | None) -> dict[str, Any] | None:
        try:
            if isinstance(value, str):
                return preset(value).to_dict()
            return None if value is None else FrontEnd.from_dict(value).to_dict()
        except FrontEndError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _asks_for_something(self) -> CompressionSpec:
        if self.budget is not None:
            if self.method is not None or self.size is not None or self.compress:
                raise ValueError("a budget takes the place of method, size and compress")
            for name in self.budget.methods:
                _known(name)
            if self.budget.max_wer_delta is not None and not self.evaluation:
                raise ValueError("budget.max_wer_delta needs evaluation corpora")
            return self
        if self.method is None and not self.compress:
            raise ValueError("nothing to do: give method and size, compress, or a budget")
        if self.method is not None and self.size is None and not _fixed_size(self.method):
            raise ValueError(f"method {self.method!r} needs a size")
        if self.method is None and self.size is not None:
            raise ValueError("size needs a method")
        if self.method is not None:
            _known(self.method, self.rank)
        return self

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> CompressionSpec:
        if self.fine_tune is not None and not self.calibration:
            raise ValueError("fine_tune needs calibration corpora")
        methods = {self.method, *(rule.method for rule in self.compress)} - {None, "dense"}
        if self.fine_tune is not None and self.fine_tune.steps > 1 and methods != {"deep-compression"}:
            raise ValueError("fine_tune.steps is for deep-compression alone")
        if self.max_wer_delta is not None and not self.evaluation:
            raise ValueError("max_wer_delta needs evaluation corpora")
        return self


def parse_spec(text: str | bytes) -> CompressionSpec:
    """The job in a JSON text.

    Raises:
        CompressionError: not JSON, or a field is missing, unknown or out of range; the message names it.
    """
    try:
        return CompressionSpec.model_validate_json(text)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False):
            field = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{field}: {message}" if field else message)
        raise CompressionError("; ".join(problems)) from error


def _fixed_size(name: str) -> bool:
    from models.compression.registry import method

    low, high = method(name).sizes(1024, 1024)
    return high < 1.05 * low


def _known(name: str, rank: RankWish = 1) -> None:
    from models.compression.planning import takes_fastest
    from models.compression.registry import method

    try:
        found = method(name)
        if rank == "fastest":
            takes_fastest(found)
    except CompressionError as error:
        raise ValueError(str(error)) from error
