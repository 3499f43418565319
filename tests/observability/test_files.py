"""The files in docker/: written from the code, as Grafana and Prometheus want them, and in step with each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as grafana
from prometheus_client import CollectorRegistry

from service.metrics import Metrics
from service.observability.__main__ import files
from service.observability.alerts import ALERTS
from service.observability.dashboard import DASHBOARD
from service.observability.panels import COLUMNS, DATASOURCE, Kind

DOCKER = Path(__file__).parents[2] / "docker"
SCHEMA = json.loads(Path(__file__).with_name("grafana-11.6.schema.json").read_text(encoding="utf-8"))
COMPOSE = (DOCKER.parent / "docker-compose.yml").read_text(encoding="utf-8")
JSON = DASHBOARD.to_json()

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="there is no promtool here (Debian: apt-get install prometheus)"
)


def promtool(*arguments: str, given: str | None = None) -> str:
    done = subprocess.run(
        ["promtool", *arguments], input=given, cwd=DOCKER / "prometheus", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def check(instance: Any, kind: str) -> None:
    jsonschema.validate(instance, {**SCHEMA, "$ref": f"#/definitions/{kind}"})


@pytest.mark.parametrize("name", files())
def test_the_files_are_what_the_code_makes(name: str) -> None:
    assert (DOCKER / name).read_text(encoding="utf-8") == files()[name], "run `python -m service.observability`"


def test_the_dashboard_is_one_for_grafana() -> None:
    check(JSON, "Dashboard")
    for panel in JSON["panels"]:
        if panel["type"] != "row":
            check(panel["options"], f"{panel['type']}Options")
        if panel["type"] == Kind.LINES:
            check(panel["fieldConfig"]["defaults"]["custom"], "timeseriesField")


def lost(before: Any, after: Any, place: str = "") -> list[str]:
    """Where `after` lacks something of `before`, or has something else."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [(name, f"{place}.{name}") for name in before]
        return [
            there for name, at in names for there in (lost(before[name], after[name], at) if name in after else [at])
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [there for number, pair in pairs for there in lost(*pair, f"{place}[{number}]")]
    return [] if before == after else [place]


def test_grafanas_own_library_reads_all_of_the_dashboard() -> None:
    """What it knows nothing of, or has another type for, would not come back."""
    register_default_plugins()

    def again(instance: dict[str, Any]) -> Any:
        return json.loads(JSONEncoder().encode(grafana.Dashboard.from_json(instance)))

    assert lost(JSON, again(JSON)) == []
    assert lost({**JSON, "tittle": "x"}, again({**JSON, "tittle": "x"})) == [".tittle"]


@pytest.mark.parametrize("change", [{"widht": 3}, {"gridPos": {"x": 0}}, {"type": None}])
def test_the_schema_refuses_what_is_not_in_it(change: dict[str, Any]) -> None:
    panel = next(panel for panel in JSON["panels"] if panel["type"] != "row")
    with pytest.raises(jsonschema.ValidationError):
        check({**panel, **change}, "Panel")


def test_panels_have_places_of_their_own() -> None:
    assert len({panel["id"] for panel in JSON["panels"]}) == len(JSON["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in JSON["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < COLUMNS
        taken |= cells


def test_every_query_names_metrics_that_exist() -> None:
    registry = CollectorRegistry()
    Metrics(registry, instruction_set="scalar")
    known = set()
    for family in registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        known |= {family.name + suffix for suffix in suffixes}
    queries = [query.expr for panel in DASHBOARD.panels for query in panel.queries]
    for text in (*queries, *(alert.expr for alert in ALERTS)):
        named = set(re.findall(r"deepthin_[a-z_]+", text)) - {"deepthin_process"}
        assert named <= known, text


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    source = (DOCKER / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    provider = (DOCKER / "grafana/provisioning/dashboards/deepthin.yml").read_text(encoding="utf-8")
    assert f"uid: {DATASOURCE['uid']}\n" in source
    assert f"type: {DATASOURCE['type']}\n" in source
    assert "url: http://prometheus:9090\n" in source
    (folder,) = re.findall(r"path: (\S+)", provider)
    assert f"- ./docker/grafana/dashboards:{folder}:ro\n" in COMPOSE
    assert f"GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH: {folder}/deepthin.json\n" in COMPOSE
    assert "- ./docker/grafana/provisioning:/etc/grafana/provisioning:ro\n" in COMPOSE


def test_images_are_pinned_and_ports_are_local() -> None:
    images = re.findall(r"^    image: (\S+)$", COMPOSE, re.MULTILINE)
    assert len(images) == 3
    assert [image for image in images if not re.fullmatch(r"deepthin|[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", image)] == []
    ports = re.findall(r'^      - "(\S+:\d+)"$', COMPOSE, re.MULTILINE)
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:${") for port in ports)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    cases = (DOCKER / "prometheus/alerts.test.yml").read_text(encoding="utf-8").split("\n  - name: ")[1:]
    for alert in ALERTS:
        own = [case for case in cases if f"- alertname: {alert.name}\n" in case]
        fires = ["exp_alerts" in case for case in own]
        assert sorted(fires) == [False, True], alert.name
        assert [f"{alert.name} fires" in case for case in own] == fires


@needs_promtool
def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "config", "prometheus.yml")


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")
