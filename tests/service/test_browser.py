"""Headers for browsers, requests of other sites, and the files of the page."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import Compress, Serve, assert_error
from tests.support import babble, encode

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "service" / "page"
SPEECH = encode(babble(0.3))


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/models", "/nowhere", "/metrics"])
async def test_every_answer_tells_browsers_what_they_may_do(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "microphone=(self)" in headers["permissions-policy"]


async def test_the_reference_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    response = await client.get("/docs")
    assert response.content == (PAGE / "reference.html").read_bytes()
    assert "script-src 'self';" in response.headers["content-security-policy"]
    assert (await client.get("/redoc")).status_code == 404


PRIVATE = (
    "127.0.0.1:8000 [::1]:8000 [::1] 192.168.7.2 localhost edge-box:8000 Edge-Box edge-box.local. a.b.localhost:1 "
    "box.home.arpa service.default.svc.cluster.local box.lan box.internal"
)


@pytest.mark.parametrize("host", ["", *PRIVATE.split()])
async def test_private_names_are_answered_to(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/models", headers={"host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example:8000", "127.0.0.1.evil.example", "local.example", "127.1", "a.lan.b"])
async def test_other_names_are_not(client: httpx.AsyncClient, host: str) -> None:
    for path in ("/", "/models", "/metrics"):
        assert_error(await client.get(path, headers={"host": host}), 421, code="unknown_host")


async def test_names_can_be_allowed(serve: Serve) -> None:
    async with serve(allowed_hosts="speech.Example.com,*.example.org") as client:
        for host, status in (("speech.example.com", 200), ("a.example.org:80", 200), ("example.org", 421)):
            assert (await client.get("/models", headers={"host": host})).status_code == status
    async with serve(allowed_hosts="*") as client:
        assert (await client.get("/models", headers={"host": "any.example"})).status_code == 200


async def test_with_a_key_any_name_will_do_unless_some_are_named(serve: Serve) -> None:
    headers = {"host": "any.example", "authorization": "Bearer key"}
    async with serve(api_keys="key") as client:
        assert (await client.get("/models", headers=headers)).status_code == 200
    async with serve(api_keys="key", allowed_hosts="speech.example") as client:
        assert (await client.get("/models", headers=headers)).status_code == 421


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin", "origin": "http://test"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://evil.example"}, True),
        ({"sec-fetch-site": "same-site", "origin": "http://other.test"}, True),
        ({"sec-fetch-site": "nonsense"}, True),
        ({"origin": "http://test"}, False),
        ({"origin": "https://test"}, False),
        ({"origin": "http://evil.example"}, True),
        ({"origin": "http://test:81"}, True),
        ({"origin": "null"}, True),
        ({"origin": "http://[broken"}, True),
    ],
)
async def test_other_sites_change_nothing(client: httpx.AsyncClient, headers: dict[str, str], refused: bool) -> None:
    for method, path in (("POST", "/transcribe"), ("POST", "/models/tiny-dense/promote"), ("DELETE", "/jobs/x")):
        response = await client.request(method, path, content=SPEECH, headers=headers)
        if refused:
            assert_error(response, 403, code="cross_site")
        else:
            assert response.status_code != 403, response.text
    assert (await client.get("/models", headers=headers)).status_code == 200


async def test_the_page_and_all_its_parts_are_served(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.content == (PAGE / "index.html").read_bytes()
    assert (await client.head("/")).headers["etag"] == response.headers["etag"]
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    for file in PAGE.iterdir():
        response = await client.get(f"/page/{file.name}")
        assert response.headers["content-type"].startswith(types[file.suffix])
        assert response.content == file.read_bytes()
    assert (await client.get("/page/sample.ogg")).content.startswith(b"OggS")


async def test_a_browser_that_has_a_part_is_told_so(client: httpx.AsyncClient) -> None:
    first = await client.get("/page/main.js")
    again = await client.get("/page/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "no-cache" in first.headers["cache-control"]


@pytest.mark.parametrize("name", ["..%2Fapp.py", "%2e%2e", "app.py", "page.py", "%00", "INDEX.HTML", "x" * 3000])
async def test_nothing_else_is_served(client: httpx.AsyncClient, name: str) -> None:
    assert_error(await client.get(f"/page/{name}"), 404, code="not_found")


async def test_a_key_guards_the_answers_and_not_the_page(serve: Serve) -> None:
    async with serve(api_keys="key") as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/page/main.js")).status_code == 200
        assert_error(await client.get("/compress"), 401, code="invalid_api_key")


async def test_metrics_count_the_page_by_template(client: httpx.AsyncClient) -> None:
    await client.get("/page/main.js")
    await client.get("/page/style.css")
    text = (await client.get("/metrics")).text
    assert 'deepthin_requests_total{route="/page/{name}",status="200",verb="GET"} 2.0' in text


def test_nothing_in_the_page_points_elsewhere() -> None:
    for file in PAGE.iterdir():
        text = file.read_text(encoding="utf-8")
        links = [link for link in re.findall(r"https?://[^\s\"'`)]+", text) if link != "http://www.w3.org/2000/svg"]
        assert links == [], file.name
        if file.suffix == ".html":
            assert not re.findall(r"\son[a-z]+=|style=|<style|<script(?![^>]*src=)|javascript:", text)


async def test_what_a_compression_may_be_asked_for(
    compress: Compress, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEEPTHIN_DATA", raising=False)
    corpus = home / "corpora" / "mine"
    corpus.mkdir(parents=True)
    (corpus / "manifest.tsv").write_text("utterance\tpath\ttranscript\n")
    async with compress() as client:
        answer = (await client.get("/compress")).json()
        assert answer["corpora"] == ["mine"]
        methods = {method["name"]: method for method in answer["methods"]}
        assert {"dense", "deepthin", "int8", "low-rank"} <= set(methods)
        assert all(0 < method["smallest"] <= method["largest"] < 3 for method in methods.values())
        assert all(method["summary"] for method in methods.values())
        assert answer["max_checkpoint_bytes"] > 0
        assert_error(await client.get("/compress?x=1"), 400, code="unknown_parameter", param="x")
