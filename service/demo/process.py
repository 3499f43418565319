"""The service as a child process, from ready to stopped."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import httpx

_SERVE = "import sys; from service.cli import main; sys.exit(main())"
_POLL_SECONDS = 0.1
_STOP_SECONDS = 20.0


class ServiceError(RuntimeError):
    """The service did not start, or did not stop, as it should."""


@contextlib.contextmanager
def running_service(
    waiting: Callable[[float], None],
    *,
    patience: float = 120.0,
    settings: Mapping[str, str] = MappingProxyType({}),
    packages: Sequence[Path] = (),
) -> Iterator[str]:
    """Start the service on a free loopback port and yield its base URL once its models are loaded; stop it afterwards.

    Its state lives in a temporary folder: it hosts the bundled models and `packages` alone, and leaves nothing behind.

    Args:
        waiting: called with the seconds waited so far, some ten times a second until the service is ready.
        patience: seconds to wait for readiness.
        settings: further environment variables of the service.
        packages: folders of further models to host.

    Raises:
        ServiceError: it ended early, was not ready in time, or did not stop; the message ends with its log.
    """
    with tempfile.TemporaryDirectory(prefix="deepthin-demo-") as home:
        log = Path(home) / "service.log"
        (Path(home) / "models").mkdir()
        for package in packages:
            (Path(home) / "models" / package.name).symlink_to(package.resolve())
        url = f"http://127.0.0.1:{(port := _free_port())}"
        command = [sys.executable, "-c", _SERVE, "serve", "--host", "127.0.0.1", "--port", str(port)]
        environment = _environment() | {"DEEPTHIN_HOME": home, **settings}
        with (
            log.open("wb") as output,
            subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,
        ):
            try:
                _wait(process, url, log, waiting, patience)
                yield url
                _stop(process, log)
            finally:
                if process.poll() is None:
                    process.kill()


def _wait(
    process: subprocess.Popen[bytes], url: str, log: Path, waiting: Callable[[float], None], patience: float
) -> None:
    start = time.monotonic()
    with httpx.Client(trust_env=False, timeout=5.0) as client:
        while (waited := time.monotonic() - start) < patience:
            if process.poll() is not None:
                raise ServiceError(f"the service ended with status {process.returncode}:\n{_tail(log)}")
            with contextlib.suppress(httpx.HTTPError):
                if client.get(f"{url}/readyz").status_code == 200 and not _loading(client, url):
                    return
            waiting(waited)
            time.sleep(_POLL_SECONDS)
    raise ServiceError(f"the service was not ready after {patience:.0f} s:\n{_tail(log)}")


def _loading(client: httpx.Client, url: str) -> bool:
    # The service is ready with its default model; the demo wants all of them.
    return any(model["state"] == "loading" for model in client.get(f"{url}/models").json()["models"])


def _stop(process: subprocess.Popen[bytes], log: Path) -> None:
    process.terminate()
    try:
        status = process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise ServiceError(f"the service did not stop within {_STOP_SECONDS:.0f} s:\n{_tail(log)}") from None
    if status not in (0, -signal.SIGTERM):
        raise ServiceError(f"the service stopped with status {status}:\n{_tail(log)}")


def _environment() -> dict[str, str]:
    # Keys, model lists and limits that the user set for a service of their own are not the demo's.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DEEPTHIN_")}
    return kept | {name: value for name, value in os.environ.items() if name.startswith("DEEPTHIN_OPS_")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
