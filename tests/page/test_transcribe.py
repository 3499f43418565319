"""The views Transcribe and Compare, in Chromium."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from service.demo.recordings import CLIP, own_clip
from tests.page.browser import few_models, until
from tests.page.conftest import Open


def transcribed(page: Any) -> str:
    """Press Transcribe; the transcript."""
    page.click("#transcribe-form button[type=submit]")
    page.wait_for_selector("#transcript .word")
    return " ".join(page.locator("#transcript > p:first-child .word").all_inner_texts())


def test_a_file_is_transcribed_with_the_confidence_of_every_word(open_page: Open) -> None:
    page = open_page()
    page.set_input_files("#file", CLIP)
    text = transcribed(page)
    # Doubtful words say so to those who cannot see how they are underlined.
    heard = re.sub(r"\s*\(\d+ % sure\)", "", text)
    reference = own_clip().reference or ""
    assert len(set(heard.split()) & set(reference.split())) > 0.7 * len(set(reference.split()))
    levels = {word.get_attribute("data-sure") for word in page.locator("#transcript .word").element_handles()}
    assert levels <= {"sure", "less", "unsure"}
    facts = page.inner_text("#transcript-facts")
    assert few_models()[0] in facts
    assert "RTF" in facts
    page.click("#words summary")
    assert page.locator("#words-table tbody tr").count() == len(heard.split())
    assert re.search(r"\d+ %", page.locator("#words-table tbody tr").first.inner_text())
    assert page.locator("#transcript").get_attribute("aria-live") == "polite"


def test_the_microphone_is_recorded_as_webm(open_page: Open) -> None:
    page = open_page()
    page.click("#record")
    page.wait_for_selector("#record[aria-pressed=true]")
    until(page, "document.getElementById('level').value > 0.3")
    until(page, "document.getElementById('timer').textContent >= '0:04'")
    page.click("#record")
    page.wait_for_selector("#player:not([hidden])")
    assert ".webm" in page.inner_text("#clip-name")
    head = page.evaluate(
        "async () => { const { currentClip } = await import('/page/clip.js');"
        " return [...new Uint8Array(await currentClip().blob.slice(0, 4).arrayBuffer())]; }"
    )
    assert bytes(head) == b"\x1aE\xdf\xa3", "no Matroska"
    assert len(transcribed(page).split()) > 3


def test_a_refused_microphone_is_explained(open_page: Open) -> None:
    page = open_page()
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError')); }"
    )
    page.click("#record")
    page.wait_for_selector("#clip-problem:not([hidden])")
    assert "not allowed" in page.inner_text("#clip-problem")
    assert page.get_attribute("#record", "aria-pressed") == "false"


def test_an_insecure_address_is_explained(open_page: Open) -> None:
    page = open_page()
    page.evaluate("Object.defineProperty(window, 'isSecureContext', { value: false })")
    page.click("#record")
    page.wait_for_selector("#clip-problem:not([hidden])")
    assert "HTTPS" in page.inner_text("#clip-problem")


def test_what_is_no_audio_is_refused_in_words(open_page: Open, tmp_path: Path) -> None:
    page = open_page(allow=("415",))
    page.click("#transcribe-form button[type=submit]")
    assert "First record" in page.inner_text("#clip-problem")
    (tmp_path / "<b>not audio.wav").write_bytes(b"certainly not audio" * 20)
    page.set_input_files("#file", tmp_path / "<b>not audio.wav")
    assert "<b>not audio.wav" in page.inner_text("#clip-name")
    page.click("#transcribe-form button[type=submit]")
    page.wait_for_selector("#transcribe-problem:not([hidden])")
    assert "not audio that can be decoded" in page.inner_text("#transcribe-problem")


def test_a_dropped_file_is_taken(open_page: Open) -> None:
    page = open_page()
    data = page.evaluate_handle(
        "() => { const data = new DataTransfer(); data.items.add(new File(['x'], 'dropped.wav')); return data; }"
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": data})
    page.wait_for_selector("#player:not([hidden])")
    assert page.inner_text("#clip-name").startswith("dropped.wav")


def test_a_busy_service_says_when_to_try_again(open_page: Open) -> None:
    page = open_page(allow=("503",))
    refusal = '{"error": {"message": "all 64 places are taken", "type": "server_error", "param": null, "code": "x"}}'
    page.route(
        "**/transcribe*",
        lambda route: route.fulfill(
            status=503, body=refusal, headers={"Retry-After": "2", "Content-Type": "application/json"}
        ),
        times=1,
    )
    page.click("#sample")
    page.wait_for_selector("#player:not([hidden])")
    page.click("#transcribe-form button[type=submit]")
    page.wait_for_selector("#transcribe-problem:not([hidden])")
    assert "All 64 places are taken." in page.inner_text("#transcribe-problem")
    assert "in 2 s" in page.inner_text("#transcribe-problem button")
    until(page, "!/ in /.test(document.querySelector('#transcribe-problem button').textContent)")
    page.click("#transcribe-problem button")
    page.wait_for_selector("#transcript .word")
    assert page.is_hidden("#transcribe-problem")


def test_models_that_load_and_a_service_that_is_away(open_page: Open) -> None:
    page = open_page(allow=("Failed to load resource",), wait=False)
    page.route("**/models", lambda route: route.abort())
    page.reload()
    page.wait_for_selector("#service-state[data-kind=bad]")
    page.unroute("**/models")
    loading = (
        '{"default": "a", "models": [{"name": "a", "state": "loading", "reason": null, "default": true}, '
        '{"name": "b", "state": "failed", "reason": "broken", "default": false}]}'
    )
    page.route("**/models", lambda route: route.fulfill(body=loading, content_type="application/json"))
    page.wait_for_selector("#service-state[data-kind=warn]")
    assert "loading" in page.inner_text("#model option")
    page.unroute("**/models")
    page.wait_for_selector("#service-state[data-kind=good]")


def test_one_clip_through_two_models(open_page: Open) -> None:
    small, dense = few_models()
    page = open_page("compare")
    page.click("#sample")
    page.wait_for_selector("#player:not([hidden])")
    assert page.input_value("#reference") == dense
    page.click("#compare-form button[type=submit]")
    page.wait_for_selector("#comparison article")
    assert page.locator("#comparison article").evaluate_all("all => all.map(each => each.ariaLabel)") == [dense, small]
    assert "reference" in page.inner_text("#comparison article >> nth=0")
    assert re.search(r"same words|words? differ", page.inner_text("#comparison article >> nth=1"))
    rows = page.locator("#comparison tbody tr")
    assert rows.count() == 2
    assert all(re.search(r"[kM]B.*(ms|s)\b", text, re.DOTALL) for text in rows.all_inner_texts())


def test_differences_are_marked(open_page: Open) -> None:
    page = open_page("compare")
    edits = [
        {"kind": "same", "reference": "the", "hypothesis": "the"},
        {"kind": "substituted", "reference": "old", "hypothesis": "cold"},
        {"kind": "deleted", "reference": "grey", "hypothesis": None},
        {"kind": "same", "reference": "man", "hypothesis": "man"},
        {"kind": "inserted", "reference": None, "hypothesis": "<i>down</i>"},
    ]
    marked = page.evaluate(
        "async (edits) => (await import('/page/differences.js')).runs(edits)",
        edits,
    )
    assert marked == [
        {"same": True, "said": "the", "wanted": "the"},
        {"same": False, "said": "cold", "wanted": "old grey"},
        {"same": True, "said": "man", "wanted": "man"},
        {"same": False, "said": "<i>down</i>", "wanted": ""},
    ]
