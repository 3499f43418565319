"""PromQL that several panels share."""

from __future__ import annotations

from typing import Final

from service.observability.panels import MODELS, RATE

HOSTED: Final = f'model=~"{MODELS}"'
BY_MODEL: Final = "{{model}}"


def quantile(share: float, name: str, *, by: str = "", where: str = "") -> str:
    """The quantile `share` of a histogram over the last minutes, by labels and of the series `where`."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({name}_bucket{{{where}}}[{RATE}])))"


def mean(name: str, by: str, where: str = "") -> str:
    """The mean of what a histogram counted over the last minutes, by labels and of the series `where`."""
    total, count = (f"sum by ({by}) (rate({name}_{part}{{{where}}}[{RATE}]))" for part in ("sum", "count"))
    return f"{total} / {count}"
