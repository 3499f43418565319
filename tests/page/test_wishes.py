"""The view Compress, in Chromium: rules, ranks and fine-tuning; and deleting what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.page.conftest import Open
from tests.page.test_jobs import card, submit
from tests.service.jobs import ONNX


@pytest.fixture
def corpus(home: Path) -> str:
    """The name of a corpus that is installed."""
    folder = home / "corpora" / "ours"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.tsv").write_text("audio\ttext\n")
    return folder.name


def add_rule(page: Any, number: int, pattern: str, method: str) -> None:
    """Add a rule with the keyboard, from the button on."""
    page.focus("#add-rule")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == f"rule-{number}-pattern"
    page.keyboard.type(pattern)
    page.keyboard.press("Tab")
    page.select_option(f"#rule-{number}-method", method)


def spec_of(url: str, name: str) -> dict[str, Any]:
    """What the newest job that makes the model `name` was asked for."""
    jobs = httpx.get(f"{url}/jobs", trust_env=False).json()["jobs"]
    spec: dict[str, Any] = next(job["spec"] for job in jobs if job["model"] == name)
    return spec


def test_rules_ranks_and_fine_tuning_reach_the_service(open_page: Open, url: str, tmp_path: Path, corpus: str) -> None:
    page = open_page("compress")
    page.wait_for_selector("#method option[value=int8]", state="attached")
    page.get_by_text("Recordings, fine-tuning").click()
    page.check(f"#calibration-corpora input[value={corpus}]")
    assert page.is_hidden("#epochs")
    page.check("#fine-tune")
    page.fill("#epochs", "3")
    page.get_by_text("Rules for single weights").first.click()
    add_rule(page, 1, "gone*", "int4")
    add_rule(page, 2, "fc1*", "deepthin")
    page.fill("#rule-2-size", "2")
    page.fill("#rule-2-rank", "2")
    add_rule(page, 3, "fc2*", "int8")
    assert page.is_disabled("#rule-3-size")
    assert page.is_hidden("#rule-3-rank")
    page.get_by_role("button", name="Remove rule 1").press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove rule 1"
    assert page.locator("#rules [role=group]").count() == 2
    page.fill("#rank", "4")
    submit(page, tmp_path, "page-ruled", method="deepthin")
    card(page, "page-ruled", "succeeded")
    spec = spec_of(url, "page-ruled")
    assert spec["compress"] == [
        {"pattern": "fc1*", "method": "deepthin", "size": 0.02, "rank": 2},
        {"pattern": "fc2*", "method": "int8", "size": 1.0, "rank": 1},
    ]
    assert (spec["method"], spec["size"], spec["rank"]) == ("deepthin", 0.25, 4)
    assert spec["calibration"] == [corpus]
    assert spec["fine_tune"] == {"epochs": 3, "seconds": None, "learning_rate": 0.02, "steps": 1}


def test_a_budget_has_no_rules_and_a_plain_job_asks_for_nothing_else(open_page: Open, url: str, tmp_path: Path) -> None:
    page = open_page("compress")
    submit(page, tmp_path, "page-plain", method="int8")
    card(page, "page-plain", "succeeded")
    spec = spec_of(url, "page-plain")
    assert (spec["compress"], spec["fine_tune"], spec["rank"]) == ([], None, 1)
    page.check("input[name=goal][value=budget]")
    assert page.is_hidden("#rules-box")


def test_what_is_wrong_with_a_rule_stands_below_it(open_page: Open, tmp_path: Path) -> None:
    page = open_page("compress", allow=("400",))
    page.wait_for_selector("#method option[value=int8]", state="attached")
    page.get_by_text("Rules for single weights").first.click()
    add_rule(page, 1, "fc*", "deepthin")
    add_rule(page, 2, "", "deepthin")
    page.get_by_text("Rules for single weights").first.click()
    (tmp_path / "net.onnx").write_bytes(ONNX)
    page.set_input_files("#checkpoint", tmp_path / "net.onnx")
    page.click("#compress-form button[type=submit]")
    page.wait_for_selector("#rule-2-pattern-problem")
    assert "at least 1 character" in page.inner_text("#rule-2-pattern-problem")
    assert page.evaluate("document.activeElement.id") == "rule-2-pattern"
    page.fill("#rule-2-pattern", "x")
    page.fill("#rule-1-size", "")
    page.click("#compress-form button[type=submit]")
    page.wait_for_selector("#rule-1-size-problem")


def test_fine_tuning_without_recordings_is_told_where_it_was_asked_for(open_page: Open, tmp_path: Path) -> None:
    page = open_page("compress", allow=("400",))
    page.wait_for_selector("#method option[value=int8]", state="attached")
    page.get_by_text("Recordings, fine-tuning").click()
    page.check("#fine-tune")
    (tmp_path / "net.onnx").write_bytes(ONNX)
    page.set_input_files("#checkpoint", tmp_path / "net.onnx")
    page.click("#compress-form button[type=submit]")
    page.wait_for_selector("#compress-problem:not([hidden])")
    assert "needs calibration" in page.inner_text("#compress-problem")


def test_fine_tuning_is_not_offered_where_it_cannot_be_had(open_page: Open, url: str) -> None:
    page = open_page("compress")
    options = httpx.get(f"{url}/compress", trust_env=False, timeout=60).json()
    page.route("**/compress", lambda route: route.fulfill(json={**options, "fine_tuning": False}))
    page.reload()
    page.wait_for_selector("#method option[value=int8]", state="attached")
    page.get_by_text("Recordings, fine-tuning").click()
    assert page.is_disabled("#fine-tune")
    assert "without PyTorch" in page.inner_text("#fine-tune-hint")


def test_a_model_is_deleted_with_the_keyboard_once_that_is_confirmed(open_page: Open, url: str, tmp_path: Path) -> None:
    page = open_page("compress")
    submit(page, tmp_path, "page-gone")
    card(page, "page-gone", "succeeded")
    page.click("nav >> text=Models")
    delete = page.get_by_role("button", name="Delete page-gone")
    delete.press("Enter")
    assert page.inner_text("#confirm-title") == "Delete page-gone?"
    # The harmless answer has the focus.
    page.keyboard.press("Enter")
    page.wait_for_selector("#confirm", state="hidden")
    assert delete.count() == 1
    delete.press("Enter")
    page.get_by_role("button", name="Delete", exact=True).press("Enter")
    delete.wait_for(state="detached")
    assert page.evaluate("document.activeElement.id") == "models-table"
    assert httpx.get(f"{url}/models/page-gone", trust_env=False).status_code == 404
    bundled = httpx.get(f"{url}/models", trust_env=False).json()["default"]
    assert page.get_by_role("button", name=f"Delete {bundled}").count() == 0
