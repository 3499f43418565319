"""The view Compress, in Chromium: from the form to the model that answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.page.conftest import Open
from tests.service.jobs import ONNX, script

LAYER = {
    "name": "fc<1>", "method": "deepthin", "op": "MatMul", "Q": 440, "R": 2048, "geometry": {}, "disk": 72090,
    "resident": 144180, "transport": 60001, "dense": 3604480, "relative_size": 0.02, "relative_error": 0.61,
    "output_error": None, "seconds": 1.25,
}  # fmt: skip
REPORT = {
    "layers": [LAYER],
    "gate": {"accepted": True, "reasons": []},
    "bytes": {"transport": 60001, "disk": 80000, "resident": 144180, "initialisers": 72090},
    "parent": {"name": "tiny-dense", "disk": 3700000, "initialisers": 3604480, "resident": 3604480, "dense": 3604480},
    "quality": {"an4-test": {"wer": 0.27}},
    "parent_quality": {"an4-test": {"wer": 0.25}},
    "speed": {"seconds": 0.01, "parent_seconds": 0.02, "ratio": 0.5},
}


def submit(page: Any, tmp_path: Path, name: str, *, method: str = "dense") -> None:
    (tmp_path / "net.onnx").write_bytes(ONNX)
    page.wait_for_selector("#method option[value=int8]", state="attached")
    page.set_input_files("#checkpoint", tmp_path / "net.onnx")
    page.fill("#name", name)
    page.select_option("#method", method)
    page.click("#compress-form button[type=submit]")


def card(page: Any, name: str, state: str) -> Any:
    """The job's card once it is in a state."""
    found = page.locator(".job", has=page.locator("h3", has_text=re.compile(f"^{name}$"))).first
    found.locator(".badge", has_text=re.compile(f"^{state}$")).wait_for()
    return found


def test_from_a_checkpoint_to_the_default_model_and_back(open_page: Open, url: str, home: Path, tmp_path: Path) -> None:
    script(home, page_made={"seconds": 0.3, "report": REPORT})
    page = open_page("compress")
    before = httpx.get(f"{url}/models", trust_env=False).json()["default"]
    submit(page, tmp_path, "page-made")
    job = card(page, "page-made", "running")
    page.wait_for_selector(".job .doing:has-text('layer-')")
    assert "page-made" in page.text_content("#job-news")
    assert job.locator("progress").evaluate("bar => bar.value") > 0
    page.reload()
    job = card(page, "page-made", "succeeded")

    job.locator("summary").click()
    job.locator("table").first.wait_for()
    text = job.locator(".report").inner_text()
    assert "50.0 times smaller" in text
    assert "+2.0" in text
    assert "fc<1>" in text
    assert "440 \u00d7 2048" in text
    assert "61.0 %" in text

    job.get_by_role("button", name="Make default: page-made").click()
    job.get_by_role("button", name="Roll back: page-made").wait_for()
    assert httpx.get(f"{url}/models", trust_env=False).json()["default"] == "page-made"
    with page.expect_download() as download:
        job.get_by_role("button", name="Download: page-made").click()
    assert download.value.suggested_filename == "page-made.zip"
    assert Path(download.value.path()).read_bytes().startswith(b"PK")
    job.get_by_role("button", name="Roll back: page-made").click()
    job.get_by_role("button", name="Make default: page-made").wait_for()
    assert httpx.get(f"{url}/models", trust_env=False).json()["default"] == before

    job.get_by_role("button", name="Try it: page-made").click()
    page.wait_for_selector("#view-transcribe:not([hidden])")
    assert page.input_value("#model") == "page-made"


def test_what_became_of_the_result_is_said_once_it_is_known(open_page: Open, home: Path, tmp_path: Path) -> None:
    script(home, page_ended={"seconds": 1.0, "report": REPORT})
    page = open_page("compress")
    submit(page, tmp_path, "page-ended")
    card(page, "page-ended", "running")
    held: list[Any] = []
    page.route("**/jobs?limit=*", lambda request: held.append(request))
    job = card(page, "page-ended", "succeeded")
    assert "Kept" not in job.locator(".doing").inner_text()
    page.unroute("**/jobs?limit=*")
    assert held, "nothing was held back"
    job.locator(".doing:has-text('Hosted.')").wait_for()


def test_a_job_is_cancelled(open_page: Open, home: Path, tmp_path: Path) -> None:
    script(home, page_slow={"seconds": 30})
    page = open_page("compress")
    submit(page, tmp_path, "page-slow")
    card(page, "page-slow", "running").get_by_role("button", name="Cancel: page-slow").click()
    job = card(page, "page-slow", "cancelled")
    assert job.get_by_role("button").count() == 0


def test_a_job_that_fails_and_one_that_is_set_aside_say_why(
    open_page: Open, url: str, home: Path, tmp_path: Path
) -> None:
    script(home, page_fails={"fail": "compress"}, page_aside={"accepted": False})
    page = open_page("compress")
    submit(page, tmp_path, "page-fails")
    assert "No weight matches" in card(page, "page-fails", "failed").inner_text()
    submit(page, tmp_path, "page-aside")
    job = card(page, "page-aside", "quarantined")
    assert "The word error rate rose" in job.inner_text()
    job.get_by_role("button", name="Make default: page-aside").click()
    assert "word error rate rose" in page.inner_text("#confirm-text")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.wait_for_selector("#confirm", state="hidden")
    assert httpx.get(f"{url}/models/page-aside", trust_env=False).json()["state"] == "quarantined"


def test_the_connection_breaks_and_goes_on(open_page: Open, home: Path, tmp_path: Path) -> None:
    script(home, page_lossy={"seconds": 0.4})
    page = open_page("compress", allow=("Failed to load resource",))
    asked: list[str | None] = []

    def break_once(route: Any) -> None:
        asked.append(route.request.headers.get("last-event-id"))
        if len(asked) == 1:
            body = 'id: 1\nevent: progress\ndata: {"stage": "read", "percentage": 1, "message": "of old"}\n\n'
            route.fulfill(body=body, content_type="text/event-stream")
        else:
            route.continue_()

    page.route("**/events", break_once)
    submit(page, tmp_path, "page-lossy")
    card(page, "page-lossy", "succeeded")
    assert asked[:2] == [None, "1"]


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"#name": "No Spaces"}, "name", "pattern"),
        ({"#size": "0"}, "size", "greater than 0"),
        ({"#name": "tiny-dense"}, "name", "already"),
    ],
)
def test_errors_stand_below_the_field_that_caused_them(
    open_page: Open, tmp_path: Path, fields: dict[str, str], field: str, message: str
) -> None:
    page = open_page("compress", allow=("400", "409"))
    (tmp_path / "net.onnx").write_bytes(ONNX)
    page.wait_for_selector("#method option[value=int8]", state="attached")
    page.set_input_files("#checkpoint", tmp_path / "net.onnx")
    page.select_option("#method", "deepthin")
    for selector, value in fields.items():
        page.fill(selector, value)
    page.click("#compress-form button[type=submit]")
    page.wait_for_selector(f"#{field}-problem")
    assert message in page.inner_text(f"#{field}-problem")
    assert page.get_attribute(f"#{field}", "aria-invalid") == "true"
    assert page.get_attribute(f"#{field}", "aria-describedby") == f"{field}-problem"
    assert page.evaluate("document.activeElement.id") == field


def test_errors_of_a_budget_and_of_files(open_page: Open, tmp_path: Path) -> None:
    page = open_page("compress", allow=("400", "415"))
    page.click("#compress-form button[type=submit]")
    assert "Choose a checkpoint" in page.inner_text("#checkpoint-problem")
    (tmp_path / "net.pkl").write_bytes(b"x")
    page.wait_for_selector("#method option[value=int8]", state="attached")
    page.set_input_files("#checkpoint", tmp_path / "net.pkl")
    page.click("#compress-form button[type=submit]")
    page.wait_for_selector("#checkpoint-problem:has-text('never loaded')")
    page.set_input_files("#checkpoint", {"name": "net.onnx", "mimeType": "", "buffer": ONNX})
    page.check("input[value=budget]")
    page.click("#compress-form button[type=submit]")
    page.wait_for_selector("#target-bytes-problem, #compress-problem:not([hidden])")
    assert "A budget needs target_bytes" in page.inner_text("#compress-form")
