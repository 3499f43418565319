"""Where the load goes, and what is sent."""

import ipaddress
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


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
