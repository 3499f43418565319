"""The demo's tables."""

import textwrap
from collections.abc import Sequence

import jiwer

from models.plain_text import plain_words
from service.demo.measure import Answer
from service.demo.recordings import Recording

_HEADER = ("model", "method", "weights", "against parent", "latency", "against parent", "word errors")
_WIDTH = 110


def table(recording: Recording, answers: Sequence[Answer]) -> str:
    """One recording: a row of figures for each model, with its transcript below."""
    by_name = {answer.variant.name: answer for answer in answers}
    rows = [_row(answer, by_name.get(answer.variant.parent or ""), recording.reference) for answer in answers]
    widths = [max(map(len, column)) for column in zip(_HEADER, *rows, strict=True)]
    lines = [f"{recording.title} ({answers[0].audio_seconds:.1f} s)"]
    if recording.reference is not None:
        lines += _wrapped("spoken: ", recording.reference)
    lines += ["", _aligned(_HEADER, widths), _aligned(["-" * width for width in widths], widths)]
    for answer, row in zip(answers, rows, strict=True):
        lines.append(_aligned(row, widths))
        lines += _wrapped("   ", answer.text or "(nothing recognised)")
    return "\n".join(lines)


def summary(results: Sequence[tuple[Recording, Sequence[Answer]]]) -> str:
    """Word error rate of each model over the recordings whose words are known; empty when none are."""
    known = [(recording.reference, answers) for recording, answers in results if recording.reference is not None]
    if not known:
        return ""
    references = [_plain(reference) for reference, _ in known]
    lines = [f"Word error rate over {len(known)} recordings, {len(' '.join(references).split())} words:"]
    for index, answer in enumerate(known[0][1]):
        rate = jiwer.wer(references, [_plain(answers[index].text) for _, answers in known])
        lines.append(f"  {answer.variant.name:<28}{100 * rate:5.1f}%")
    return "\n".join(lines)


def _row(answer: Answer, parent: Answer | None, reference: str | None) -> list[str]:
    variant = answer.variant
    smaller = faster = errors = ""
    if parent is not None:
        smaller = f"{parent.variant.weight_bytes / variant.weight_bytes:.1f}x smaller"
        faster = f"{parent.latency_seconds / answer.latency_seconds:.2f}x as fast"
    if reference is not None:
        counts = jiwer.process_words(_plain(reference), _plain(answer.text))
        wrong = counts.substitutions + counts.deletions + counts.insertions
        errors = f"{wrong} of {len(plain_words(reference))}"
    latency = f"{1000 * answer.latency_seconds:.0f} ms"
    return [variant.name, variant.method, _size(variant.weight_bytes), smaller, latency, faster, errors]


def _plain(text: str) -> str:
    return " ".join(plain_words(text))


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _wrapped(lead: str, text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead))
