"""Sends recordings to every model of a running service."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from service.demo.recordings import Recording


class AnswerError(RuntimeError):
    """A model cannot be used, or the service refused a recording."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One hosted model.

    Attributes:
        name: what to ask for.
        method: its compression method.
        parent: the dense model it is compared with; None for a dense model.
        weight_bytes: bytes of its weights in memory.
    """

    name: str
    method: str
    parent: str | None
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model made of one recording.

    Attributes:
        variant: the model.
        text: the transcript.
        latency_seconds: median from sending the recording to the whole answer.
        audio_seconds: length of the recording.
    """

    variant: Variant
    text: str
    latency_seconds: float
    audio_seconds: float


def variants(client: httpx.Client) -> list[Variant]:
    """The hosted models, each dense one followed by what was made from it.

    Raises:
        AnswerError: one of them could not be loaded; the message says which and why.
    """
    response = client.get("/models")
    response.raise_for_status()
    models = response.json()["models"]
    for model in models:
        if model["state"] != "ready":
            raise AnswerError(f"{model['name']} is {model['state']}: {model['reason']}")
    found = [Variant(model["name"], model["method"], model["parent"], model["resident_bytes"]) for model in models]
    return sorted(found, key=lambda variant: (variant.parent or variant.name, -variant.weight_bytes))


def ask(
    client: httpx.Client,
    recording: Recording,
    models: Sequence[Variant],
    repeats: int,
    progress: Callable[[int, int], None],
) -> list[Answer]:
    """The answer of each model to `recording`.

    The models take turns, so that whatever else the machine does hits all of them alike.

    Args:
        progress: called with (requests answered, requests in all).

    Raises:
        AnswerError: the service refused the recording; the message is its own.
    """
    latencies: dict[str, list[float]] = {model.name: [] for model in models}
    bodies = {}
    for done in range(repeats * len(models)):
        model = models[done % len(models)]
        start = time.perf_counter()
        response = client.post("/transcribe", params={"model": model.name}, files={"file": recording.data})
        latencies[model.name].append(time.perf_counter() - start)
        if response.status_code != 200:
            raise AnswerError(f"{model.name} did not transcribe {recording.title}: {_message(response)}")
        bodies[model.name] = response.json()
        progress(done + 1, repeats * len(models))
    return [
        Answer(
            model,
            bodies[model.name]["text"],
            statistics.median(latencies[model.name]),
            bodies[model.name]["duration_seconds"],
        )
        for model in models
    ]


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"
