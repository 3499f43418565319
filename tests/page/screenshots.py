"""`python -m tests.page.screenshots`: the pictures of the page in docs/, of a real service with the bundled models."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from models.store import BUNDLED, ModelStore
from tests.page.browser import PATIENCE, ROOT, arguments, find_chromium, real_service

DOCS = ROOT / "docs"
# The longest that a job may take: it really compresses a model.
JOB_MS = 600_000.0
TALLEST = 1500
PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
DESK = {"viewport": {"width": 1180, "height": 820}}


def main() -> int:
    """Take all pictures; 1 where there is no Chromium."""
    executable = find_chromium()
    if executable is None:
        print("no Chromium here: sudo apt-get install chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as home, real_service(Path(home)) as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=arguments())
        transcribe(opened(browser, url, "transcribe", **DESK), "page-transcribe")
        compare(opened(browser, url, "compare", **DESK), "page-compare")
        models(opened(browser, url, "models", color_scheme="dark", **DESK), "page-models-dark")
        compare(opened(browser, url, "compare", color_scheme="dark", **PHONE), "page-phone-dark")
        models(opened(browser, url, "models", **PHONE), "page-phone")
        compress(opened(browser, url, "compress", **DESK), "page-compress")
        reference(opened(browser, url, "transcribe", **DESK), f"{url}/docs", "page-reference")
        browser.close()
    return 0


def opened(browser: Browser, url: str, view: str, **options: Any) -> Any:
    """The page at a view, once the models are known."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{url}/#{view}")
    page.wait_for_selector("#service-state[data-kind=good]")
    return page


def transcribe(page: Any, name: str) -> None:
    """The sample, transcribed."""
    page.click("#sample")
    page.wait_for_selector("#player:not([hidden])")
    page.click("#transcribe-form button[type=submit]")
    page.wait_for_selector("#transcript .word")
    take(page, name)


def compare(page: Any, name: str) -> None:
    """The sample through a family of models."""
    store = ModelStore([BUNDLED])
    default = store.load("default").manifest
    for model in (store.load(each).manifest for each in store.names()):
        wanted = default.parent in (model.parent, model.name) and model.relative_size > 0.01
        page.set_checked(f"#compare-models input[value='{model.name}']", wanted)
    page.click("#sample")
    page.wait_for_selector("#player:not([hidden])")
    page.click("#compare-form button[type=submit]")
    page.wait_for_selector("#comparison article")
    take(page, name)


def models(page: Any, name: str) -> None:
    """The plot with a point chosen, and the table."""
    page.wait_for_selector(".point")
    page.focus(".point >> nth=3")
    take(page, name)


def compress(page: Any, name: str) -> None:
    """A job that has ended, with its report."""
    page.wait_for_selector("#method option[value=int8]", state="attached")
    dense = min(
        (each for each in page.locator("#source option").evaluate_all("all => all.map(each => each.value)") if each),
        key=lambda each: ModelStore([BUNDLED]).load(each).manifest.weights.disk_bytes,
    )
    page.select_option("#source", dense)
    page.select_option("#method", "int8")
    page.fill("#name", f"{dense}-int8")
    page.click("#compress-form summary")
    page.check("#allow-slower")
    page.click("#compress-form summary")
    page.click("#compress-form button[type=submit]")
    ended = ".job .badge:is(:text-is('succeeded'), :text-is('quarantined'), :text-is('failed'))"
    page.wait_for_selector(ended, timeout=JOB_MS)
    page.wait_for_selector(".job button:text-is('Download')")
    page.click(".job summary")
    page.wait_for_selector(".job .report table")
    take(page, name)


def reference(page: Any, address: str, name: str) -> None:
    """The API reference at an operation."""
    page.goto(f"{address}#post-transcribe")
    page.wait_for_selector("#post-transcribe")
    page.wait_for_timeout(300)
    page.screenshot(path=DOCS / f"{name}.png", animations="disabled")
    print(f"docs/{name}.png")
    page.context.close()


def take(page: Any, name: str) -> None:
    """Write one picture."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    path = DOCS / f"{name}.png"
    size = page.evaluate("[innerWidth, document.documentElement.scrollHeight]")
    # The start of a long page is enough of it.
    clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], TALLEST)}
    page.screenshot(path=path, full_page=True, clip=clip, animations="disabled")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")
    page.context.close()


if __name__ == "__main__":
    sys.exit(main())
