"""Which models must leave memory so that another one fits, the longest unused first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from models.errors import PackageError
from models.package import ModelPackage
from models.store import graph_bytes
from service.hosted import HostedModel


class MemoryBudget:
    """Counts weights and decoding graphs by the packages' own figures; what one request needs comes on top."""

    def __init__(self, limit: int) -> None:
        """At most `limit` bytes; 0 for as many as there are."""
        self._limit = limit

    def fits(self, packages: Collection[ModelPackage]) -> bool:
        """Whether all of `packages` may be in memory at once."""
        return not self._limit or _bytes(packages) <= self._limit

    def victims(self, wanted: ModelPackage, loaded: Sequence[HostedModel], kept: str | None) -> list[HostedModel]:
        """Those of `loaded` to unload before `wanted` is loaded.

        The model called `kept` stays, and so do those that are still loading. Models that no request uses go first;
        when one goes that is in use, its memory is given back as soon as its last request has ended.
        """
        candidates = [model for model in loaded if model.name != kept and model.recogniser is not None]
        candidates.sort(key=lambda model: (model.references > 0, model.last_used))
        staying, leaving = list(loaded), []
        for candidate in candidates:
            if self.fits([wanted, *_packages(staying)]):
                break
            staying.remove(candidate)
            leaving.append(candidate)
        for candidate in reversed(leaving.copy()):
            # A large one that went later may have been enough.
            if self.fits([wanted, *_packages([*staying, candidate])]):
                leaving.remove(candidate)
                staying.append(candidate)
        return leaving


def _packages(models: Iterable[HostedModel]) -> list[ModelPackage]:
    return [model.package for model in models if model.package is not None]


def _bytes(packages: Iterable[ModelPackage]) -> int:
    total, graphs = 0, {}
    for package in packages:
        total += package.manifest.weights.resident_bytes
        if package.manifest.graph is not None:
            # Models that share a graph share its memory.
            graphs[package.manifest.graph] = _graph_bytes(package)
    return total + sum(graphs.values())


def _graph_bytes(package: ModelPackage) -> int:
    try:
        return graph_bytes(package.manifest.graph or "", package.path)
    except PackageError:
        return 0  # Loading it will fail, and say why.
