"""How good and how fast a compressed model is, beside its parent and in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from models.compression.base import Array
from models.compression.feeds import Feed
from models.differences import edit_distance
from models.evaluation import Evaluation, evaluate
from models.recognisers import load

SLOWER: Final = 1.1
"""A model is called slower than its parent above this ratio; on a busy machine less is noise."""

_ROUNDS: Final = 5
_TIMED: Final = 6  # recordings
_PATIENCE: Final = 20.0  # seconds of timing


class Runs(Protocol):
    """A session, or what is timed as one."""

    def run(self, outputs: None, feed: dict[str, Array], /) -> Any:
        """Run once."""
        ...


class Answers(Protocol):
    """A session, or what answers as one."""

    def get_outputs(self) -> Sequence[Any]:
        """The outputs; each has a `name`."""
        ...

    def run(self, outputs: list[str], feed: dict[str, Array], /) -> Any:
        """The values of `outputs`."""
        ...


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a compressed network says where its parent says something, without regard to what is right.

    Attributes:
        frames: share of output frames whose best class is the parent's.
        phones: 1 less the edits between the two sequences of best classes (repetitions merged) by the parent's length.
        output_error: root mean squared difference of the first output by the spread of the parent's.
        divergence: nats of the parent's posteriors from the model's, by frame; None where outputs are no posteriors.
        runs: inputs compared.
        rows: output frames compared.
        inputs: "recordings" or "random".
    """

    frames: float
    phones: float
    output_error: float
    divergence: float | None
    runs: int
    rows: int
    inputs: str


@dataclass(frozen=True, slots=True)
class Speed:
    """Time of the network alone, of parent and result in turn.

    Attributes:
        seconds: median of one run of the result.
        parent_seconds: median of one run of the parent.
        ratio: median over the pairs of runs of the result's time by the parent's.
        rtf: median of the result's seconds by second of audio; None where the inputs are no audio.
        parent_rtf: the same of the parent.
        runs: pairs of runs.
    """

    seconds: float
    parent_seconds: float
    ratio: float
    rtf: float | None
    parent_rtf: float | None
    runs: int


def agreement(parent: Answers, model: Answers, feeds: Sequence[Feed], inputs: str) -> Agreement:
    """Compare the first outputs of two networks; `inputs` is for the result."""
    name = parent.get_outputs()[0].name
    same = rows = edits = length = 0
    sums = np.zeros(4)
    divergence, posteriors = 0.0, True
    for feed in feeds:
        (wanted,) = parent.run([name], dict(feed))
        (found,) = model.run([name], dict(feed))
        one, other = _rows(found), _rows(wanted)
        ours, theirs = one.argmax(axis=1), other.argmax(axis=1)
        same += int((ours == theirs).sum())
        rows += len(ours)
        mine, yours = _merged(ours), _merged(theirs)
        edits += edit_distance(mine, yours)
        length += len(yours)
        finite = np.isfinite(one) & np.isfinite(other)
        a, b = one[finite], other[finite]
        sums += [np.square(a - b).sum(), a.size, b.sum(), np.square(b).sum()]
        if posteriors and one.shape[1] > 1 and np.allclose(np.exp(other).sum(axis=1), 1.0, atol=1e-3):
            divergence += float((np.exp(other) * (other - one)).sum())
        else:
            posteriors = False
    spread = sums[3] / max(sums[1], 1) - (sums[2] / max(sums[1], 1)) ** 2
    error = float(np.sqrt(sums[0] / max(sums[1], 1) / spread)) if spread > 0 else float(sums[0] > 0)
    return Agreement(
        frames=same / max(rows, 1),
        phones=max(1.0 - edits / max(length, 1), 0.0),
        output_error=error,
        divergence=divergence / max(rows, 1) if posteriors else None,
        runs=len(feeds),
        rows=rows,
        inputs=inputs,
    )


def speed(
    parent: Runs,
    model: Runs,
    feeds: Sequence[Feed],
    seconds: Sequence[float] | None,
    *,
    threads: int = 1,
) -> Speed:
    """Time both networks in turn on some of `feeds`.

    Sessions of one thread are timed by that thread's processor time, which other programs on the machine hardly change.

    Args:
        parent: the network that was compressed.
        model: what it became.
        feeds: inputs.
        seconds: length of each recording; None for random inputs.
        threads: of both sessions.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    longest = sorted(range(len(feeds)), key=lambda index: -(seconds[index] if seconds else 0))
    # Those in the middle: what a usual recording costs.
    first = max((len(longest) - _TIMED) // 2, 0)
    chosen = longest[first : first + _TIMED]
    pairs: list[tuple[float, float, float]] = []
    for index in chosen:
        for session in (parent, model):
            session.run(None, dict(feeds[index]))
    begin = time.perf_counter()
    for _ in range(_ROUNDS):
        for index in chosen:
            taken = []
            for session in (parent, model):
                start = clock()
                session.run(None, dict(feeds[index]))
                taken.append(clock() - start)
            pairs.append((taken[1], taken[0], seconds[index] if seconds else 0.0))
        if time.perf_counter() - begin > _PATIENCE:
            break
    return Speed(
        seconds=statistics.median(mine for mine, _, _ in pairs),
        parent_seconds=statistics.median(theirs for _, theirs, _ in pairs),
        ratio=statistics.median(mine / theirs for mine, theirs, _ in pairs),
        rtf=statistics.median(mine / audio for mine, _, audio in pairs) if seconds else None,
        parent_rtf=statistics.median(theirs / audio for _, theirs, audio in pairs) if seconds else None,
        runs=len(pairs),
    )


def word_errors(
    package: Path,
    corpora: Mapping[str, Path],
    limit: int | None,
    *,
    threads: int,
    progress: Callable[[float], None],
) -> dict[str, Evaluation]:
    """Accuracy of a package on each corpus.

    Raises:
        CorpusError: a corpus cannot be read.
        EvaluationUnavailableError: jiwer is not installed.
    """
    recogniser = load(package, threads=threads)
    results = {}
    for number, (name, folder) in enumerate(corpora.items()):

        def report(done: int, total: int, number: int = number) -> None:
            progress((number + done / total) / len(corpora))

        results[name] = evaluate(recogniser, folder, limit, progress=report)
    return results


def _rows(output: Array) -> npt.NDArray[Any]:
    # A network with one row of classes for a recording has one output frame.
    array = np.asarray(output, np.float64)
    return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)


def _merged(classes: npt.NDArray[Any]) -> list[int]:
    kept = np.concatenate([[True], classes[1:] != classes[:-1]]) if len(classes) else np.zeros(0, bool)
    return [int(each) for each in classes[kept]]
