"""Uses a composition that is up: compose_check.py use|kept SERVICE PROMETHEUS, the latter two as base URLs.

`use` asks for a transcript, then for a smaller model, then for a transcript by that one, and sees that Prometheus has
noticed. `kept` sees that the model and the job are still there. Needs nothing but Python's own library.
"""

import json
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

PARENT = "tfkaldi-dense"
SPEC = {"name": "compose-check", "method": "low-rank", "size": 0.5, "allow_slower": True}
SECONDS = 600  # jobs stand back for everything else on the machine
BOUNDARY = "compose-check-boundary"


def fetch(path: str, body: bytes | None = None, content_type: str = "") -> bytes:
    headers = {"content-type": content_type} if content_type else {}
    with urllib.request.urlopen(urllib.request.Request(sys.argv[2] + path, body, headers), timeout=60) as response:
        content: bytes = response.read()
    return content


def transcribe(model: str) -> None:
    clip = (Path(__file__).parent.parent / "service/demo/clip.ogg").read_bytes()
    answer = json.loads(fetch(f"/transcribe?model={model}", clip, "audio/ogg"))
    print(f"{answer['model']}: {answer['text']}")
    if not answer["text"]:
        sys.exit("no words came back")


def compress() -> dict[str, Any]:
    """The job, once it has ended."""
    fields = {"checkpoint": ('; filename="parent.zip"', fetch(f"/models/{PARENT}/download"))}
    fields["spec"] = ("", json.dumps(SPEC).encode())
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"
        for name, (more, content) in fields.items()
    ]
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    job: dict[str, Any] = json.loads(fetch("/compress", body, f"multipart/form-data; boundary={BOUNDARY}"))
    deadline = time.monotonic() + SECONDS
    while job["state"] in ("queued", "running"):
        if time.monotonic() > deadline:
            sys.exit(f"the job is at {job['stage']} ({job['percentage']}%) after {SECONDS} s")
        time.sleep(1)
        job = json.loads(fetch(f"/jobs/{job['id']}"))
    return job


def seen(query: str) -> float:
    """The one value that Prometheus answers `query` with; waits for its next scrapes."""
    address = f"{sys.argv[3]}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urllib.request.urlopen(address, timeout=10) as response:
            rows = json.load(response)["data"]["result"]
        if len(rows) == 1 and float(rows[0]["value"][1]) > 0:
            return float(rows[0]["value"][1])
        time.sleep(1)
    sys.exit(f"Prometheus has no answer to {query}")


def show_start() -> None:
    """Print what the service says about its own start."""
    for line in fetch("/metrics").decode().splitlines():
        if line.startswith("deepthin_start_seconds{"):
            print(f"ready after: {line}")


def use() -> None:
    show_start()
    transcribe("default")
    job = compress()
    print(f"job {job['id']}: {job['state']} {job['reason'] or ''}")
    if job["state"] != "succeeded" or not job["hosted"]:
        sys.exit("the job made no model that answers")
    transcribe(job["model"])
    stream = fetch(f"/models/{job['model']}/download?format=transport")
    said = json.loads(fetch(f"/models/{job['model']}"))["transport_bytes"]
    if len(stream) != said:
        sys.exit(f"the stream has {len(stream)} bytes, /models says {said}")
    for query in (
        'up{job="deepthin"}',
        "sum(deepthin_audio_seconds_total)",
        'deepthin_jobs{state="succeeded"}',
        f'deepthin_model_info{{model="{job["model"]}"}}',
        f'sum(deepthin_transcription_duration_seconds_count{{model="{job["model"]}"}})',
    ):
        print(f"Prometheus: {query} = {seen(query):g}")


def kept() -> None:
    show_start()
    transcribe(str(SPEC["name"]))
    jobs = json.loads(fetch("/jobs"))["jobs"]
    if [(job["model"], job["state"]) for job in jobs] != [(SPEC["name"], "succeeded")]:
        sys.exit(f"the job was lost: {jobs}")


if __name__ == "__main__":
    {"use": use, "kept": kept}[sys.argv[1]]()
