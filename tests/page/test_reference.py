"""The API reference at /docs, in Chromium."""

from __future__ import annotations

from typing import Any

import httpx

from tests.page.conftest import Open
from tests.page.test_access import CONTRAST, PHONE


def show(page: Any, url: str, place: str = "") -> Any:
    page.goto(f"{url}/docs{place}")
    page.wait_for_selector("#schema-JobAnswer")
    return page


def test_it_has_every_operation_with_its_fields(open_page: Open, url: str) -> None:
    document = httpx.get(f"{url}/openapi.json", trust_env=False).json()
    page = show(open_page(), url)
    wanted = [f"{verb.upper()}{path}" for path, verbs in document["paths"].items() for verb in verbs]
    assert page.locator("#operations h2").evaluate_all("all => all.map(each => each.textContent)") == wanted
    compress = page.locator("#post-compress")
    rows = compress.locator("th[scope=row] code").evaluate_all("all => all.map(each => each.textContent)")
    for field in ("replace", "checkpoint", "spec.size", "spec.compress[].pattern", "spec.budget.target_bytes", "507"):
        assert field in rows
    assert "at most 4096" in compress.inner_text()
    assert page.locator("#schemas section").count() == len(document["components"]["schemas"])
    assert "undefined" not in page.inner_text("main") and "[object" not in page.inner_text("main")
    links = page.locator("main a[href^='#']").evaluate_all("all => all.map(each => each.hash.slice(1))")
    assert page.evaluate("ids => ids.filter(id => document.getElementById(id) === null)", links) == []


def test_an_address_leads_to_its_place(open_page: Open, url: str) -> None:
    page = show(open_page(), url, "#schema-ErrorDetail")
    top = page.evaluate("document.getElementById('schema-ErrorDetail').getBoundingClientRect().top")
    assert -1 < top < 900  # the browser scrolls by whole pixels


def test_it_is_read_in_any_colours_and_on_a_phone(open_page: Open, url: str) -> None:
    for colours in ("light", "dark"):
        page = show(open_page(color_scheme=colours, **PHONE), url)
        assert page.evaluate(CONTRAST)["problems"] == []
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert page.locator("h1").count() == 1
