"""What a recogniser answers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word.

    Attributes:
        text: the word, in lower case where the model knows but one.
        start: seconds from the start of the recording.
        end: seconds from the start of the recording, never before `start`.
        confidence: between 0 and 1.
    """

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Wall-clock seconds that each stage took for one recording.

    Attributes:
        features: front end.
        infer: network; of a batch, the seconds of the whole batch.
        postprocess: search for the words.
    """

    features: float = 0.0
    infer: float = 0.0
    postprocess: float = 0.0

    @property
    def total(self) -> float:
        """All stages together."""
        return self.features + self.infer + self.postprocess


@dataclass(frozen=True, slots=True)
class Transcript:
    """The text of one recording.

    Attributes:
        text: words joined by blanks, in lower case where the model knows but one; empty when nothing was said.
        words: the same words with times; empty where the model gives no times.
        duration_seconds: length of the recording.
        stages: where the time went; not part of equality.
    """

    text: str
    words: tuple[Word, ...]
    duration_seconds: float
    stages: StageSeconds = field(default=StageSeconds(), compare=False)
