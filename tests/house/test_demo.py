"""The demo, against a service that is played."""

import json
from pathlib import Path

import httpx
import pytest

from models.audio import decode
from service.demo import measure, process, recordings, report

DENSE = measure.Variant("net-dense", "dense", None, 4_000_000)
SMALL = measure.Variant("net-small", "deepthin", "net-dense", 80_000)
CLIP = recordings.Recording("a clip", b"fLaC", "read the letter")

PLAYED = """
import http.server, json, sys
asked = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += self.path == "/models"
        state = "loading" if asked < 3 else "ready"
        body = json.dumps({"models": [{"state": state}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Handler).serve_forever()
"""


def models_answer(*states: str) -> dict:
    rows = [("net-small", "deepthin", "net-dense", 80_000), ("net-dense", "dense", None, 4_000_000)]
    keys = ("name", "method", "parent", "resident_bytes")
    return {
        "models": [
            {**dict(zip(keys, row, strict=True)), "state": state, "reason": "broken" if state == "failed" else None}
            for row, state in zip(rows, states, strict=True)
        ]
    }


def client_of(handler) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(handler), base_url="http://test")


def test_variants_come_with_the_parent_first():
    with client_of(lambda request: httpx.Response(200, json=models_answer("ready", "ready"))) as client:
        assert measure.variants(client) == [DENSE, SMALL]


def test_a_model_that_failed_to_load_fails_the_demo():
    with (
        client_of(lambda request: httpx.Response(200, json=models_answer("failed", "ready"))) as client,
        pytest.raises(measure.AnswerError, match="net-small is failed: broken"),
    ):
        measure.variants(client)


def test_every_model_is_asked_as_often_as_wished_in_turns():
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert b"fLaC" in request.read()
        asked.append(request.url.params["model"])
        return httpx.Response(200, json={"text": asked[-1], "duration_seconds": 1.5})

    counts = []
    with client_of(answer) as client:
        answers = measure.ask(client, CLIP, [DENSE, SMALL], 3, lambda done, of: counts.append((done, of)))
    assert asked == ["net-dense", "net-small"] * 3
    assert [(item.variant, item.text, item.audio_seconds) for item in answers] == [
        (DENSE, "net-dense", 1.5),
        (SMALL, "net-small", 1.5),
    ]
    assert counts == [(done, 6) for done in range(1, 7)]


def test_a_refusal_is_told_in_the_words_of_the_service():
    refusal = httpx.Response(415, json={"error": {"message": "not audio"}})
    with (
        client_of(lambda request: refusal) as client,
        pytest.raises(measure.AnswerError, match="net-dense did not transcribe a clip: not audio"),
    ):
        measure.ask(client, CLIP, [DENSE], 1, lambda done, of: None)


def test_the_table_compares_with_the_parent_of_the_same_run():
    answers = [measure.Answer(DENSE, "read the letter", 0.2, 1.5), measure.Answer(SMALL, "red letter", 0.05, 1.5)]
    lines = report.table(CLIP, answers).splitlines()
    dense, small = (next(line for line in lines if line.startswith(name)) for name in ("net-dense", "net-small"))
    assert "4.00 MB" in dense and "200 ms" in dense and "0 of 3" in dense and "x" not in dense
    assert "80.0 kB" in small and "50.0x smaller" in small and "4.00x as fast" in small and "2 of 3" in small
    assert lines[lines.index(small) + 1].strip() == "red letter"


def test_the_table_says_so_when_nothing_was_recognised():
    unknown = recordings.Recording("mine", b"", None)
    text = report.table(unknown, [measure.Answer(DENSE, "", 0.2, 1.5)])
    assert "(nothing recognised)" in text
    assert "spoken" not in text


def test_the_summary_counts_only_recordings_whose_words_are_known():
    unknown = recordings.Recording("mine", b"", None)
    right, wrong = (measure.Answer(DENSE, text, 0.2, 1.5) for text in ("read the letter", "read a ladder"))
    summary = report.summary([(unknown, [wrong]), (CLIP, [right]), (CLIP, [wrong])])
    assert "2 recordings, 6 words" in summary
    assert " 33.3%" in summary
    assert report.summary([(unknown, [wrong])]) == ""


def test_the_bundled_clip_is_small_speech_with_its_text():
    clip = recordings.own_clip()
    assert "SYNTHETIC" in clip.title
    assert len(clip.data) < 100_000
    assert clip.reference is not None and clip.reference == clip.reference.lower().strip()
    audio = decode(clip.data)
    assert audio.sample_rate == 16_000
    assert 2 < audio.seconds < 15
    assert abs(audio.samples).max() > 0.1


def test_recordings_of_a_corpus_are_spread_over_it(tmp_path: Path):
    folder = tmp_path / "an4-test"
    folder.mkdir()
    table = "".join(f"u{index}\tu{index}.flac\tWORD {index}\n" for index in range(9))
    (folder / "manifest.tsv").write_text("utterance\tpath\ttranscript\n" + table)
    for index in range(9):
        (folder / f"u{index}.flac").write_bytes(bytes([index]))
    chosen = recordings.from_corpora(tmp_path, each=3)
    assert [recording.data for recording in chosen] == [b"\x01", b"\x04", b"\x07"]
    assert chosen[0].reference == "word 1"


def test_the_service_is_waited_for_until_its_models_are_loaded_and_then_stopped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process, "_SERVE", PLAYED)
    waits: list[float] = []
    with process.running_service(waits.append) as url:
        states = httpx.get(f"{url}/models", trust_env=False).json()["models"]
    assert [model["state"] for model in states] == ["ready"]
    assert len(waits) >= 2
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/models", trust_env=False)


def test_a_service_that_ends_at_once_is_told_with_its_log(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process, "_SERVE", "import sys; print('no such luck'); sys.exit(3)")
    with (
        pytest.raises(process.ServiceError, match=r"(?s)status 3.*no such luck"),
        process.running_service(lambda waited: None),
    ):
        pass


def test_the_service_does_not_inherit_settings_of_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEEPTHIN_API_KEYS", "secret")
    monkeypatch.setenv("DEEPTHIN_OPS_ISA", "scalar")
    dump = "import json, os, sys; print(json.dumps(dict(os.environ))); sys.exit(3)"
    monkeypatch.setattr(process, "_SERVE", dump)
    with pytest.raises(process.ServiceError) as error, process.running_service(lambda waited: None):
        pass
    environment = json.loads(str(error.value).splitlines()[-1])
    assert "DEEPTHIN_API_KEYS" not in environment
    assert environment["DEEPTHIN_OPS_ISA"] == "scalar"
    assert environment["DEEPTHIN_HOME"]


def test_case_and_punctuation_are_no_errors():
    answers = [measure.Answer(DENSE, "Read the letter.", 0.1, 2.0)]
    assert "0 of 3" in report.table(CLIP, answers)
    assert "0.0%" in report.summary([(CLIP, answers)])
