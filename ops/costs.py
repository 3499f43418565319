"""How long a product takes on this processor, from the operations it consists of: measured once and kept on disk.

A row, or a block of rows, takes a time of its own and so much for each operation of its taps, its transform and its
banded product. These are found by least squares from products of a few dozen geometries, which takes a second or a few,
and kept in a file of `cache_folder` for this processor, instruction set and library.
"""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ops.layout import Geometry, smallest_size, solve
from ops.library import instruction_set, library_path
from ops.measure import estimate_products, measure_product

Seconds = tuple[float, float, float, float]

_SHAPES: Final = ((512, 512), (1024, 1024), (2048, 2048), (1024, 3072))
_SIZES: Final = (0.03, 0.0195, 0.0099, 0.0057, 0.003, 0.002)
_RANKS: Final = (1, 2)
# More than the lanes of any instruction set, so that all of them are whole blocks.
_BLOCK_ROWS: Final = 32


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds of a row taken by itself, and of a block of rows: each as such, and by operation of `estimate_products`.

    Attributes:
        row: Of a row, its taps, its transform, its band.
        block: The same of a block of rows.
    """

    row: Seconds
    block: Seconds

    def seconds(self, Q: int, R: int, rows: int, choices: list[tuple[int, int]]) -> NDArray[np.float64]:
        """About what a product of ``rows`` rows takes, for each (n, r).

        Raises:
            MeasureError, LibraryMissingError, LibraryMismatchError: As `estimate_products`.
        """
        found: NDArray[np.float64] = estimate_products(Q, R, rows, choices) @ np.array(self.row + self.block)
        return found


def cost_model() -> CostModel:
    """The model of this processor, instruction set and library: the kept one or, where there is none, a measured one.

    A file that is damaged or of something else is measured anew, and one that cannot be written is done without.

    Raises:
        LibraryMissingError, LibraryMismatchError: There is no library to measure with.
    """
    of = {
        "processor": _processor(),
        "instruction_set": instruction_set(),
        "library": _digest(library_path()),
        "path": os.environ.get("DEEPTHIN_OPS_PATH", ""),
    }
    return _cost_model(cache_folder(), tuple(of.items()))


def cache_folder() -> Path:
    """Where measurements lie: ``$DEEPTHIN_HOME/cache``, else ``deepthin`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("DEEPTHIN_HOME"):
        return Path(chosen).expanduser() / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "deepthin"


@lru_cache(maxsize=8)
def _cost_model(folder: Path, key: tuple[tuple[str, str], ...]) -> CostModel:
    of = dict(key)
    name = hashlib.sha256(json.dumps(of).encode()).hexdigest()[:16]
    path = folder / f"costs-{name}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return _read(path, of)
    model = measure()
    with suppress(OSError):
        _write(path, {**of, **asdict(model)})
    return model


def measure() -> CostModel:
    """Measure this processor, a second or a few.

    Raises:
        LibraryMissingError, LibraryMismatchError: There is no library to measure with.
    """
    geometries = [
        solve(Q, R, size, rank)
        for Q, R in _SHAPES
        for size in _SIZES
        for rank in _RANKS
        if size >= smallest_size(Q, R, rank)
    ]
    return CostModel(_four(_fitted(geometries, 1)[:4]), _four(_fitted(geometries, _BLOCK_ROWS)[4:]))


def _four(figures: Sequence[float]) -> Seconds:
    call, taps, transform, band = figures
    return call, taps, transform, band


def _fitted(geometries: list[Geometry], rows: int) -> list[float]:
    """The eight figures of a row and a block with the least squares of relative errors; none is negative."""
    work = np.concatenate([estimate_products(g.Q, g.R, rows, [(g.n, g.r)]) for g in geometries])
    # In turn, and the least of several: what disturbs one measurement does not decide.
    turns = [[measure_product(g, rows, 0.002).seconds for g in geometries] for _ in range(3)]
    relative = work / np.min(turns, axis=0)[:, None]
    used = np.flatnonzero(work.any(axis=0))
    while True:
        found, *_ = np.linalg.lstsq(relative[:, used], np.ones(len(work)), rcond=None)
        if found.min() >= 0:
            break
        used = np.delete(used, found.argmin())
    figures = np.zeros(work.shape[1])
    figures[used] = found
    fitted: list[float] = figures.tolist()
    return fitted


def _read(path: Path, of: dict[str, str]) -> CostModel:
    stored = json.loads(path.read_text(encoding="utf-8"))
    row, block = ([float(value) for value in stored[name]] for name in ("row", "block"))
    figures = np.array([row, block])
    if {key: stored[key] for key in of} != of or figures.shape != (2, 4):
        raise ValueError(f"{path} is of something else")
    if not (np.isfinite(figures).all() and (figures >= 0).all() and figures.any(axis=1).all()):
        raise ValueError(f"{path} holds no times")
    return CostModel(_four(row), _four(block))


def _write(path: Path, content: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".costs-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


@lru_cache(maxsize=1)
def _processor() -> str:
    """The processor as the system names it."""
    lines = []
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    # x86 has a name; ARM has numbers of the maker and of the part.
    wanted = ("model name", "CPU implementer", "CPU part")
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return " ".join([platform.machine(), *(found[key] for key in wanted if key in found)])


@lru_cache(maxsize=8)
def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()[:16]
