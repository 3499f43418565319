"""How much work recordings make, learnt from those that were answered."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

# Of what was known before, this share is kept with every answer: some twenty answers make the figures.
_KEPT: Final = 0.95
# Before the first answer: what a fast model takes on a slow machine, or a slow one on a fast machine.
_FIRST_RATE: Final = 0.05
_FIRST_WORK: Final = 0.25


class _Mean:
    """A geometric mean that forgets: a single value among many others hardly moves it, however large it is."""

    def __init__(self, first: float) -> None:
        self.value = first
        self._count = 1

    @property
    def settled(self) -> bool:
        """Whether it has as many values behind it as it ever remembers."""
        return self._count * (1 - _KEPT) >= 1

    def add(self, value: float) -> None:
        self._count += 1
        share = max(1 / self._count, 1 - _KEPT)
        self.value *= (value / self.value) ** share


class Speeds:
    """Seconds that one thread works on a second of audio, by model, and on a recording of the usual length.

    The time is the clock's: a thread that has to share its processor is slower, and that is what others wait for.
    """

    def __init__(self) -> None:
        self._work = _Mean(_FIRST_WORK)
        self._rate = _Mean(_FIRST_RATE)
        # Seconds of the threads, and of work that was done in them, while some of it was waiting.
        self._passed = self._worked = 1.0
        # Weak: what was learnt of a model goes with it.
        self._rates: WeakKeyDictionary[object, _Mean] = WeakKeyDictionary()

    @property
    def usual_work(self) -> float:
        """Seconds of work that a recording makes, on average."""
        return self._work.value

    @property
    def overhead(self) -> float:
        """Seconds that pass for a thread while it does a second of work and more is waiting; 1 if it never pauses.

        Between stages threads wait for the event loop, which has less time for them the more requests it refuses.
        """
        return self._passed / self._worked

    def expected_work(self, model: object | None, audio_seconds: float) -> float:
        """Seconds of work that `audio_seconds` of audio will make for `model`; if it is new or None, as for others."""
        rate = self._rate if model is None else self._rates.get(model, self._rate)
        return rate.value * audio_seconds

    def observe(self, thread_seconds: float, work_seconds: float) -> None:
        """Note that `work_seconds` of work were done in `thread_seconds`, while more was waiting."""
        self._passed = _KEPT * self._passed + thread_seconds
        self._worked = _KEPT * self._worked + work_seconds

    def learn(self, model: object, audio_seconds: float, work_seconds: float, *, calm: bool) -> None:
        """Note that `work_seconds` went into `audio_seconds` of audio; nothing is learnt from an empty recording.

        `calm`: little was waiting. What is usual is learnt then alone, once it is known at all: an overloaded service
        is slower, and must not let more wait for that reason.
        """
        if audio_seconds <= 0 or work_seconds <= 0:
            return
        rate = work_seconds / audio_seconds
        if calm or not self._work.settled:
            self._work.add(work_seconds)
        self._rate.add(rate)
        if model not in self._rates:
            self._rates[model] = _Mean(rate)
        else:
            self._rates[model].add(rate)
