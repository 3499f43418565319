"""Finding packages by name and alias."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import PackageError, UnknownModelError
from models.package import MANIFEST_FILE, ModelPackage
from models.store import ModelStore, find_graph, home
from tests.support import tiny_manifest


def _store(*roots: Path) -> ModelStore:
    for root in roots:
        root.mkdir(exist_ok=True)
    return ModelStore(roots)


def test_earlier_folders_win(tmp_path: Path) -> None:
    store = _store(tmp_path / "mine", tmp_path / "bundled")
    ModelPackage.save(tmp_path / "bundled", tiny_manifest("same", description="bundled"), b"")
    ModelPackage.save(tmp_path / "bundled", tiny_manifest("other"), b"")
    ModelPackage.save(tmp_path / "mine", tiny_manifest("same", description="mine"), b"")
    assert store.names() == ("other", "same")
    assert store.load("same").manifest.description == "mine"


def test_default_is_read_from_the_first_folder_that_names_one(tmp_path: Path) -> None:
    store = _store(tmp_path / "mine", tmp_path / "bundled")
    for name in ("a", "b"):
        ModelPackage.save(tmp_path / "bundled", tiny_manifest(name), b"")
    assert store.default() is None
    with pytest.raises(UnknownModelError, match="no default"):
        store.resolve("default")
    (tmp_path / "bundled" / "default").write_text("a\n")
    assert store.load("default").manifest.name == "a"
    (tmp_path / "mine" / "default").write_text("b\n")
    assert store.load("default").manifest.name == "b"


@pytest.mark.parametrize("name", ["missing", "", ".", "..", "../home", "a/b", "/etc", "graphs", "A", "a\0b", "x" * 65])
def test_unknown_and_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    store = _store(tmp_path)
    ModelPackage.save(tmp_path, tiny_manifest("known"), b"")
    with pytest.raises(UnknownModelError, match="known"):
        store.load(name)


def test_folders_that_are_no_packages_are_not_listed(tmp_path: Path) -> None:
    for name in ("graphs", "empty", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "graphs" / MANIFEST_FILE).write_text("{}")
    assert _store(tmp_path).names() == ()
    assert ModelStore([tmp_path / "nowhere"]).names() == ()


def test_renamed_folder_is_an_error(tmp_path: Path) -> None:
    ModelPackage.save(tmp_path, tiny_manifest("before"), b"")
    (tmp_path / "before").rename(tmp_path / "after")
    with pytest.raises(PackageError, match="calls itself 'before'"):
        _store(tmp_path).load("after")


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEEPTHIN_HOME", str(tmp_path / "state"))
    assert home() == tmp_path / "state"
    monkeypatch.delenv("DEEPTHIN_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert home() == tmp_path / "data" / "deepthin"


def test_graph_next_to_the_package_is_found(tmp_path: Path) -> None:
    (tmp_path / "graphs" / "words").mkdir(parents=True)
    assert find_graph("words", tmp_path / "model") == tmp_path / "graphs" / "words"
    with pytest.raises(PackageError, match="'letters'"):
        find_graph("letters", tmp_path / "model")
