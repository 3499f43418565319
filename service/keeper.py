"""Changes to the models in the home folder: install, delete, make the default, roll back.

Every change is one rename, so that a service that is killed at any moment finds the models as they were before or as
they are after. What a killed service left half done is put right by `recover`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import tempfile
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.package import MANIFEST_FILE, ModelPackage, manifest_text
from models.store import DEFAULT_ALIAS, ModelStore
from service.errors import (
    ModelExistsError,
    ModelInUseError,
    NoPreviousDefaultError,
    NotTranscribableError,
    ProtectedModelError,
    QuarantinedError,
)
from service.files import sync, sync_tree, write_whole
from service.hosted import NETWORK, HostedModel, ModelState
from service.hub import Hub
from service.origin import Origin, Placement

logger = logging.getLogger(__name__)

TRANSPORT_FILE: Final = "model.dtz"
REPORT_FILE: Final = "report.json"

_INCOMING = ".incoming-"
_OLD = ".old-"
_DELETED = ".deleted-"
_HISTORY = 100
_USABLE = (ModelState.READY, ModelState.LOADING, ModelState.UNLOADED)
# A model's name has 64 characters at most, the number behind it included.
_LONGEST_WISH = 59


@dataclass(frozen=True, slots=True)
class Product:
    """What a job made.

    Attributes:
        package: folder of the model package.
        transport: the model as one stream.
        report: the report.
    """

    package: Path
    transport: Path
    report: Path


@dataclass(frozen=True, slots=True)
class Installed:
    """Where a model went.

    Attributes:
        name: what it is called.
        hosted: whether it can answer.
    """

    name: str
    hosted: bool


class ModelKeeper:
    """Keeps the models of one home, and what the hub hosts in step with them."""

    def __init__(self, home_models: Path, store: ModelStore, hub: Hub) -> None:
        """`home_models` is the first folder of `store`, the only one that is ever changed."""
        self._folder = home_models
        self._store = store
        self._hub = hub
        self._lock = asyncio.Lock()

    def taken(self, name: str) -> bool:
        """Whether there is a model of that name."""
        return name in self._store.names()

    def removable(self, model: HostedModel) -> bool:
        """Whether `delete` would take that model away."""
        return (
            model.name != self._hub.default_name
            and model.state is not ModelState.UNLOADING
            and self._is_ours(model.name)
        )

    def require_replaceable(self, name: str) -> None:
        """See that the model `name` may be replaced.

        Raises:
            ProtectedModelError: it came with DeepThin.
        """
        if self.taken(name) and not self._is_ours(name):
            raise ProtectedModelError(f"model {name} came with DeepThin and cannot be replaced", param="spec.name")

    def free_name(self, wish: str, besides: Container[str] = ()) -> str:
        """`wish`, with a number behind it if there is a model of that name or it is in `besides`."""
        candidates = (wish, *(f"{wish[:_LONGEST_WISH]}-{number}" for number in range(2, 10_000)))
        return next(name for name in candidates if not self.taken(name) and name not in besides)

    async def install(self, product: Product, origin: Origin, *, replace: bool) -> Installed:
        """Put a model among the others and, if its origin says so, host it.

        One that is not to be hosted never takes the place of another: it gets a name of its own. Installing the same
        again, after the service died in between, changes nothing.

        Raises:
            ModelExistsError: another model has that name, and `replace` is off.
            TooManyModelsError: no more models may be hosted.
            DeepThinError: the model cannot be loaded.
        """
        async with self._lock:
            draft = await asyncio.to_thread(self._draft, product, origin, replace)
            try:
                name = draft.manifest.name
                if self.taken(name) and not replace and name != self._made_by(origin.job):
                    raise ModelExistsError(f"a model {name!r} has appeared meanwhile", param="name")
                hosted = origin.placement is Placement.HOSTED and draft.manifest.family != NETWORK
                if hosted:
                    await self._hub.host(draft, lambda: self._publish(draft))
                else:
                    await asyncio.to_thread(self._publish, draft)
                    self._hub.show(name)
                return Installed(name, hosted)
            finally:
                shutil.rmtree(draft.path.parent, ignore_errors=True)

    async def delete(self, name: str) -> None:
        """Delete a model; requests that use it end on it first.

        Raises:
            UnknownModelError: there is no such model.
            ProtectedModelError: it came with DeepThin.
            ModelInUseError: it is the default, or on its way out.
        """
        async with self._lock:
            model = self._hub.get(name)
            self._require_removable(model)
            if not self._is_ours(model.name):
                raise ProtectedModelError(f"model {model.name} came with DeepThin and cannot be deleted", param="name")
            grave = Path(tempfile.mkdtemp(prefix=_DELETED, dir=self._folder))
            (self._folder / model.name).rename(grave / model.name)
            sync(self._folder)
            model.state = ModelState.UNLOADING
        await self._hub.unload(model.name)
        await asyncio.to_thread(shutil.rmtree, grave, ignore_errors=True)

    async def promote(self, name: str, *, accept_quarantined: bool) -> HostedModel:
        """Make a model the default, hosting it first if it is not; the model.

        Raises:
            UnknownModelError: there is no such model.
            QuarantinedError: it is quarantined, and `accept_quarantined` is off.
            NotTranscribableError: it has no decoder.
            ModelNotReadyError: it cannot answer.
            TooManyModelsError: no more models may be hosted.
        """
        async with self._lock:
            model = self._hub.get(name)
            if model.state is ModelState.QUARANTINED and not accept_quarantined:
                raise QuarantinedError(
                    f"model {model.name} is quarantined: {model.reason}; accept_quarantined=true hosts it all the same",
                    param="accept_quarantined",
                )
            if model.held:
                await self._host_held(model)
            model = await self._hub.loaded(model.name)
            history = self._store.defaults()
            if model.name != self._hub.default_name or model.name != next(iter(history), None):
                before = [self._hub.default_name, *history] if self._hub.default_name else list(history)
                self._set_default([model.name, *before])
            return model

    async def roll_back(self) -> HostedModel:
        """Make the model the default that was it before; that model.

        Raises:
            NoPreviousDefaultError: no earlier default can answer.
            ModelNotReadyError: it is still loading.
        """
        async with self._lock:
            hosted = {model.name: model for model in self._hub.models()}
            history = self._store.defaults()
            for position, name in enumerate(history[1:], 1):
                model = hosted.get(name)
                # Deleted since, or broken: the one before it, then.
                usable = model is not None and model.state in _USABLE
                if usable and name != self._hub.default_name:
                    await self._hub.loaded(name)
                    self._set_default(list(history[position:]))
                    return hosted[name]
            raise NoPreviousDefaultError("there is no earlier default model that could answer")

    def recover(self) -> None:
        """Finish or undo what a service that was killed left half done. Call it with the lock of the supervisor."""
        if not self._folder.is_dir():
            return
        for entry in sorted(self._folder.iterdir()):
            if entry.name.startswith(_OLD):
                for package in entry.iterdir():
                    if not (self._folder / package.name).exists():
                        package.rename(self._folder / package.name)
            if entry.name.startswith((_INCOMING, _OLD, _DELETED)):
                shutil.rmtree(entry, ignore_errors=True)

    def _draft(self, product: Product, origin: Origin, replace: bool) -> ModelPackage:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Beside the other models, so that decoding graphs are found and a rename is enough.
        folder = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self._folder))
        try:
            manifest = ModelPackage.load(product.package).manifest
            if replace and origin.placement is not Placement.HOSTED and self.taken(manifest.name):
                name = self._made_by(origin.job) or self.free_name(manifest.name)
                manifest = manifest.model_copy(update={"name": name})
            draft = folder / manifest.name
            draft.mkdir()
            for file in manifest.files:
                shutil.copyfile(product.package / file, draft / file)
            (draft / MANIFEST_FILE).write_bytes(manifest_text(manifest))
            shutil.copyfile(product.transport, draft / TRANSPORT_FILE)
            shutil.copyfile(product.report, draft / REPORT_FILE)
            origin.write(draft)
            sync_tree(folder)
            return ModelPackage.load(draft)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _publish(self, draft: ModelPackage) -> ModelPackage:
        name = draft.manifest.name
        target = self._folder / name
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=_OLD, dir=self._folder))
            target.rename(old / name)
            draft.path.rename(target)
            sync(self._folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            draft.path.rename(target)
            sync(self._folder)
        return ModelPackage(target, draft.manifest)

    async def _host_held(self, model: HostedModel) -> None:
        package, manifest = model.package, model.manifest
        if package is None or manifest is None or manifest.family == NETWORK:
            raise NotTranscribableError(f"model {model.name} is {model.state}: {model.reason}", param="name")
        origin = Origin.read(package.path)

        def publish() -> ModelPackage:
            Origin(origin.job if origin else "", Placement.HOSTED).write(package.path)
            return package

        await self._hub.host(package, publish)

    def _require_removable(self, model: HostedModel) -> None:
        if model.name == self._hub.default_name:
            raise ModelInUseError(f"model {model.name} is the default: promote another one first", param="name")
        if model.state is ModelState.UNLOADING:
            raise ModelInUseError(f"model {model.name} is being deleted already", param="name")

    def _set_default(self, names: list[str]) -> None:
        lines = [name for index, name in enumerate(names) if index == 0 or name != names[index - 1]]
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / DEFAULT_ALIAS, "".join(f"{name}\n" for name in lines[:_HISTORY]).encode())
        self._hub.default_name = names[0]

    def _is_ours(self, name: str) -> bool:
        return (self._folder / name).is_dir()

    def _made_by(self, job: str) -> str | None:
        for name in self._store.names():
            origin = Origin.read(self._store.folder(name))
            if origin is not None and origin.job == job:
                return name
        return None


def safe_stem(filename: str) -> str:
    """What of an uploaded file's name can be part of a model's name."""
    stem = Path(filename.replace("\\", "/")).stem.lower()
    return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("._-")[:32].rstrip("._-") or "model"
