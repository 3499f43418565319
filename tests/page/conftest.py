"""A browser and a service for all tests of the page; they are skipped where there is no Chromium."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.page import browser as chromium


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service's home, with `tiny-dense` in it."""
    folder = tmp_path_factory.mktemp("page")
    chromium.add_tiny_model(folder)
    return folder


@pytest.fixture(scope="package")
def url(home: Path) -> Iterator[str]:
    """A service with two bundled models, whose jobs have the fake pipeline."""
    models = ",".join((*chromium.few_models(), "tiny-dense"))
    with chromium.service(home, [sys.executable, str(chromium.FAKE_SERVER)], models=models) as address:
        yield address


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium, whose microphone hears the demo's clip."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the extra dev has it)")
    executable = chromium.find_chromium()
    if executable is None:
        pytest.skip("no Chromium here: sudo apt-get install chromium")
    arguments = chromium.arguments(*chromium.microphone(tmp_path_factory.mktemp("microphone")))
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=executable, args=arguments)
        yield running
        running.close()


Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any, url: str) -> Iterator[Open]:
    """Open the page at a view, with options of Playwright's context; what the browser complains about fails the test.

    `allow` has parts of complaints that are expected.
    """
    contexts = []
    complaints: list[str] = []
    expected: list[str] = []

    def start(view: str = "transcribe", *, allow: tuple[str, ...] = (), wait: bool = True, **options: Any) -> Any:
        expected.extend(allow)
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(chromium.PATIENCE)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: _check_address(request.url, url, complaints))
        page.goto(f"{url}/#{view}")
        if wait:
            page.wait_for_selector("#service-state[data-kind=good]")
        return page

    yield start
    for context in contexts:
        context.close()
    assert [text for text in complaints if not any(part in text for part in expected)] == []


def _check_address(address: str, url: str, complaints: list[str]) -> None:
    if not address.startswith((url, "blob:", "data:")):
        complaints.append(f"asked for {address}")
