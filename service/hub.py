"""Loads hosted models, lends them to requests, and takes them out of memory for others."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from models.memory import return_freed_memory
from models.package import ModelPackage
from models.recognisers import Recogniser, try_out
from models.store import ModelStore
from service.catalogue import Catalogue
from service.errors import ModelNotReadyError, NotTranscribableError
from service.hosted import HostedModel, Lease, ModelState
from service.memory_budget import MemoryBudget
from service.metrics import Metrics

logger = logging.getLogger(__name__)

Loader = Callable[[Path], Recogniser]


class Hub(Catalogue):
    """Loads the models of the catalogue in the background and lends them to requests."""

    def __init__(
        self,
        store: ModelStore,
        metrics: Metrics,
        *,
        wanted: tuple[str, ...],
        max_models: int,
        load: Loader,
        memory: MemoryBudget,
    ) -> None:
        """As for a catalogue; `load` turns a folder into a recogniser, as many as fit into `memory`."""
        super().__init__(store, metrics, wanted=wanted, max_models=max_models)
        self._memory = memory
        self._uses = itertools.count(1)
        self._load_recogniser = load

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the models in the background for as long as the context lasts."""
        self._models = self._read_all()
        loading = asyncio.create_task(self._load_all())
        try:
            yield
        finally:
            tasks = [loading, *(model.loading for model in self._models.values() if model.loading is not None)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def ready(self) -> bool:
        """Whether the default model can answer."""
        model = self._models.get(self.default_name or "")
        return model is not None and model.state is ModelState.READY

    def require_usable(self, name: str) -> HostedModel:
        """The hosted model `name`, if it can answer now or once it has been loaded for it.

        Raises:
            UnknownModelError: no such model is hosted.
            NotTranscribableError: it is here for download alone.
            ModelNotReadyError: it is loading since the start, failed, about to go, or larger than memory may be.
        """
        model = self.get(name)
        if model.held:
            raise NotTranscribableError(f"model {model.name} is {model.state}: {model.reason}", param="model")
        if model.state is ModelState.UNLOADED and not self._memory.fits(self._least_with(model)):
            message = f"model {model.name} does not fit into DEEPTHIN_MEMORY_BUDGET_BYTES beside the default"
            raise ModelNotReadyError(message, param="model")
        if model.state not in (ModelState.READY, ModelState.UNLOADED) and model.loading is None:
            reason = f": {model.reason}" if model.reason else ""
            headers = {"Retry-After": "2"} if model.state is ModelState.LOADING else {}
            raise ModelNotReadyError(f"model {model.name} is {model.state}{reason}", param="model", headers=headers)
        return model

    async def loaded(self, name: str) -> HostedModel:
        """The hosted model `name`, loaded first if it is not; others that ask meanwhile wait for the same loading.

        Raises:
            UnknownModelError, NotTranscribableError, ModelNotReadyError: as `require_usable`.
        """
        while (model := self.require_usable(name)).state is not ModelState.READY:
            if model.loading is None:
                model.loading = asyncio.create_task(self._load_on_demand(model))
            # A client that goes away must not stop what others wait for.
            await asyncio.shield(model.loading)
        return model

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[Lease]:
        """Lend the model `name`, loaded first if it is not; the lease keeps it until it ends.

        Raises:
            UnknownModelError, NotTranscribableError, ModelNotReadyError: as `require_usable`.
        """
        model = await self.loaded(name)
        assert model.recogniser is not None
        model.references += 1
        model.last_used = next(self._uses)
        try:
            yield Lease(model.name, model.recogniser)
        finally:
            model.references -= 1
            if not model.references:
                model._idle.set()
                if model.state is ModelState.UNLOADED:
                    self._metrics.forget_model(model.name)

    async def host(self, draft: ModelPackage, publish: Callable[[], ModelPackage]) -> None:
        """Load and warm the package `draft`, let `publish` move it to where it stays, and host it from then on.

        A model of the same name goes on answering until the new one can; requests that use it end on it. When anything
        fails, it stays.

        Raises:
            TooManyModelsError: no more models may be hosted.
        """
        self.require_room(draft.manifest.name)
        self._make_room(draft)
        recogniser, load_seconds = await asyncio.to_thread(self._load_and_warm, draft)
        package = await asyncio.to_thread(publish)
        recogniser.package = package
        name = package.manifest.name
        model = HostedModel(name, ModelState.READY, package=package, recogniser=recogniser, load_seconds=load_seconds)
        if name in self._models:
            self._metrics.forget_model(name)
        # Leases on the old one keep its recogniser alive until they end.
        self._models[name] = model
        self._publish(model, recogniser)
        logger.info("model ready", extra={"model": name, "seconds": load_seconds})

    async def unload(self, name: str) -> None:
        """Stop hosting the model `name`: refuse new requests, wait for those that use it, drop it and its metrics."""
        model = self.get(name)
        model.state, model.reason = ModelState.UNLOADING, "it is being unloaded"
        if model.package is not None:
            self._metrics.model_ready.labels(model.name, model.package.manifest.method).set(0)
        model._idle.clear()
        if model.references:
            await model._idle.wait()
        model.recogniser = None
        if self._models.get(model.name) is model:
            self._metrics.forget_model(model.name)
            del self._models[model.name]

    async def _load_all(self) -> None:
        for model in self.models():
            if model.package is None or model.state is not ModelState.LOADING:
                continue
            present = [other.package for other in self._in_memory() if other.package is not None]
            if model.name != self.default_name and not self._memory.fits([model.package, *present]):
                self._set_aside(model)
                continue
            await self._load(model, model.package)
            if model.name == self.default_name:
                self._metrics.observe_start()

    def _in_memory(self) -> list[HostedModel]:
        return [model for model in self._models.values() if model.recogniser is not None or model.loading is not None]

    def _least_with(self, model: HostedModel) -> list[ModelPackage]:
        default = self._models.get(self.default_name or "")
        return [one.package for one in (model, default) if one is not None and one.package is not None]

    def _make_room(self, package: ModelPackage) -> None:
        present = [model for model in self._in_memory() if model.name != package.manifest.name]
        for model in self._memory.victims(package, present, self.default_name):
            self._set_aside(model)
            self._metrics.models_unloaded.inc()
            logger.info("model unloaded to make room", extra={"model": model.name, "for": package.manifest.name})

    def _set_aside(self, model: HostedModel) -> None:
        model.state, model.reason = ModelState.UNLOADED, "it is loaded when it is asked for"
        model.recogniser = None
        self._metrics.forget_model(model.name)

    async def _load_on_demand(self, model: HostedModel) -> None:
        assert model.package is not None
        self._make_room(model.package)
        model.state, model.reason = ModelState.LOADING, ""
        try:
            await asyncio.to_thread(return_freed_memory)
            await self._load(model, model.package)
            if model.state is ModelState.READY:
                # Others that were loaded meanwhile made room without this one being there to leave.
                self._make_room(model.package)
        finally:
            model.loading = None

    async def _load(self, model: HostedModel, package: ModelPackage) -> None:
        try:
            loaded = await asyncio.to_thread(self._load_and_warm, package)
        except Exception as error:
            # A broken model must not take the others down, whatever is wrong with it.
            logger.exception("model failed to load", extra={"model": model.name})
            if model.state is ModelState.LOADING:
                model.fail(f"{type(error).__name__}: {error}")
            return
        if model.state is not ModelState.LOADING or self._models.get(model.name) is not model:
            # It was deleted or replaced meanwhile.
            return
        model.recogniser, model.load_seconds = loaded
        model.state = ModelState.READY
        self._publish(model, model.recogniser)
        logger.info("model ready", extra={"model": model.name, "seconds": model.load_seconds})

    def _load_and_warm(self, package: ModelPackage) -> tuple[Recogniser, float]:
        start = time.perf_counter()
        recogniser = self._load_recogniser(package.path)
        # The first run allocates; better now than in somebody's request.
        try_out(recogniser)
        return recogniser, time.perf_counter() - start

    def _publish(self, model: HostedModel, recogniser: Recogniser) -> None:
        manifest = recogniser.manifest
        self._metrics.describe_model(manifest, graph_bytes=recogniser.graph_bytes, load_seconds=model.load_seconds)
        if (parent := self.parent_of(manifest)) is not None:
            self._metrics.compare_model(manifest, parent)
