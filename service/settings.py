"""Settings of the service, from `DEEPTHIN_*` environment variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.store import BUNDLED, home
from service.jobs.memory import half_of_memory


def cores() -> int:
    """Processors that this process may use."""
    # A container may be pinned to fewer cores than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """All settings; each can be given as an environment variable with the prefix `DEEPTHIN_`.

    Lists are written with commas: `DEEPTHIN_MODELS=tfkaldi-dense,deepspeech-dense`.

    Attributes:
        host: address to listen on.
        port: port to listen on.
        home: folder for uploaded models and other state.
        models: names of the models to host; empty for all that are found.
        max_models: most models hosted at once.
        memory_budget_bytes: most bytes of weights and decoding graphs in memory; the models unused for longest are
            unloaded for others, and loaded again when they are asked for. The default model stays. 0 for no limit.
        threads: threads for all work on audio; one batch each.
        session_threads: threads of the network within one batch.
        batch_size: most recordings in one batch; 1 turns batching off.
        batch_wait_seconds: longest that a recording waits for others to share a batch with.
        queue_length: requests accepted and not yet answered; further ones are refused with 503.
        queue_wait_seconds: longest that a recording may be expected to wait for those before it; further ones are
            refused with 503, before their bodies are read.
        queue_burst: recordings of the usual length that may wait all the same, however long they take; half of either
            while far more come than can be answered.
        retry_after_seconds: shortest time that a refused client is told to wait; with a long backlog it is told more.
        max_bytes: largest request body.
        max_seconds: longest recording.
        max_compared: most models that one recording is compared through at once.
        body_timeout_seconds: longest that a client may take to send its body.
        drain_seconds: longest that accepted requests may take to finish at shutdown.
        data: further folder with corpora that compression jobs may name, beside `corpora` in `home`.
        max_checkpoint_bytes: largest checkpoint that may be posted for compression.
        max_corpus_bytes: largest zip of recordings that may be posted with it.
        upload_timeout_seconds: longest that these may take to arrive.
        min_free_bytes: space on the disk that uploads must leave free.
        max_queued_jobs: compression jobs that wait; further ones are refused with 503.
        max_event_streams: clients that follow jobs at once; further ones are refused with 503.
        jobs_kept: jobs that have ended and are still listed.
        job_threads: threads of a compression job.
        job_memory_bytes: memory of a compression job; one that needs more fails. Half of the machine's by default.
        job_nice: how far a compression job stands back for everything else, as for the command `nice`.
        job_idle: whether a compression job gets the processor and the disk only when nothing else wants them, and
            stands still while recordings are transcribed, unless most processors are free (Linux).
        job_attempts: how often in a row a worker may be killed within one stage before its job fails.
        job_seconds: longest that a worker may run.
        self_check: whether the operators of every model are checked against their definitions once it is loaded.
        api_keys: keys of which every client must send one (`Authorization: Bearer KEY`); empty lets everyone in.
        allowed_hosts: further names that the service goes by, such as speech.example.com or *.example.com. Addresses,
            names without dots, and names of private networks (.localhost, .local, .home.arpa, .internal, .lan) need
            not be named. With `api_keys` and none named here, every name will do.
        log_level: least severe messages that are logged; debug adds a line for each probe and scrape that went well.
        log_format: json for one object a line, text for people; auto is text on a terminal and json elsewhere.
    """

    model_config = SettingsConfigDict(env_prefix="DEEPTHIN_", extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    home: Path = Field(default_factory=home)
    models: Annotated[tuple[str, ...], NoDecode] = ()
    max_models: Annotated[int, Field(ge=1)] = 64
    memory_budget_bytes: Annotated[int, Field(ge=0)] = 0
    threads: Annotated[int, Field(ge=1, le=256)] = Field(default_factory=cores)
    session_threads: Annotated[int, Field(ge=1, le=256)] = 1
    batch_size: Annotated[int, Field(ge=1, le=256)] = 8
    batch_wait_seconds: Annotated[float, Field(ge=0, le=10)] = 0.005
    queue_length: Annotated[int, Field(ge=1)] = 64
    queue_wait_seconds: Annotated[float, Field(ge=0)] = 0.2
    queue_burst: Annotated[int, Field(ge=0)] = 20
    retry_after_seconds: Annotated[int, Field(ge=1)] = 1
    max_bytes: Annotated[int, Field(ge=1)] = 32 * 1024 * 1024
    max_seconds: Annotated[float, Field(gt=0)] = 600.0
    max_compared: Annotated[int, Field(ge=1, le=64)] = 8
    body_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    drain_seconds: Annotated[float, Field(ge=0)] = 30.0
    data: Path | None = None
    max_checkpoint_bytes: Annotated[int, Field(ge=1)] = 1024 * 1024 * 1024
    max_corpus_bytes: Annotated[int, Field(ge=1)] = 256 * 1024 * 1024
    upload_timeout_seconds: Annotated[float, Field(gt=0)] = 900.0
    min_free_bytes: Annotated[int, Field(ge=0)] = 256 * 1024 * 1024
    max_queued_jobs: Annotated[int, Field(ge=1)] = 16
    max_event_streams: Annotated[int, Field(ge=1)] = 64
    jobs_kept: Annotated[int, Field(ge=1)] = 1000
    job_threads: Annotated[int, Field(ge=1, le=256)] = 1
    job_memory_bytes: Annotated[int, Field(ge=256 * 1024 * 1024)] = Field(default_factory=half_of_memory)
    job_nice: Annotated[int, Field(ge=0, le=19)] = 19
    job_idle: bool = True
    job_attempts: Annotated[int, Field(ge=1)] = 10
    job_seconds: Annotated[float, Field(gt=0)] = 86_400.0
    self_check: bool = True
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "text"] = "auto"

    @field_validator("models", "api_keys", "allowed_hosts", mode="before")
    @classmethod
    def _split_on_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(item.strip() for item in value.split(",") if item.strip())
        return value

    @field_validator("home", "data")
    @classmethod
    def _expand_user(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser()

    @property
    def model_folders(self) -> tuple[Path, ...]:
        """Where packages are looked for, the user's own first."""
        return (self.home / "models", BUNDLED)

    @property
    def corpus_folders(self) -> tuple[Path, ...]:
        """Where corpora are looked for by name, the user's own first."""
        return (self.home / "corpora", *(() if self.data is None else (self.data,)))
