"""`docs/service.md` names every metric and error code, and no setting, metric or code that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from service import errors
from service.errors import ServiceError
from service.metrics import Metrics
from service.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")


def _section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def test_settings() -> None:
    named = set(re.findall(r"DEEPTHIN_[A-Z_]+", PAGE))
    assert named <= {f"DEEPTHIN_{name.upper()}" for name in Settings.model_fields}


def test_metrics() -> None:
    registry = CollectorRegistry()
    Metrics(registry, instruction_set="scalar")
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in registry.collect()
        if not family.name.startswith("deepthin_process_")
    }
    named = set(re.findall(r"deepthin_[a-z_]+", _section("Metrics")))
    assert named == names | {"deepthin_process_resident_memory_bytes"}


def test_error_codes() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceError)]
    # Nobody receives the answer to a closed connection.
    codes = {(kind.status, kind.code) for kind in kinds if kind.status != 499}
    rows = re.findall(r"^\| (\d{3}) \| (.*) \|$", _section("Errors"), re.MULTILINE)
    named = {(int(status), code) for status, text in rows for code in re.findall(r"`([a-z_]+)`", text)}
    assert named == codes | {(404, "not_found"), (405, "method_not_allowed")}
