"""`GET /metrics`: names, labels, values, and that clients cannot make series."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.compression.transport import note_size
from service.jobs.record import JobState
from service.metrics import STAGES
from tests.service.conftest import Serve
from tests.support import babble, encode

pytestmark = pytest.mark.anyio

SPEECH = encode(babble(0.5))
NAMES = {
    "deepthin_requests": "counter",
    "deepthin_request_duration_seconds": "histogram",
    "deepthin_requests_in_progress": "gauge",
    "deepthin_requests_shed": "counter",
    "deepthin_transcription_duration_seconds": "histogram",
    "deepthin_stage_duration_seconds": "histogram",
    "deepthin_audio_seconds": "counter",
    "deepthin_real_time_factor_ratio": "histogram",
    "deepthin_queue_depth": "gauge",
    "deepthin_queue_admitted": "gauge",
    "deepthin_queue_capacity": "gauge",
    "deepthin_batch_size": "histogram",
    "deepthin_model_weight_bytes": "gauge",
    "deepthin_model_load_seconds": "gauge",
    "deepthin_model_compression_ratio": "gauge",
    "deepthin_model_wer_ratio": "gauge",
    "deepthin_model_wer_delta_ratio": "gauge",
    "deepthin_model_ready": "gauge",
    "deepthin_model_info": "gauge",
    "deepthin_jobs": "gauge",
    "deepthin_jobs_queue_capacity": "gauge",
    "deepthin_job_queue_seconds": "histogram",
    "deepthin_job_duration_seconds": "histogram",
    "deepthin_job_stage_duration_seconds": "histogram",
    "deepthin_job_worker_restarts": "counter",
    "deepthin_job_worker_resident_memory_bytes": "gauge",
    "deepthin_job_worker_held_seconds": "counter",
    "deepthin_ready": "gauge",
    "deepthin_start_seconds": "gauge",
    "deepthin_build_info": "gauge",
    "deepthin_process_resident_memory_bytes": "gauge",
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(client: httpx.AsyncClient) -> Samples:
    text = (await client.get("/metrics")).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


async def test_names_types_and_help(client: httpx.AsyncClient) -> None:
    await client.post("/transcribe", content=SPEECH)
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    assert {name: families[name].type for name in NAMES} == NAMES
    assert all(family.documentation for family in families.values())
    assert all(name.startswith("deepthin_") for name in families)


async def test_scrapers_may_ask_for_openmetrics(client: httpx.AsyncClient) -> None:
    for version in ("1.0.0", "0.0.1", "nonsense"):
        accept = f"application/openmetrics-text; version={version}"
        response = await client.get("/metrics", headers={"accept": accept})
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("application/openmetrics-text")
        assert response.text.endswith("# EOF\n")


async def test_a_transcription_is_counted_everywhere(client: httpx.AsyncClient) -> None:
    await client.post("/transcribe", params={"model": "tiny-thin"}, content=SPEECH)
    samples = await scrape(client)
    model = {"model": "tiny-thin", "method": "deepthin"}
    assert value(samples, "deepthin_requests_total", route="/transcribe", verb="POST", status="200") == 1
    assert value(samples, "deepthin_request_duration_seconds_count", route="/transcribe") == 1
    assert value(samples, "deepthin_audio_seconds_total", **model) == 0.5
    assert value(samples, "deepthin_transcription_duration_seconds_count", **model) == 1
    assert value(samples, "deepthin_real_time_factor_ratio_count", **model) == 1
    assert value(samples, "deepthin_batch_size_sum", **model) == 1
    stages = {stage: value(samples, "deepthin_stage_duration_seconds_sum", **model, stage=stage) for stage in STAGES}
    assert all(seconds > 0 for seconds in stages.values())
    assert sum(stages.values()) <= value(samples, "deepthin_transcription_duration_seconds_sum", **model)
    assert value(samples, "deepthin_queue_depth") == value(samples, "deepthin_queue_admitted") == 0
    # The scrape itself is one request.
    assert value(samples, "deepthin_requests_in_progress") == 1


async def test_models_are_published(serve: Serve, home: Path) -> None:
    package = note_size(home / "models" / "tiny-thin")
    async with serve() as client:
        samples = await scrape(client)
    thin = {"model": "tiny-thin", "method": "deepthin"}
    assert value(samples, "deepthin_model_weight_bytes", **thin, where="disk") == 400
    assert value(samples, "deepthin_model_weight_bytes", **thin, where="resident") == 400
    transport = value(samples, "deepthin_model_weight_bytes", **thin, where="transport")
    assert transport == package.manifest.weights.transport_bytes
    known = {dict(labels)["model"] for _, labels in samples if ("where", "transport") in labels}
    assert known == {"tiny-thin"}  # the manifests of the others do not say
    assert value(samples, "deepthin_model_compression_ratio", **thin) == 50
    assert value(samples, "deepthin_model_wer_ratio", **thin, corpus="an4-test") == 0.27
    assert value(samples, "deepthin_model_wer_delta_ratio", **thin, corpus="an4-test") == pytest.approx(0.02)
    assert value(samples, "deepthin_model_load_seconds", **thin) > 0
    assert value(samples, "deepthin_model_ready", **thin) == 1
    info = {"family": "tfkaldi", "parent": "tiny-dense", "relative_size": "0.02"}
    assert value(samples, "deepthin_model_info", **thin, **info) == 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc on this system")
async def test_resident_bytes_are_those_of_the_process(client: httpx.AsyncClient) -> None:
    resident = value(await scrape(client), "deepthin_process_resident_memory_bytes")
    measured = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert resident == pytest.approx(measured, rel=0.5)


async def test_clients_cannot_make_series(client: httpx.AsyncClient) -> None:
    async def provoke(number: int) -> None:
        await client.get(f"/nowhere/{number}")
        await client.get(f"/models/unknown-{number}")
        await client.post("/transcribe", params={"model": f"unknown-{number}"}, content=SPEECH)
        await client.post("/transcribe", params={f"p{number}": "x"}, content=SPEECH)
        await client.get(f"/jobs/{number:016x}/events")
        await client.post("/compress", params={f"p{number}": "x"})
        await client.post(f"/models/unknown-{number}/promote")
        await client.request(f"VERB{number}", "/livez")

    await provoke(0)
    await scrape(client)  # makes the series of /metrics itself
    before = set(await scrape(client))
    for number in range(1, 20):
        await provoke(number)
    after = await scrape(client)
    assert set(after) - before == set()
    assert value(after, "deepthin_requests_total", route="unmatched", verb="GET", status="404") == 20
    assert value(after, "deepthin_requests_total", route="/models/{name}", verb="GET", status="404") == 20
    assert value(after, "deepthin_requests_total", route="/livez", verb="other", status="405") == 20


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc on this system")
async def test_the_way_to_readiness_is_timed_once(serve: Serve) -> None:
    before = time.time()
    async with serve() as client:
        samples = await scrape(client)
        assert 0 < value(samples, "deepthin_start_seconds", kind="processor") <= time.process_time()
        elapsed = value(samples, "deepthin_start_seconds", kind="elapsed")
        # This process began before the test, and the model got ready within it.
        ready = value(samples, "deepthin_process_start_time_seconds") + elapsed
        assert before - 1 < ready < time.time() + 1
        assert (await client.post("/models/tiny-thin/promote")).status_code == 200
        assert value(await scrape(client), "deepthin_start_seconds", kind="elapsed") == elapsed


async def test_series_of_failures_exist_from_the_start(serve: Serve) -> None:
    async with serve() as client:
        samples = await scrape(client)
    for reason in ("queue_full", "backlog", "shutting_down", "client_gone", "jobs_full", "streams_full"):
        assert value(samples, "deepthin_requests_shed_total", reason=reason) == 0
    for state in JobState:
        assert value(samples, "deepthin_jobs", state=state.value) == 0
    for cause in ("killed", "crashed", "service"):
        assert value(samples, "deepthin_job_worker_restarts_total", cause=cause) == 0
    assert value(samples, "deepthin_jobs_queue_capacity") == 16


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="there is no promtool here (Debian: apt-get install prometheus)"
)
async def test_promtool_has_nothing_to_complain_of(client: httpx.AsyncClient) -> None:
    await client.post("/transcribe", content=SPEECH)
    text = (await client.get("/metrics")).text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
