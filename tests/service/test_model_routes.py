"""What can be done to models: promote, roll back, delete, download; and those that are kept but not hosted."""

from __future__ import annotations

import asyncio
import io
import zipfile
from pathlib import Path

import pytest

from models.compression.transport import note_size, unpack
from models.package import ModelPackage
from service.jobs.record import new_id
from service.keeper import ModelKeeper, safe_stem
from service.origin import Origin, Placement
from tests.service.conftest import Compress, Serve, app_of, assert_error
from tests.service.jobs import finished, form, script, submit
from tests.support import babble, encode, recording, tiny_manifest

pytestmark = pytest.mark.anyio

SPEECH = encode(babble(0.5))
PROMOTE = "/models/{}/promote"
ROLL_BACK = "/models/default/rollback"


async def test_promoting_and_rolling_back_survive_a_restart(serve: Serve, home: Path) -> None:
    async with serve() as client:
        assert_error(await client.post(ROLL_BACK), 409, code="no_previous_default")
        for name in ("tiny-thin", "tiny-recurrent", "tiny-recurrent"):
            response = await client.post(PROMOTE.format(name))
            assert (response.status_code, response.json()["name"]) == (200, name)
            assert response.json()["default"] is True
        assert (await client.post("/transcribe", content=SPEECH)).json()["model"] == "tiny-recurrent"
        listing = (await client.get("/models")).json()
        assert (listing["default"], listing["models"][0]["name"]) == ("tiny-recurrent", "tiny-recurrent")
    async with serve() as client:
        assert (await client.get("/models")).json()["default"] == "tiny-recurrent"
        for name in ("tiny-thin", "tiny-dense"):
            assert (await client.post(ROLL_BACK)).json()["name"] == name
            assert (await client.post("/transcribe", content=SPEECH)).json()["model"] == name
        assert_error(await client.post(ROLL_BACK), 409, code="no_previous_default")
    assert (home / "models" / "default").read_text() == "tiny-dense\n"


async def test_rolling_back_passes_over_what_is_gone(serve: Serve) -> None:
    async with serve() as client:
        for name in ("tiny-thin", "tiny-recurrent"):
            await client.post(PROMOTE.format(name))
        assert (await client.delete("/models/tiny-thin")).status_code == 204
        assert (await client.post(ROLL_BACK)).json()["name"] == "tiny-dense"


async def test_what_cannot_be_promoted(serve: Serve, home: Path, graphs: dict[bool, bytes]) -> None:
    ModelPackage.save(home / "models", tiny_manifest("broken"), b"garbage")
    ModelPackage.save(home / "models", tiny_manifest("bare", family="network"), graphs[False])
    async with serve(models=("tiny-dense", "broken", "bare")) as client:
        assert_error(await client.post(PROMOTE.format("gone")), 404, code="model_not_found", param="model")
        assert_error(await client.post(PROMOTE.format("broken")), 503, code="model_not_ready", param="model")
        assert_error(await client.post(PROMOTE.format("bare")), 400, code="model_not_transcribable", param="name")
        response = await client.post(PROMOTE.format("tiny-dense"), params={"force": "true"})
        assert_error(response, 400, code="unknown_parameter", param="force")
        response = await client.post(PROMOTE.format("tiny-dense"), params={"accept_quarantined": "1"})
        assert_error(response, 400, code="invalid_parameter", param="accept_quarantined")
        assert (await client.get("/models")).json()["default"] == "tiny-dense"


async def test_a_bare_network_is_listed_and_downloaded_but_not_transcribed_with(
    serve: Serve, home: Path, graphs: dict[bool, bytes]
) -> None:
    ModelPackage.save(home / "models", tiny_manifest("bare", family="network"), graphs[False])
    async with serve(models=("tiny-dense", "bare")) as client:
        model = (await client.get("/models/bare")).json()
        assert (model["state"], model["family"]) == ("stored", "network")
        assert model["disk_bytes"] == 400
        response = await client.post("/transcribe", params={"model": "bare"}, content=SPEECH)
        assert "decoder" in assert_error(response, 400, code="model_not_transcribable", param="model")
        assert (await client.get("/models/bare/download")).status_code == 200
        assert 'model="bare"' not in (await client.get("/metrics")).text


async def test_a_quarantined_model_is_kept_and_hosted_only_when_told(compress: Compress, home: Path) -> None:
    script(home, made={"accepted": False})
    async with compress() as client:
        job = await finished(client, await submit(client))
        assert (job["state"], job["hosted"]) == ("quarantined", False)
        assert "word error rate rose" in job["reason"]
    async with compress() as client:
        model = (await client.get("/models/made")).json()
        assert model["state"] == "quarantined"
        assert "word error rate rose" in model["reason"]
        response = await client.post("/transcribe", params={"model": "made"}, content=SPEECH)
        assert_error(response, 400, code="model_not_transcribable", param="model")
        assert (await client.get("/models/made/download")).status_code == 200
        response = await client.post(PROMOTE.format("made"))
        assert_error(response, 409, code="model_quarantined", param="accept_quarantined")
        assert (await client.get("/models")).json()["default"] == "tiny-dense"
        response = await client.post(PROMOTE.format("made"), params={"accept_quarantined": "true"})
        assert (response.status_code, response.json()["state"], response.json()["default"]) == (200, "ready", True)
        assert (await client.post("/transcribe", content=SPEECH)).json()["model"] == "made"
    async with compress() as client:
        assert (await client.get("/models/made")).json()["state"] == "ready"
        assert (await client.post("/transcribe", content=SPEECH)).json()["model"] == "made"


async def test_a_model_that_is_not_to_be_hosted_can_be_promoted_later(compress: Compress) -> None:
    async with compress() as client:
        job = await finished(client, await submit(client, {"host": False}))
        assert (job["state"], job["hosted"]) == ("succeeded", False)
        assert (await client.get("/models/made")).json()["state"] == "stored"
        assert (await client.post(PROMOTE.format("made"))).json()["state"] == "ready"


async def test_a_marker_that_was_tampered_with_hosts_nothing(serve: Serve, home: Path) -> None:
    Origin(new_id(), Placement.QUARANTINED, ("worse",)).write(home / "models" / "tiny-thin")
    (home / "models" / "tiny-recurrent" / "job.json").write_text('{"placement": "anything"}')
    async with serve() as client:
        states = {model["name"]: model["state"] for model in (await client.get("/models")).json()["models"]}
    assert states == {"tiny-dense": "ready", "tiny-thin": "quarantined", "tiny-recurrent": "stored"}


async def test_deleting_waits_for_requests_and_is_for_good(serve: Serve, home: Path) -> None:
    async with serve() as client:
        app = app_of(client)
        async with app.state.hub.lease("tiny-thin") as lease:
            deleting = asyncio.create_task(client.delete("/models/tiny-thin"))
            async with asyncio.timeout(60):
                while (home / "models" / "tiny-thin").exists():
                    await asyncio.sleep(0.01)
            assert not deleting.done()
            response = await client.post("/transcribe", params={"model": "tiny-thin"}, content=SPEECH)
            assert_error(response, 503, code="model_not_ready", param="model")
            assert_error(await client.delete("/models/tiny-thin"), 409, code="model_in_use", param="name")
            [transcript] = lease.recogniser.transcribe([recording(0.5)])
            assert transcript.text
        assert (await deleting).status_code == 204
        assert_error(await client.get("/models/tiny-thin"), 404, code="model_not_found", param="model")
        assert 'model="tiny-thin"' not in (await client.get("/metrics")).text
    hidden = [entry.name for entry in (home / "models").iterdir() if entry.name.startswith(".")]
    assert hidden == []
    async with serve(models=()) as client:
        assert_error(await client.get("/models/tiny-thin"), 404, code="model_not_found", param="model")


async def test_default_and_bundled_models_are_not_deleted(serve: Serve) -> None:
    async with serve(models=("tiny-dense", "tfkaldi-deepthin-20")) as client:
        for name in ("tiny-dense", "default"):
            assert_error(await client.delete(f"/models/{name}"), 409, code="model_in_use", param="name")
        response = await client.delete("/models/tfkaldi-deepthin-20")
        assert_error(response, 403, code="model_protected", param="name")
        assert_error(await client.delete("/models/gone"), 404, code="model_not_found", param="model")
        response = await client.post("/compress", **form({"name": "tfkaldi-deepthin-20"}))
        assert_error(response, 409, code="model_exists", param="spec.name")
        response = await client.post("/compress", params={"replace": "true"}, **form({"name": "tfkaldi-deepthin-20"}))
        assert_error(response, 403, code="model_protected", param="spec.name")


async def test_downloads_are_the_package_and_the_stream(compress: Compress, home: Path) -> None:
    async with compress() as client:
        await finished(client, await submit(client))
        response = await client.get("/models/made/download")
        assert response.headers["content-type"] == "application/zip"
        assert response.headers["content-disposition"] == 'attachment; filename="made.zip"'
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == ["made/manifest.json", "made/model.onnx", "made/report.json"]
            archive.extractall(home / "elsewhere")
        for file in ("manifest.json", "model.onnx"):
            assert (home / "elsewhere" / "made" / file).read_bytes() == (home / "models" / "made" / file).read_bytes()
        assert ModelPackage.load(home / "elsewhere" / "made").manifest.name == "made"
        assert (await client.get("/models/made/download", params={"format": "package"})).content == response.content

        stream = await client.get("/models/made/download", params={"format": "transport"})
        assert stream.content == b"stream of made"
        assert 'filename="made.dtz"' in stream.headers["content-disposition"]
        # What was downloaded can be posted again.
        files = {"checkpoint": ("made.zip", response.content)}
        again = await client.post("/compress", files=files, data={"spec": '{"method": "dense"}'})
        assert again.json()["model"] == "made-dense"
        assert (await finished(client, again.json()["id"]))["state"] == "succeeded"
        for params, code, param in (
            ({"format": "pickle"}, "invalid_parameter", "format"),
            ({"x": "y"}, "unknown_parameter", "x"),
        ):
            assert_error(await client.get("/models/made/download", params=params), 400, code=code, param=param)
        assert_error(await client.get("/models/gone/download"), 404, code="model_not_found", param="model")


async def test_the_stream_of_a_model_that_came_without_one_is_made(serve: Serve, home: Path) -> None:
    package = note_size(home / "models" / "tiny-thin")
    ModelPackage.save(home / "models", tiny_manifest("broken"), b"garbage")
    async with serve(models=("tiny-thin", "broken")) as client:
        responses = await asyncio.gather(
            *(client.get("/models/tiny-thin/download", params={"format": "transport"}) for _ in range(3))
        )
        for response in responses:
            assert response.headers["content-type"] == "application/octet-stream"
            assert response.headers["content-disposition"] == 'attachment; filename="tiny-thin.dtz"'
            assert (await client.get("/models/tiny-thin")).json()["transport_bytes"] == len(response.content)
        assert_error(
            await client.get("/models/broken/download", params={"format": "transport"}),
            404,
            code="transport_not_found",
            param="model",
        )
    restored = unpack(responses[0].content, home / "elsewhere")
    assert restored.manifest == package.manifest
    assert restored.graph_file.read_bytes() == package.graph_file.read_bytes()


async def test_names_are_never_taken_twice(compress: Compress, home: Path) -> None:
    script(home, made={"seconds": 30})
    async with compress() as client:
        response = await client.post("/compress", **form({"name": "tiny-thin"}))
        assert_error(response, 409, code="model_exists", param="spec.name")
        job_id = await submit(client)
        assert_error(await client.post("/compress", **form()), 409, code="model_exists", param="spec.name")
        await client.delete(f"/jobs/{job_id}")
        names = []
        for _ in range(3):
            response = await client.post("/compress", **form({"name": None, "host": False}))
            names.append(response.json()["model"])
        assert names == ["net-dense", "net-dense-2", "net-dense-3"]
        for name in ("default", "graphs", "Upper", "../up", ""):
            response = await client.post("/compress", **form({"name": name}))
            assert_error(response, 400, code="invalid_parameter", param="spec.name")


async def test_replacing_a_model_leaves_requests_on_the_old_one(compress: Compress, home: Path) -> None:
    async with compress() as client:
        await finished(client, await submit(client))
        hub = app_of(client).state.hub
        async with hub.lease("made") as lease:
            again = await submit(client, {"method": "dense"}, params={"replace": "true"})
            assert (await finished(client, again))["state"] == "succeeded"
            assert hub.get("made").recogniser is not lease.recogniser
            assert hub.get("made").state == "ready"
            [transcript] = lease.recogniser.transcribe([recording(0.5)])
            assert transcript.text
        assert Origin.read(home / "models" / "made") == Origin(again, Placement.HOSTED)
        # A result that the gate does not accept never takes the place of one that it did.
        script(home, made={"accepted": False})
        job = await finished(client, await submit(client, params={"replace": "true"}))
        assert (job["state"], job["model"]) == ("quarantined", "made-2")
        states = {model["name"]: model["state"] for model in (await client.get("/models")).json()["models"]}
        assert states == {"tiny-dense": "ready", "made": "ready", "made-2": "quarantined"}


async def test_a_full_house_stores_what_it_cannot_host(compress: Compress, home: Path) -> None:
    script(home, made={"seconds": 0.05})
    async with compress(max_models=2) as client:
        first = await submit(client)
        second = await submit(client, {"name": "second"})
        assert (await finished(client, first))["hosted"] is True
        job = await finished(client, second)
        assert (job["state"], job["hosted"]) == ("succeeded", False)
        assert "DEEPTHIN_MAX_MODELS" in job["reason"]
        assert (await client.get("/models/second")).json()["state"] == "stored"
        response = await client.post("/compress", **form({"name": "third"}))
        assert_error(response, 409, code="too_many_models")


def test_what_a_killed_service_left_is_put_right(home: Path, tmp_path: Path) -> None:
    models = home / "models"
    (models / ".old-1").mkdir()
    (models / "tiny-thin").rename(models / ".old-1" / "tiny-thin")
    (models / ".old-2" / "tiny-dense").mkdir(parents=True)
    (models / ".incoming-3" / "new").mkdir(parents=True)
    (models / ".deleted-4" / "gone").mkdir(parents=True)
    ModelKeeper(models, None, None).recover()  # type: ignore[arg-type]
    assert ModelPackage.load(models / "tiny-thin").manifest.name == "tiny-thin"
    assert ModelPackage.load(models / "tiny-dense").manifest.name == "tiny-dense"
    assert {entry.name for entry in models.iterdir()} == {"tiny-thin", "tiny-dense", "tiny-recurrent", "default"}


@pytest.mark.parametrize(
    ("filename", "stem"),
    [
        ("net.onnx", "net"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Models\\My Net (2).ONNX", "my-net-2"),
        ("", "model"),
        ("\u4e2d\u6587.onnx", "model"),
        ("...", "model"),
        ("x" * 500 + ".onnx", "x" * 32),
    ],
)
def test_names_from_file_names(filename: str, stem: str) -> None:
    assert safe_stem(filename) == stem
