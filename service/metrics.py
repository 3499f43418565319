"""Prometheus metrics of one app. Labels are bounded: models hosted, route templates, fixed sets."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from models.package import Manifest
from models.transcript import StageSeconds
from service.start import since_start

STAGES: Final = ("decode", "features", "queue", "infer", "postprocess")
SHED_REASONS: Final = ("queue_full", "backlog", "shutting_down", "client_gone", "jobs_full", "streams_full")
JOB_STATES: Final = ("queued", "running", "succeeded", "failed", "cancelled", "quarantined")
RESTART_CAUSES: Final = ("killed", "crashed", "service")
UNMATCHED_ROUTE: Final = "unmatched"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_JOB_SECONDS = (0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0)
_REAL_TIME_FACTORS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
_MODEL = ("model", "method")


class Metrics:
    """The instruments, each under its own name in `registry`."""

    def __init__(self, registry: CollectorRegistry, *, instruction_set: str) -> None:
        self.registry = registry
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)

        self.requests = counter("deepthin_requests_total", "HTTP requests answered.", ("route", "verb", "status"))
        self.request_seconds = histogram(
            "deepthin_request_duration_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
        )
        self.in_progress = gauge("deepthin_requests_in_progress", "HTTP requests being answered now.")
        self.shed = counter(
            "deepthin_requests_shed_total", "Transcriptions and jobs refused or given up, by reason.", ("reason",)
        )
        self.transcription_seconds = histogram(
            "deepthin_transcription_duration_seconds",
            "Seconds from accepting a recording to its text, waiting included.",
            _MODEL,
            buckets=_SECONDS,
        )
        self.stage_seconds = histogram(
            "deepthin_stage_duration_seconds",
            "Seconds by stage of a transcription; infer is the time of the whole batch.",
            (*_MODEL, "stage"),
            buckets=_SECONDS,
        )
        self.audio_seconds = counter("deepthin_audio_seconds_total", "Seconds of audio transcribed.", _MODEL)
        self.real_time_factor = histogram(
            "deepthin_real_time_factor_ratio",
            "Seconds of work (waiting not counted) by second of audio.",
            _MODEL,
            buckets=_REAL_TIME_FACTORS,
        )
        self.queue_depth = gauge("deepthin_queue_depth", "Recordings waiting for the network.")
        self.admitted = gauge("deepthin_queue_admitted", "Transcriptions accepted and not yet answered.")
        self.queue_capacity = gauge("deepthin_queue_capacity", "Most transcriptions accepted at once.")
        self.queue_wait = gauge(
            "deepthin_queue_wait_seconds", "Seconds that a recording that comes now is expected to wait."
        )
        self.queue_wait_limit = gauge(
            "deepthin_queue_wait_limit_seconds", "Expected wait from which on transcriptions are refused."
        )
        self.batch_size = histogram("deepthin_batch_size", "Recordings in one batch.", _MODEL, buckets=_BATCH_SIZES)
        self.weight_bytes = gauge(
            "deepthin_model_weight_bytes",
            "Bytes of the weights, from their shapes (disk, resident), or of the whole model as a stream (transport).",
            (*_MODEL, "where"),
        )
        self.graph_bytes = gauge(
            "deepthin_model_graph_bytes",
            "Bytes of the decoding graph, on disk and mapped into memory; models may share one.",
            (*_MODEL, "graph"),
        )
        self.load_seconds = gauge("deepthin_model_load_seconds", "Seconds that loading the model took.", _MODEL)
        self.compression = gauge(
            "deepthin_model_compression_ratio", "Values of the uncompressed network by values stored.", _MODEL
        )
        self.wer = gauge("deepthin_model_wer_ratio", "Word error rate as measured before release.", (*_MODEL, "corpus"))
        self.wer_delta = gauge(
            "deepthin_model_wer_delta_ratio", "Word error rate minus that of the dense parent.", (*_MODEL, "corpus")
        )
        self.model_ready = gauge("deepthin_model_ready", "1 when the model can answer, 0 when not.", _MODEL)
        self.model_info = gauge(
            "deepthin_model_info",
            "What each hosted model is; always 1.",
            (*_MODEL, "family", "parent", "relative_size"),
        )
        self.parity_error = gauge(
            "deepthin_model_parity_error_ratio",
            "Difference of the worst operator from its definition on this machine, by the spread of its values.",
            _MODEL,
        )
        self.parity_tolerance = gauge(
            "deepthin_model_parity_tolerance_ratio", "Largest such difference that rounding can explain.", _MODEL
        )
        self.models_unloaded = counter(
            "deepthin_models_unloaded_total", "Models taken out of memory to make room for others."
        )
        self.memory_budget = gauge(
            "deepthin_memory_budget_bytes", "Most bytes of weights and decoding graphs in memory; 0 for no limit."
        )
        self.jobs = gauge("deepthin_jobs", "Compression jobs that are known, by state.", ("state",))
        self.jobs_capacity = gauge("deepthin_jobs_queue_capacity", "Most compression jobs that may wait.")
        self.job_queue_seconds = histogram(
            "deepthin_job_queue_seconds", "Seconds that compression jobs waited for their turn.", buckets=_JOB_SECONDS
        )
        self.job_seconds = histogram(
            "deepthin_job_duration_seconds",
            "Seconds from the start of a compression job to its end.",
            ("method", "outcome"),
            buckets=_JOB_SECONDS,
        )
        self.job_stage_seconds = histogram(
            "deepthin_job_stage_duration_seconds",
            "Seconds that an ended compression job spent in a stage.",
            ("stage",),
            buckets=_JOB_SECONDS,
        )
        self.worker_restarts = counter(
            "deepthin_job_worker_restarts_total", "Workers of compression jobs started again, by cause.", ("cause",)
        )
        self.worker_memory = gauge(
            "deepthin_job_worker_resident_memory_bytes", "Resident memory of the worker of a job; 0 while none runs."
        )
        self.worker_held = counter(
            "deepthin_job_worker_held_seconds_total", "Seconds that workers of jobs stood still for transcriptions."
        )
        self.ready = gauge("deepthin_ready", "1 when the default model can answer, as /readyz says; otherwise 0.")
        self.start_seconds = gauge(
            "deepthin_start_seconds",
            "Seconds from the start of the process until the default model could answer: by the clock, of processor.",
            ("kind",),
        )
        self.build_info = gauge(
            "deepthin_build_info", "What runs here; always 1.", ("version", "python", "onnxruntime", "instruction_set")
        )
        # Adds deepthin_process_resident_memory_bytes, CPU seconds and open files.
        ProcessCollector(namespace="deepthin", registry=registry)
        self._start(instruction_set)

    def _start(self, instruction_set: str) -> None:
        # A series that exists from the start can be alerted on; one that appears with the first failure cannot.
        for reason in SHED_REASONS:
            self.shed.labels(reason)
        for state in JOB_STATES:
            self.jobs.labels(state)
        for cause in RESTART_CAUSES:
            self.worker_restarts.labels(cause)
        versions = (version("deepthin"), platform.python_version(), version("onnxruntime"), instruction_set)
        self.build_info.labels(*versions).set(1)

    def observe_start(self) -> None:
        """Publish how long it took until now."""
        for kind, seconds in since_start().items():
            self.start_seconds.labels(kind).set(seconds)

    def describe_model(self, manifest: Manifest, *, graph_bytes: int, load_seconds: float) -> None:
        """Publish what is known of a model from its package."""
        labels = (manifest.name, manifest.method)
        weights = manifest.weights
        for where, size in (
            ("disk", weights.disk_bytes),
            ("transport", weights.transport_bytes),
            ("resident", weights.resident_bytes),
        ):
            if size is not None:
                self.weight_bytes.labels(*labels, where).set(size)
        if manifest.graph is not None:
            self.graph_bytes.labels(*labels, manifest.graph).set(graph_bytes)
        self.load_seconds.labels(*labels).set(load_seconds)
        if weights.parameters:
            self.compression.labels(*labels).set(weights.dense_parameters / weights.parameters)
        for corpus, quality in manifest.quality.items():
            self.wer.labels(*labels, corpus).set(quality.wer)
        self.model_info.labels(*labels, manifest.family, manifest.parent or "", f"{manifest.relative_size:g}").set(1)
        self.model_ready.labels(*labels).set(1)

    def compare_model(self, manifest: Manifest, parent: Manifest) -> None:
        """Publish how far a model is from its dense parent."""
        for corpus, delta in wer_delta(manifest, parent).items():
            self.wer_delta.labels(manifest.name, manifest.method, corpus).set(delta)

    def publish_parity(self, manifest: Manifest, *, error: float, tolerance: float) -> None:
        """Publish how exactly this machine computes a model's operators."""
        self.parity_error.labels(manifest.name, manifest.method).set(error)
        self.parity_tolerance.labels(manifest.name, manifest.method).set(tolerance)

    def observe_transcription(
        self, manifest: Manifest, *, audio: float, decode: float, queue: float, stages: StageSeconds, total: float
    ) -> None:
        """Count one answered recording of `audio` seconds; all arguments are seconds."""
        labels = (manifest.name, manifest.method)
        values = (decode, stages.features, queue, stages.infer, stages.postprocess)
        for stage, seconds in zip(STAGES, values, strict=True):
            self.stage_seconds.labels(*labels, stage).observe(seconds)
        self.transcription_seconds.labels(*labels).observe(total)
        self.audio_seconds.labels(*labels).inc(audio)
        if audio > 0:
            self.real_time_factor.labels(*labels).observe((decode + stages.total) / audio)

    def observe_job(self, method: str, outcome: str, seconds: float, stages: Mapping[str, float]) -> None:
        """Count one ended compression job; `method`, `outcome` and the stages are from fixed sets."""
        self.job_seconds.labels(method, outcome).observe(max(0.0, seconds))
        for stage, spent in stages.items():
            self.job_stage_seconds.labels(stage).observe(spent)

    def forget_model(self, name: str) -> None:
        """Remove every series of a model that is no longer hosted."""
        for instrument in (
            self.transcription_seconds,
            self.stage_seconds,
            self.audio_seconds,
            self.real_time_factor,
            self.batch_size,
            self.weight_bytes,
            self.graph_bytes,
            self.load_seconds,
            self.compression,
            self.wer,
            self.wer_delta,
            self.model_ready,
            self.model_info,
            self.parity_error,
            self.parity_tolerance,
        ):
            instrument.remove_by_labels({"model": name})


def wer_delta(manifest: Manifest, parent: Manifest) -> dict[str, float]:
    """Word error rate of a model minus its parent's, on each corpus that both were measured on."""
    return {
        corpus: quality.wer - parent.quality[corpus].wer
        for corpus, quality in manifest.quality.items()
        if corpus in parent.quality
    }
