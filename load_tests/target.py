"""Where the load goes, and what is sent."""

import io
import ipaddress
import mimetypes
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from models.audio import decode
from service.demo.recordings import CLIP

# The bundled clip as it is, and shorter recordings cut from it: real load has many lengths and formats.
_CUTS_SECONDS = (2.0, 4.0)


class TargetError(ValueError):
    """A target that must not, or cannot, be loaded."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording that is sent as the raw body of a request."""

    name: str
    data: bytes
    content_type: str

    @classmethod
    def read(cls, path: Path) -> "Clip":
        """The file at `path`, with the content type that its name suggests."""
        content_type, _ = mimetypes.guess_type(path.name)
        return cls(path.name, path.read_bytes(), content_type or "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Ask:
    """One kind of request: a recording, and the model to ask for (None: the service's default)."""

    clip: Clip
    model: str | None = None


def mixed(clips: Sequence[Clip], models: Sequence[str | None] = (None,)) -> list[Ask]:
    """Every recording with every model, neighbours different in both where that is possible."""
    return [
        Ask(clips[(turn + number) % len(clips)], model)
        for turn in range(len(clips))
        for number, model in enumerate(models)
    ]


def own_clips() -> list[Clip]:
    """The bundled clip (6.9 s, Ogg), and its first 2 and 4 seconds as WAV."""
    whole = Clip.read(CLIP)
    audio = decode(whole.data)
    cuts = []
    for seconds in _CUTS_SECONDS:
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(audio.sample_rate)
            samples = audio.samples[: int(seconds * audio.sample_rate)]
            file.writeframes((samples.clip(-1, 1) * 32767).astype(np.int16).tobytes())
        cuts.append(Clip(f"first {seconds:g} s", buffer.getvalue(), "audio/wav"))
    return [whole, *cuts]


def check_target(url: str, *, allow_remote: bool) -> str:
    """The base URL without its trailing slash.

    Raises:
        TargetError: not an http(s) URL, or not this machine although `allow_remote` is false. A name other
            than `localhost` counts as remote: what it resolves to can change.
    """
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme not in ("http", "https") or host is None:
        raise TargetError(f"{url!r} is not an http:// or https:// address")
    if not allow_remote and not _is_loopback(host):
        raise TargetError(f"{host} is not this machine; load tests go to loopback addresses only (see --allow-remote)")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
