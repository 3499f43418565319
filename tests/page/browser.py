"""Chromium, and a service for it: what the tests of the page and its screenshots share."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import httpx

from models.package import ModelPackage
from models.store import BUNDLED, ModelStore
from service.demo.recordings import CLIP
from tests.support import tiny_graph, tiny_manifest

ROOT = Path(__file__).parents[2]
FAKE_SERVER = ROOT / "tests" / "service" / "fake_server.py"
PATIENCE = 60_000.0
"""Milliseconds that anything may take on a busy machine."""

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def until(page: Any, expression: str) -> None:
    """Wait for a JavaScript expression to hold; Playwright's own way of waiting is what the page's policy forbids."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never became true: {expression}"
        page.wait_for_timeout(50)


def find_chromium() -> str | None:
    """Path of a Chromium, or None."""
    return os.environ.get("CHROMIUM") or next((path for name in _NAMES if (path := shutil.which(name))), None)


def arguments(*more: str) -> list[str]:
    """Arguments of Chromium: `more` besides those that it needs here."""
    # Its sandbox refuses to run as root, which checks in containers usually do.
    return [*(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []), *more]


def microphone(folder: Path) -> list[str]:
    """Arguments that make the demo's clip what the microphone hears."""
    file = folder / "microphone.wav"
    with av.open(str(CLIP)) as source, av.open(str(file), "w") as sink:
        stream = sink.add_stream("pcm_s16le", rate=48_000, layout="mono")
        for frame in source.decode(audio=0):
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={file}",
    ]


def few_models() -> tuple[str, ...]:
    """The bundled default, and the dense model that it was made from."""
    store = ModelStore([BUNDLED])
    default = store.load("default").manifest
    return (default.name, default.parent) if default.parent else (default.name,)


def add_tiny_model(home: Path) -> None:
    """Put the model there that the fake worker of the service's tests copies."""
    ModelPackage.save(home / "models", tiny_manifest("tiny-dense"), tiny_graph(recurrent=False))


@contextlib.contextmanager
def service(home: Path, command: list[str], **settings: Any) -> Iterator[str]:
    """The base URL of a service in a process of its own, once its models are loaded."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log = home / "service.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, env=_environment(home, {**settings, "port": port}), stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            _wait(url, process, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def real_service(home: Path, **settings: Any) -> contextlib.AbstractContextManager[str]:
    """A service with the real worker."""
    program = "import sys; from service.cli import main; sys.exit(main(['serve']))"
    return service(home, [sys.executable, "-c", program], **settings)


def _environment(home: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DEEPTHIN_") or name.startswith("DEEPTHIN_OPS_")
    }
    # Jobs that stand back for everything else would never end on a busy machine.
    settings = {"home": home, "job_nice": 0, "job_idle": False, "min_free_bytes": 0, **settings}
    paths = os.pathsep.join([str(ROOT), *filter(None, [kept.get("PYTHONPATH")])])
    return {
        **kept,
        **{f"DEEPTHIN_{name.upper()}": str(value) for name, value in settings.items()},
        "PYTHONPATH": paths,
    }


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE / 1000
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        while time.monotonic() < end:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                models = client.get("/models").json()["models"]
                if all(model["state"] != "loading" for model in models):
                    return
            time.sleep(0.1)
    raise AssertionError(f"the service was not ready in time:\n{log.read_text()}")
