"""Networks made elsewhere answer every route as the bundled ones do."""

from __future__ import annotations

import asyncio
import io
import zipfile
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from models.catalogue import add
from models.package import ModelPackage
from models.recognisers import load
from models.store import ModelStore
from service.hub import Hub
from service.keeper import Installed, ModelKeeper, Product
from service.memory_budget import MemoryBudget
from service.metrics import Metrics
from service.origin import Origin, Placement
from tests.models import ctc, moonshine
from tests.models.ctc import HOP, TOKENS, saying
from tests.models.moonshine import START
from tests.service.conftest import Serve, assert_error
from tests.support import RATE, encode

pytestmark = pytest.mark.anyio

BLANK = TOKENS[-1]
SPEECH = encode(saying(BLANK, "▁HE", BLANK, "LLO", "▁", "WORLD", BLANK).samples, codec="pcm_f32le")
FAMILIES = {"tiny-moon": ("moonshine", "hello world"), "tiny-ctc": ("ctc", "hello world")}


@pytest.fixture
def families(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a model of each family besides the tiny ones."""
    monkeypatch.setenv("DEEPTHIN_HOME", str(home))
    moonshine.save(home / "models", "tiny-moon", {START: 3, 3: 4, 4: 5})
    add(ctc.save(tmp_path / "source", "tiny-ctc"))
    return home


async def transcribe(client: httpx.AsyncClient, model: str, **params: str) -> httpx.Response:
    return await client.post("/transcribe", params={"model": model, **params}, content=SPEECH)


async def test_they_transcribe_and_are_listed(serve: Serve, families: Path) -> None:
    async with serve(models=()) as client:
        listed = {model["name"]: model for model in (await client.get("/models")).json()["models"]}
        for name, (family, text) in FAMILIES.items():
            assert (listed[name]["state"], listed[name]["family"]) == ("ready", family)
            assert listed[name]["resident_bytes"] > 0
            response = await transcribe(client, name)
            answer = response.json()
            assert (response.status_code, answer["text"], answer["model"]) == (200, text, name)
            assert set(answer) == set((await transcribe(client, "tiny-dense")).json())
            assert answer["decoder"] == "greedy"
            assert_error(
                await transcribe(client, name, decoder="graph"), 400, code="invalid_parameter", param="decoder"
            )
        metrics = (await client.get("/metrics")).text
        assert 'deepthin_model_info{family="moonshine",method="int8",model="tiny-moon"' in metrics
        assert 'deepthin_audio_seconds_total{method="dense",model="tiny-ctc"}' in metrics
        words = (await transcribe(client, "tiny-ctc")).json()["words"]
        step = 20 * HOP / RATE
        assert [word["text"] for word in words] == ["hello", "world"]
        assert words[0]["start"] == pytest.approx(step, abs=0.01)
        assert (await transcribe(client, "tiny-moon")).json()["words"] == []


async def test_they_are_compared(serve: Serve, families: Path) -> None:
    async with serve(models=()) as client:
        names = ["tiny-ctc", "tiny-moon", "tiny-dense"]
        response = await client.post("/compare", params={"models": ",".join(names)}, content=SPEECH)
        assert response.status_code == 200, response.text
        assert [answer["model"] for answer in response.json()["answers"]] == names


async def test_one_call_makes_one_the_default(serve: Serve, families: Path) -> None:
    async with serve(models=()) as client:
        assert (await client.post("/models/tiny-moon/promote")).json()["default"] is True
        assert (await client.post("/transcribe", content=SPEECH)).json()["model"] == "tiny-moon"
    async with serve(models=()) as client:
        assert (await client.post("/transcribe", content=SPEECH)).json()["model"] == "tiny-moon"


async def test_they_answer_many_at_once(serve: Serve, families: Path) -> None:
    async with serve(models=("tiny-dense", *FAMILIES)) as client:
        names = ("tiny-ctc", "tiny-moon", "tiny-dense")
        expected = {name: (await transcribe(client, name)).json()["text"] for name in names}
        answers = await asyncio.gather(*(transcribe(client, names[index % 3]) for index in range(18)))
        assert [answer.json()["text"] for answer in answers] == [expected[names[index % 3]] for index in range(18)]


async def test_they_are_downloaded_whole(serve: Serve, families: Path, tmp_path: Path) -> None:
    async with serve(models=("tiny-dense", *FAMILIES)) as client:
        for name in FAMILIES:
            response = await client.get(f"/models/{name}/download")
            with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
                archive.extractall(tmp_path / "elsewhere")
            package = ModelPackage.load(tmp_path / "elsewhere" / name)
            for file in package.manifest.files:
                assert (package.path / file).read_bytes() == (families / "models" / name / file).read_bytes()
            stream = await client.get(f"/models/{name}/download", params={"format": "transport"})
            assert (stream.status_code, stream.content[:3]) == (200, b"dtz")


async def test_what_a_job_makes_of_them_is_hosted_with_all_its_files(
    serve: Serve, families: Path, tmp_path: Path
) -> None:
    package = moonshine.save(tmp_path, "smaller", {START: 3, 3: 4, 4: 5})
    store = ModelStore([families / "models"])
    for name in ("model.dtz", "report.json"):
        (tmp_path / name).write_bytes(b"{}")
    metrics = Metrics(CollectorRegistry(), instruction_set="scalar")
    hub = Hub(store, metrics, wanted=("tiny-moon",), max_models=4, load=load, memory=MemoryBudget(0))
    async with hub.running():
        keeper = ModelKeeper(families / "models", store, hub)
        product = Product(package.path, tmp_path / "model.dtz", tmp_path / "report.json")
        installed = await keeper.install(product, Origin("job", Placement.HOSTED), replace=False)
        assert installed == Installed("smaller", hosted=True)
        async with hub.lease("smaller") as lease:
            assert lease.recogniser.manifest.files == package.manifest.files
    for name in package.manifest.files:
        assert (families / "models" / "smaller" / name).read_bytes() == (package.path / name).read_bytes()
