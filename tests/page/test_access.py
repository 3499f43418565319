"""For everyone: keyboard, contrast, names, small screens, dark mode, and what the page may not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.page.browser import few_models, until
from tests.page.conftest import Open

CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
VIEWS = ("transcribe", "compare", "models", "compress")


def fill(page: Any, view: str) -> None:
    """Bring a view into the state with the most on it."""
    page.evaluate("view => { location.hash = view; }", view)
    page.wait_for_selector(f"#view-{view}:not([hidden])")
    if view in ("transcribe", "compare"):
        if page.is_hidden("#player"):
            page.click("#sample")
            page.wait_for_selector("#player:not([hidden])")
        page.click(f"#view-{view} button[type=submit]")
        page.wait_for_selector("#transcript .word" if view == "transcribe" else "#comparison article")
    if view == "models":
        page.wait_for_selector(".point")
    if view == "compress":
        page.wait_for_selector("#method option[value=int8]", state="attached")
        for summary in page.locator("#compress-form summary").all():
            summary.click()
        page.check("#fine-tune")
        page.click("#add-rule")
        page.click("#compress-form button[type=submit]")
        page.wait_for_selector("#checkpoint-problem")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_contrast_and_names(open_page: Open, colours: str) -> None:
    page = open_page(color_scheme=colours)
    for view in VIEWS:
        fill(page, view)
        found = page.evaluate(CONTRAST)
        assert found["count"] > 15, view
        assert found["problems"] == [], f"{view}, {colours}"
        assert page.locator("h1:visible").count() == 1
        assert page.locator("nav [aria-current=page]").count() == 1


def test_dark_mode_is_dark(open_page: Open) -> None:
    lightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + +b, 0)"
    assert open_page(color_scheme="dark").evaluate(lightness) < 150
    assert open_page(color_scheme="light").evaluate(lightness) > 600


def test_a_phone_shows_everything_without_scrolling_sideways(open_page: Open) -> None:
    page = open_page(**PHONE)
    for view in VIEWS:
        fill(page, view)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, view
        small = page.evaluate(
            "[...document.querySelectorAll('button, select, label.button')].filter(each => each.checkVisibility())"
            ".map(each => [each.textContent, each.getBoundingClientRect()]).filter(([, box]) => box.height < 24)"
        )
        assert small == [], view


def test_a_transcript_with_the_keyboard_alone(open_page: Open) -> None:
    page = open_page()
    bare = set()

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "none":
                bare.add(page.evaluate("document.activeElement.id"))
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"Tab never came to {selector}")

    tab_to(".skip")
    tab_to("#record")
    tab_to("#file")
    tab_to("#sample")
    page.keyboard.press("Enter")
    page.wait_for_selector("#player:not([hidden])")
    tab_to("#model")
    tab_to("#transcribe-form button")
    page.keyboard.press("Space")
    page.wait_for_selector("#transcript .word")
    tab_to("#words summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#words-table table")
    # The chooser of files is drawn as its label, which has the outline in its place; the player draws its own.
    assert bare <= {"file", "player"}
    page.focus("#file")
    assert page.evaluate("getComputedStyle(document.querySelector('label[for=file]')).outlineStyle") == "solid"


def test_views_have_addresses_and_the_focus_follows(open_page: Open) -> None:
    page = open_page()
    page.click("nav >> text=Models")
    page.wait_for_selector("#view-models:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.title().startswith("Models")
    page.go_back()
    page.wait_for_selector("#view-transcribe:not([hidden])")


def test_points_of_the_plot_are_read_with_the_keyboard(open_page: Open) -> None:
    page = open_page("models")
    names = page.locator(".point").evaluate_all("all => all.map(each => each.dataset.name)")
    assert sorted(names) == sorted(few_models())
    page.focus(".point >> nth=0")
    assert page.inner_text("#plot-detail").startswith(f"{names[0]}: ")
    page.keyboard.press("Tab")
    assert page.inner_text("#plot-detail").startswith(f"{names[1]}: ")
    assert "tiny-dense" in page.inner_text("#plot-missing")
    outlines = page.locator(".point path").evaluate_all("all => all.map(each => each.getAttribute('d'))")
    tints = page.locator(".point path").evaluate_all("all => all.map(each => getComputedStyle(each).fill)")
    assert len(set(outlines)) == len(set(tints)) == 2


def test_the_table_is_sorted_by_a_button(open_page: Open, url: str) -> None:
    page = open_page("models")
    models = httpx.get(f"{url}/models", trust_env=False).json()["models"]
    wanted = [model["name"] for model in sorted(models, key=lambda model: model["disk_bytes"])]
    page.wait_for_selector("#models-table table")
    page.get_by_role("button", name="On disk").press("Enter")
    rows = "[...document.querySelectorAll('#models-table tbody th')].map(each => each.textContent)"
    assert page.evaluate(rows) == wanted
    assert page.locator("#models-table th[aria-sort=ascending]").inner_text().startswith("On disk")
    page.keyboard.press("Enter")
    assert page.evaluate(rows) == wanted[::-1]


def test_a_refused_promotion_is_told(open_page: Open) -> None:
    page = open_page("models", allow=("409",))
    page.get_by_role("button", name="Roll back the default").click()
    page.wait_for_selector("#models-problem:not([hidden])")
    assert "no earlier default" in page.inner_text("#models-problem")


def test_names_of_models_are_never_markup(open_page: Open) -> None:
    page = open_page(wait=False, allow=("Failed to load resource",))
    evil = "<img src=x onerror=alert(1)>"
    listing = {
        "default": evil,
        "models": [
            {"name": evil, "state": "ready", "reason": evil, "default": True, "method": evil, "family": evil,
             "description": evil, "disk_bytes": 5, "wer": {evil: 0.1}},
            {"name": "bare", "state": "failed", "reason": "no package", "default": False},
        ],
    }  # fmt: skip
    page.route("**/models", lambda route: route.fulfill(json=listing))
    page.reload()
    page.wait_for_selector("#service-state[data-kind=good]")
    for view in ("transcribe", "compare", "models"):
        page.evaluate("view => { location.hash = view; }", view)
        page.wait_for_selector(f"#view-{view}:not([hidden])")
    page.wait_for_selector(".point")
    assert page.locator("img").count() == 0
    assert page.get_by_text(evil).count() > 3


def test_scripts_from_elsewhere_and_inline_do_not_run(open_page: Open) -> None:
    page = open_page(allow=("Content Security Policy", "asked for http://elsewhere.invalid"))
    page.evaluate(
        "const inline = document.createElement('script'); inline.textContent = 'window.ran = 1';"
        "const remote = document.createElement('script'); remote.src = 'http://elsewhere.invalid/x.js';"
        "document.head.append(inline, remote);"
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None


def test_nothing_moves_when_the_answer_comes(open_page: Open) -> None:
    page = open_page(viewport={"width": 1200, "height": 1200})
    page.evaluate(
        "window.shift = 0; new PerformanceObserver(list => list.getEntries().forEach(entry => {"
        "  if (!entry.hadRecentInput) window.shift += entry.value; })).observe({ type: 'layout-shift' });"
    )
    page.click("#sample")
    page.wait_for_selector("#player:not([hidden])")
    page.click("#transcribe-form button[type=submit]")
    page.wait_for_selector("#transcript .word")
    until(page, "document.getElementById('transcript').getAttribute('aria-busy') === 'false'")
    assert page.evaluate("window.shift") < 0.05


def test_a_service_with_a_key_asks_for_it(open_page: Open) -> None:
    page = open_page(wait=False, allow=("401",))
    refusal = {"error": {"message": "send a key", "type": "authentication_error", "param": None, "code": "x"}}

    def guard(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer open sesame":
            route.continue_()
        else:
            route.fulfill(status=401, json=refusal)

    page.route("**/models", guard)
    page.reload()
    page.fill("#key", "open sesame")
    page.keyboard.press("Enter")
    page.wait_for_selector("#service-state[data-kind=good]")
    assert page.is_hidden("#key-form")
    page.reload()
    page.wait_for_selector("#service-state[data-kind=good]")
