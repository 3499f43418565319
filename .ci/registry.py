"""A registry of one image, ``debian:bookworm-slim``, for a daemon that has no other: ``add`` to it, ``serve`` it.

An image of several architectures cannot be loaded into Docker 20's own store; pulled it can be, each as it is wanted.
"""

import hashlib
import json
import shutil
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def add(folder: Path, architecture: str, tar: Path) -> None:
    """Move ``tar``, a root file system, into the registry as the image for ``architecture``."""
    platform = {"os": "linux", "architecture": architecture}
    with tar.open("rb") as layer:
        digest = "sha256:" + hashlib.file_digest(layer, "sha256").hexdigest()
    layers = [{"mediaType": LAYER, "size": tar.stat().st_size, "digest": digest}]
    shutil.move(tar, folder / digest)
    described = platform | {"config": {"Cmd": ["bash"]}, "rootfs": {"type": "layers", "diff_ids": [digest]}}
    config = write(folder, CONFIG, described)
    manifest = write(folder, MANIFEST, {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})
    index = folder / "bookworm-slim"
    manifests = json.loads(index.read_text())["manifests"] if index.exists() else []
    manifests.append(manifest | {"platform": platform})
    kept = write(folder, INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
    shutil.copy(folder / str(kept["digest"]), index)


def write(folder: Path, media_type: str, document: dict[str, object]) -> dict[str, object]:
    """Keep a document under its digest; returns what refers to it."""
    body = json.dumps(document).encode()
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    (folder / digest).write_bytes(body)
    return {"mediaType": media_type, "size": len(body), "digest": digest}


def serve(folder: Path) -> None:
    """Answer on a free port of this machine, which is printed, until killed."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = folder / Path(self.path.partition("?")[0]).name
            if self.path == "/v2/":
                self.answer(0, "application/json")
            elif not self.path.startswith("/v2/library/debian/") or not wanted.is_file():
                self.send_error(404)
            else:
                kind = "application/octet-stream"
                if "/manifests/" in self.path:
                    kind = json.loads(wanted.read_text())["mediaType"]
                self.answer(wanted.stat().st_size, kind)
                if self.command == "GET":
                    with wanted.open("rb") as body:
                        shutil.copyfileobj(body, self.wfile)

        do_HEAD = do_GET

        def answer(self, size: int, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.send_header("Content-Type", kind)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    verb, where, *rest = sys.argv[1:]
    if verb == "add":
        add(Path(where), rest[0], Path(rest[1]))
    else:
        serve(Path(where))
