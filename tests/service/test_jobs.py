"""The life of a job, from `POST /compress` to a hosted model."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from models.compression.pipeline import STAGES
from service.jobs.stream import server_sent_events
from tests.service.conftest import Compress, app_of, assert_error
from tests.service.jobs import events, finished, form, script, submit, trace, until, zipped
from tests.support import babble, encode

pytestmark = pytest.mark.anyio

SPEECH = encode(babble(0.5))


async def test_a_checkpoint_becomes_a_hosted_model(compress: Compress, home: Path) -> None:
    nice = os.nice(0)
    async with compress(job_nice=3) as client:
        response = await client.post("/compress", **form())
        job = response.json()
        assert response.status_code == 202
        assert response.headers["location"] == f"/jobs/{job['id']}"
        assert (job["state"], job["model"], job["method"], job["percentage"]) == ("queued", "made", "dense", 0)
        assert_error(await client.get(f"/jobs/{job['id']}/report"), 404, code="report_not_found", param="id")

        job = await finished(client, job["id"])
        assert (job["state"], job["reason"], job["hosted"], job["percentage"]) == ("succeeded", None, True, 100)
        assert job["created"] <= job["started"] <= job["finished"]
        assert job["spec"]["host"] is True
        report = (await client.get(f"/jobs/{job['id']}/report")).json()
        assert report == {"model": "made", "layers": []}

        model = (await client.get("/models/made")).json()
        assert (model["state"], model["method"], model["parent"]) == ("ready", "dense", "tiny-dense")
        answer = (await client.post("/transcribe", params={"model": "made"}, content=SPEECH)).json()
        assert answer["model"] == "made"
        assert answer["text"]
        text = (await client.get("/metrics")).text
        assert 'deepthin_model_ready{method="dense",model="made"} 1.0' in text
        assert 'deepthin_job_duration_seconds_count{method="dense",outcome="succeeded"} 1.0' in text
        assert 'deepthin_job_stage_duration_seconds_count{stage="compress"} 1.0' in text
    stages = trace(home, "made")
    assert [line[0] for line in stages] == list(STAGES)
    assert {(line[1] == line[2], int(line[3]), line[4]) for line in stages} == {(True, nice + 3, "1")}
    assert {file.name for file in (home / "jobs" / job["id"]).iterdir()} == {"result", "worker.log"}


async def test_the_model_is_hosted_after_a_restart(compress: Compress, home: Path) -> None:
    async with compress() as client:
        job = await finished(client, await submit(client))
    # As if the service had died before it could tidy up.
    upload = home / "jobs" / job["id"] / "checkpoint.onnx"
    upload.write_bytes(b"x")
    async with compress() as client:
        assert not upload.exists()
        assert (await client.get("/models/made")).json()["state"] == "ready"
        assert (await client.get(f"/jobs/{job['id']}")).json() == job
        assert [entry["id"] for entry in (await client.get("/jobs")).json()["jobs"]] == [job["id"]]


async def test_two_jobs_queue_and_are_listed_newest_first(compress: Compress, home: Path) -> None:
    script(home, first={"seconds": 0.05}, second={})
    async with compress() as client:
        first = await submit(client, {"name": "first"})
        second = await submit(client, {"name": "second"})
        await until(client, first, "running")
        assert (await client.get(f"/jobs/{second}")).json()["state"] == "queued"
        listing = (await client.get("/jobs")).json()["jobs"]
        assert [job["id"] for job in listing] == [second, first]
        assert [job["id"] for job in (await client.get("/jobs", params={"state": "queued"})).json()["jobs"]] == [second]
        assert [job["id"] for job in (await client.get("/jobs", params={"limit": 1})).json()["jobs"]] == [second]
        one, two = await finished(client, first), await finished(client, second)
        assert one["state"] == two["state"] == "succeeded"
        assert one["finished"] <= two["started"]


async def test_events_tell_stage_layer_and_percentage_to_the_end(compress: Compress, home: Path) -> None:
    script(home, made={"seconds": 0.1})
    async with compress() as client:
        job_id = await submit(client)
        response = await client.get(f"/jobs/{job_id}/events")
        assert response.headers["content-type"].startswith("text/event-stream")
        heard = events(response.text)
        states = [event["data"]["state"] for event in heard if event["event"] == "state"]
        assert states == ["queued", "running", "succeeded"]
        assert heard[-1]["data"]["state"] == "succeeded"
        progress = [event["data"] for event in heard if event["event"] == "progress"]
        assert list(dict.fromkeys(event["stage"] for event in progress)) == list(STAGES)
        # Which layers are heard of depends on the machine: close events are thinned out.
        assert any((event["layer"] or "").startswith("layer-") for event in progress)
        shares = [event["percentage"] for event in progress]
        assert shares == sorted(shares)
        assert 90 <= shares[-1] <= 100
        ids = [event["id"] for event in heard]
        assert ids == sorted(set(ids))

        middle = heard[len(heard) // 2]
        rest = await client.get(f"/jobs/{job_id}/events", headers={"last-event-id": str(middle["id"])})
        assert events(rest.text) == heard[len(heard) // 2 + 1 :]
        done = await client.get(f"/jobs/{job_id}/events", headers={"last-event-id": str(ids[-1])})
        assert (done.status_code, done.content) == (204, b"")
        for harmful in ("x", "-1", "9" * 19, "9" * 400):
            response = await client.get(f"/jobs/{job_id}/events", headers={"last-event-id": harmful})
            assert_error(response, 400, code="invalid_parameter", param="Last-Event-ID")


async def test_silence_is_filled_with_heartbeats_and_ends_with_the_service(compress: Compress, home: Path) -> None:
    script(home, made={"seconds": 60})
    async with compress() as client:
        job_id = await submit(client)
        await until(client, job_id, "running", stage="validate")
        jobs = app_of(client).state.jobs
        stream = server_sent_events(jobs.store, job_id, after=2**40, stopping=jobs.stopping, heartbeat=0.0)
        async with asyncio.timeout(60):
            assert await anext(stream) == b"retry: 2000\n\n"
            assert await anext(stream) == b": heartbeat\n\n"
            jobs.stopping.set()
            assert [piece async for piece in stream] == []


async def test_only_so_many_clients_follow_jobs_at_once(compress: Compress, home: Path) -> None:
    script(home, made={"seconds": 60})
    async with compress(max_event_streams=1) as client:
        job_id = await submit(client)
        await until(client, job_id, "running")
        first = asyncio.create_task(client.get(f"/jobs/{job_id}/events"))
        async with asyncio.timeout(60):
            while not app_of(client).state.jobs.following:
                await asyncio.sleep(0.01)
        refused = await client.get(f"/jobs/{job_id}/events")
        assert_error(refused, 503, code="overloaded")
        assert int(refused.headers["retry-after"]) > 0
        assert 'deepthin_requests_shed_total{reason="streams_full"} 1.0' in (await client.get("/metrics")).text
        await client.delete(f"/jobs/{job_id}")
        assert events((await first).text)[-1]["data"]["state"] == "cancelled"
        # Its place is free again.
        assert (await client.get(f"/jobs/{job_id}/events")).status_code == 200


@pytest.mark.parametrize("seconds", [30])
async def test_cancelling_takes_less_than_two_seconds(compress: Compress, home: Path, seconds: int) -> None:
    script(home, made={"seconds": seconds}, waiting={})
    async with compress() as client:
        job_id = await submit(client)
        waiting = await submit(client, {"name": "waiting"})
        await until(client, job_id, "running", stage="validate")
        response = await client.delete(f"/jobs/{waiting}")
        assert (response.status_code, response.json()["state"]) == (200, "cancelled")
        start = time.monotonic()
        response = await client.delete(f"/jobs/{job_id}")
        taken = time.monotonic() - start
        assert (response.status_code, response.json()["state"]) == (200, "cancelled")
        assert taken < 2, "the promise of the interface, not a measurement"
        [[_, pid, *_]] = trace(home, "made")
        async with asyncio.timeout(60):
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.01)
        for name in (job_id, waiting):
            assert_error(await client.delete(f"/jobs/{name}"), 409, code="job_finished", param="id")
        assert_error(await client.get("/models/made"), 404, code="model_not_found", param="model")
        # The name is free again.
        script(home, made={})
        assert (await finished(client, await submit(client)))["state"] == "succeeded"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows what a process has open")
async def test_a_worker_that_stands_still_stops_nobody(compress: Compress, home: Path) -> None:
    script(home, made={"seconds": 30})
    async with compress() as client:
        job_id = await submit(client)
        await until(client, job_id, "running", stage="validate")
        [[_, pid, *_]] = trace(home, "made")
        # A lock on the store that it might hold would be in the way of everybody for as long as it stands still.
        opened = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        assert opened
        assert not [name for name in opened if "sqlite" in name]
        os.kill(int(pid), signal.SIGSTOP)
        other = await submit(client, {"name": "waiting"})
        for each in (other, job_id):
            response = await client.delete(f"/jobs/{each}")
            assert (response.status_code, response.json()["state"]) == (200, "cancelled")


async def test_a_failure_names_its_reason_and_harms_nothing(compress: Compress, home: Path) -> None:
    script(home, made={"fail": "plan"}, bug={"bug": "compress"}, broken={"broken": True}, good={})
    async with compress() as client:
        job = await finished(client, await submit(client))
        assert (job["state"], job["reason"], job["stage"]) == ("failed", "no weight matches in stage plan", "plan")
        job = await finished(client, await submit(client, {"name": "bug"}))
        assert job["state"] == "failed"
        assert "ZeroDivisionError" in job["reason"]
        assert "secret" not in job["reason"]
        job = await finished(client, await submit(client, {"name": "broken"}))
        assert job["state"] == "failed"
        assert "cannot be hosted" in job["reason"]
        assert (await finished(client, await submit(client, {"name": "good"})))["state"] == "succeeded"
        names = [model["name"] for model in (await client.get("/models")).json()["models"]]
        assert names == ["tiny-dense", "good"]
    hidden = [entry.name for entry in (home / "models").iterdir() if entry.name.startswith(".")]
    assert hidden == []


async def test_a_worker_that_dies_every_time_fails_its_job(compress: Compress, home: Path) -> None:
    script(home, made={"die": "compress"})
    async with compress(job_attempts=3) as client:
        job = await finished(client, await submit(client))
        assert job["state"] == "failed"
        assert "signal 9" in job["reason"]
        assert "stage compress" in job["reason"]
        assert job["restarts"] == 3
        assert 'deepthin_job_worker_restarts_total{cause="killed"} 3.0' in (await client.get("/metrics")).text
    assert [line[0] for line in trace(home, "made")] == ["validate", "plan", *["compress"] * 3]


async def test_a_job_that_takes_too_long_is_ended(compress: Compress, home: Path) -> None:
    script(home, made={"seconds": 60})
    async with compress(job_seconds=0.5) as client:
        job = await finished(client, await submit(client))
        assert (job["state"], job["reason"]) == ("failed", "it took longer than 0.5 seconds")


async def test_only_so_many_jobs_may_wait(compress: Compress, home: Path) -> None:
    script(home, made={"seconds": 30})
    async with compress(max_queued_jobs=1) as client:
        running_job = await submit(client)
        await until(client, running_job, "running")
        await submit(client, {"name": "second"})
        response = await client.post("/compress", **form({"name": "third"}))
        assert_error(response, 503, code="overloaded")
        assert int(response.headers["retry-after"]) >= 1
        assert 'deepthin_requests_shed_total{reason="jobs_full"} 1.0' in (await client.get("/metrics")).text
        await client.delete(f"/jobs/{running_job}")


async def test_ended_jobs_are_forgotten_at_last(compress: Compress, home: Path) -> None:
    async with compress(jobs_kept=2) as client:
        ids = []
        for number in range(4):
            ids.append(await submit(client, {"name": f"model-{number}", "host": False}))
            await finished(client, ids[-1])
        async with asyncio.timeout(60):
            while len((await client.get("/jobs")).json()["jobs"]) > 2:
                await asyncio.sleep(0.02)
        assert_error(await client.get(f"/jobs/{ids[0]}"), 404, code="job_not_found", param="id")
        assert (await client.get("/models/model-0")).json()["state"] == "stored"
    folders = {entry.name for entry in (home / "jobs").iterdir() if entry.is_dir()}
    assert folders == set(ids[2:])


async def test_corpora_are_found_by_name_or_come_along(compress: Compress, home: Path) -> None:
    (home / "corpora" / "memos").mkdir(parents=True)
    (home / "corpora" / "memos" / "manifest.tsv").write_text("utterance\tpath\ttranscript\n")
    corpus = zipped({"manifest.tsv": b"utterance\tpath\ttranscript\nu\tu.wav\tHELLO\n", "u.wav": SPEECH})
    async with compress() as client:
        spec = {"evaluation": ["memos"], "max_wer_delta": 0.01}
        job = await finished(client, await submit(client, spec, calibration=("c.zip", corpus)))
        assert job["state"] == "succeeded"
        assert job["spec"]["calibration"] == ["upload"]
        for spec, status, code, param in (
            ({"evaluation": ["gone"]}, 400, "invalid_parameter", "spec.evaluation"),
            ({"evaluation": ["../memos"]}, 400, "invalid_parameter", "spec.evaluation.0"),
            ({"calibration": ["upload"]}, 400, "missing_file", "calibration"),
        ):
            response = await client.post("/compress", **form({"name": "other", **spec}))
            assert_error(response, status, code=code, param=param)


async def test_jobs_need_a_key_too(compress: Compress) -> None:
    async with compress(api_keys="k") as client:
        for verb, path in (
            ("POST", "/compress"),
            ("GET", "/jobs"),
            ("GET", "/jobs/0123456789abcdef"),
            ("GET", "/jobs/0123456789abcdef/events"),
            ("GET", "/jobs/0123456789abcdef/report"),
            ("DELETE", "/jobs/0123456789abcdef"),
            ("DELETE", "/models/tiny-dense"),
            ("GET", "/models/tiny-dense/download"),
            ("POST", "/models/tiny-dense/promote"),
            ("POST", "/models/default/rollback"),
        ):
            assert_error(await client.request(verb, path), 401, code="invalid_api_key")
        headers = {"authorization": "Bearer k"}
        response = await client.post("/compress", headers=headers, **form())
        assert response.status_code == 202


async def test_unknown_jobs_and_wrong_parameters(compress: Compress) -> None:
    async with compress() as client:
        for name in ("0123456789abcdef", "x", "%2e%2e", "%00", "jobs.sqlite3"):
            for verb, path in (("GET", ""), ("GET", "/events"), ("GET", "/report"), ("DELETE", "")):
                response = await client.request(verb, f"/jobs/{name}{path}")
                assert response.status_code in (404, 405), (name, path)
        for params, code, param in (
            ({"state": "lost"}, "invalid_parameter", "state"),
            ({"limit": "0"}, "invalid_parameter", "limit"),
            ({"limit": "9" * 30}, "invalid_parameter", "limit"),
            ({"limit": "x"}, "invalid_parameter", "limit"),
            ({"page": "2"}, "unknown_parameter", "page"),
        ):
            assert_error(await client.get("/jobs", params=params), 400, code=code, param=param)


async def test_a_home_that_cannot_be_written_still_transcribes(compress: Compress, home: Path) -> None:
    (home / "jobs").write_text("in the way")
    async with compress() as client:
        assert (await client.post("/transcribe", content=SPEECH)).status_code == 200
        for response in (await client.post("/compress", **form()), await client.get("/jobs")):
            assert_error(response, 503, code="jobs_unavailable")


async def test_openapi_describes_jobs(compress: Compress) -> None:
    async with compress() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    upload = paths["/compress"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert upload["required"] == ["checkpoint", "spec"]
    assert upload["properties"]["spec"]["properties"]["size"]["description"]
    assert "$ref" not in str(upload)
    assert "Location" in paths["/compress"]["post"]["responses"]["202"]["headers"]
    assert {"get", "delete"} <= set(paths["/jobs/{id}"])
    assert {"/jobs/{id}/events", "/jobs/{id}/report", "/models/{name}/download", "/models/{name}/promote"} <= set(paths)
