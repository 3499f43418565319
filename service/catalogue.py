"""Which models there are, under which names, and which of them is the default."""

from __future__ import annotations

import logging

from models.errors import UnknownModelError
from models.package import Manifest
from models.store import DEFAULT_ALIAS, ModelStore
from ops.errors import DeepThinError
from service.errors import TooManyModelsError
from service.hosted import NETWORK, HostedModel, ModelState
from service.metrics import Metrics
from service.origin import Origin, Placement

logger = logging.getLogger(__name__)


class Catalogue:
    """The models that clients can name.

    Attributes:
        default_name: the one that the alias `default` stands for; None while there is none.
    """

    def __init__(self, store: ModelStore, metrics: Metrics, *, wanted: tuple[str, ...], max_models: int) -> None:
        """Choose the models `wanted` of `store`, or all when that is empty; host `max_models` of them at most."""
        self._store = store
        self._metrics = metrics
        self._max_models = max_models
        self._wanted = wanted
        self._models: dict[str, HostedModel] = {}
        self.default_name: str | None = None

    def models(self) -> list[HostedModel]:
        """All models, the default first."""
        return sorted(self._models.values(), key=lambda model: model.name != self.default_name)

    def get(self, name: str) -> HostedModel:
        """The hosted model `name`, which may be the alias `default`.

        Raises:
            UnknownModelError: no such model is hosted.
        """
        real = self.default_name if name == DEFAULT_ALIAS else name
        if real is None or real not in self._models:
            known = ", ".join(self._models) or "none"
            raise UnknownModelError(f"no model {name!r} is hosted here; hosted: {known}")
        return self._models[real]

    def require_room(self, replacing: str | None = None) -> None:
        """See that one model more may be hosted, in the place of the model `replacing` if that is hosted.

        Raises:
            TooManyModelsError: it may not.
        """
        hosted = [model.name for model in self._models.values() if not model.held]
        if replacing not in hosted and len(hosted) >= self._max_models:
            raise TooManyModelsError(f"{len(hosted)} models are hosted, and no more may (DEEPTHIN_MAX_MODELS)")

    def show(self, name: str) -> None:
        """List the model `name`, which is in the store, for download alone."""
        self._models[name] = self._read(name)

    def parent_of(self, manifest: Manifest) -> Manifest | None:
        """Manifest of the dense parent, if the parent is hosted too."""
        parent = self._models.get(manifest.parent or "")
        return None if parent is None else parent.manifest

    def _choose(self) -> list[str]:
        known = self._store.names()
        # A model that a job made stays hosted until it is deleted, whatever else is wanted.
        made = [name for name in known if Origin.read(self._store.folder(name)) is not None]
        names = list(dict.fromkeys((*self._wanted, *made) if self._wanted else known))
        default = self._store.default()
        if DEFAULT_ALIAS in names:
            names.remove(DEFAULT_ALIAS)
            if default is not None and default not in names:
                names.insert(0, default)
        self.default_name = default if default in names else next(iter(names), None)
        # The default loads first: it alone decides readiness.
        names.sort(key=lambda name: name != self.default_name)
        if not names:
            logger.warning("no models found in %s", ", ".join(str(root) for root in self._store.roots))
        return names

    def _read(self, name: str) -> HostedModel:
        model = HostedModel(name)
        try:
            model.package = self._store.load(name)
        except DeepThinError as error:
            logger.error("model cannot be hosted", extra={"model": name, "reason": str(error)})
            model.fail(str(error))
            return model
        origin = Origin.read(model.package.path)
        if origin is not None and origin.placement is not Placement.HOSTED:
            model.state, model.reason = ModelState(origin.placement.value), "; ".join(origin.reasons)
        elif model.package.manifest.family == NETWORK:
            model.state, model.reason = ModelState.STORED, "it has no decoder: a network for download"
        else:
            self._metrics.model_ready.labels(name, model.package.manifest.method).set(0)
        return model

    def _read_all(self) -> dict[str, HostedModel]:
        models = {name: self._read(name) for name in self._choose()}
        if self.default_name is not None and models[self.default_name].held:
            self.default_name = next((model.name for model in models.values() if not model.held), None)
        hosted = [name for name in models if not models[name].held]
        hosted.sort(key=lambda name: name != self.default_name)
        for name in hosted[self._max_models :]:
            self._metrics.forget_model(name)
            del models[name]
        if len(hosted) > self._max_models:
            logger.warning("hosting %d of %d models (DEEPTHIN_MAX_MODELS)", self._max_models, len(hosted))
        return models
