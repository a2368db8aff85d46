"""The board, the alert rules and the scaler name metrics and labels that /metrics has."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flowcraft_sdk import LimitInfo, QueueInfo, Usage, UsageOfDay
from flowcraft_sdk.records import STATES, BlueprintMetrics, DeploymentMetrics, HandlerMetrics, Histogram, UsageTotal
from flowcraft_server.api.metrics import _Found

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
HISTOGRAM = Histogram(buckets={0.1: 1}, count=1, sum=0.1)
FULL = DeploymentMetrics(
    runs=dict.fromkeys(STATES, 1),
    blueprints=(BlueprintMetrics(blueprint_id="b", ended={"completed": 1}, durations=HISTOGRAM),),
    handlers=(HandlerMetrics(handler="h", attempts={"completed": 1}, durations=HISTOGRAM, delays=HISTOGRAM),),
    queues=(QueueInfo(name="q", ready=1, workers=1, oldest_age=1.0, paused_since=datetime.now(UTC)),),
    limits=(LimitInfo(name="l"),),
    usage=tuple(
        UsageOfDay(day=datetime.now(UTC).date(), kind=kind, name=name, usage=Usage(calls=1, usd=0.5))
        for kind, name in (("all", ""), ("blueprint", "b"), ("model", "m"))
    ),
    usage_total=tuple(
        UsageTotal(kind=kind, name=name, usage=Usage(calls=1, usd=0.5))
        for kind, name in (("all", ""), ("blueprint", "b"), ("model", "m"))
    ),
    memory=1, memory_limit=2, script_calls=1, script_seconds=1.0,
)  # fmt: skip
FUNCTIONS = {
    "max", "sum", "rate", "increase", "topk", "histogram_quantile", "vector", "by", "without", "on", "label_values",
    "and", "or", "unless",
}  # fmt: skip
OF_PROMETHEUS = {"job", "instance", "le"}


def exported() -> dict[str, set[str]]:
    """Names of samples with their labels."""
    registry = CollectorRegistry()
    registry.register(_Found(FULL))
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


NAMES = exported()


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    assert group["name"] == "flowcraft"
    return list(group["rules"])


def panels() -> list[dict[str, Any]]:
    return [each for each in json.loads((DEPLOY / "grafana.json").read_text())["panels"] if each["type"] != "row"]


def scaler() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "kubernetes/monitoring/scaled-object.yaml").read_text())["spec"]


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    yield "scaler", scaler()["triggers"][0]["metadata"]["query"]


@pytest.mark.parametrize(
    ("name", "expression"), list(expressions()), ids=lambda value: value if len(value) < 60 else ""
)
def test_each_expression_is_of_metrics_that_exist(name: str, expression: str) -> None:
    plain = re.sub(r'"[^"]*"', '""', expression)
    for opening, closing in ("()", "{}", "[]"):
        assert plain.count(opening) == plain.count(closing), name
    used = re.findall(r"\b(flowcraft_\w+)(?:\{([^}]*)\})?", plain)
    assert used, name
    labels = set[str]()
    for metric, matchers in used:
        assert metric in NAMES, f"{name}: there is no {metric}"
        labels |= NAMES[metric]
        given = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert given <= NAMES[metric] | OF_PROMETHEUS, f"{name}: {metric} has no label {given}"
    for listed in re.findall(r"\b(?:by|without|on) \(([^)]*)\)", plain):
        assert {each.strip() for each in listed.split(",")} <= labels | OF_PROMETHEUS, name
    for metric in re.findall(r"\b(?:rate|increase)\((flowcraft_\w+)", plain):
        assert metric.endswith(("_total", "_bucket")), f"{name}: {metric} is no counter"
    words = set(
        re.findall(r"\b([a-z_]+)\b(?!\s*[=!]~?)", re.sub(r"\{[^}]*\}|\([\w, ]*\)|\[\w+\]|\bflowcraft_\w+", " ", plain))
    )
    assert words <= FUNCTIONS, f"{name}: {words - FUNCTIONS}"


def test_rules_say_what_is_wrong_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        kept = set().union(*(re.findall(r"\w+", found) for found in re.findall(r"by \(([^)]*)\)", rule["expr"])))
        for text in rule["annotations"].values():
            assert set(re.findall(r"\$labels\.(\w+)", text)) <= kept, rule["alert"]


def test_the_board_has_its_panels_beside_each_other() -> None:
    board = json.loads((DEPLOY / "grafana.json").read_text())
    assert {each["name"] for each in board["templating"]["list"]} == {"datasource", "job"}
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}" and all(
            'job=~"$job"' in each["expr"] for each in panel["targets"]
        )


def test_the_page_names_each_metric_and_no_other() -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    listed = set(re.findall(r"`(flowcraft_\w+)`", page))
    assert listed == {re.sub(r"_(bucket|count|sum)$", "", name) for name in NAMES}


def test_manifests_name_the_service_and_the_deployment() -> None:
    service = yaml.safe_load((DEPLOY / "kubernetes/service.yaml").read_text())
    deployment = yaml.safe_load((DEPLOY / "kubernetes/deployment.yaml").read_text())
    monitor = yaml.safe_load((DEPLOY / "kubernetes/monitoring/service-monitor.yaml").read_text())["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert (
        monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
        and monitor["endpoints"][0]["path"] == "/metrics"
    )
    assert scaler()["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaler()["minReplicaCount"] == deployment["spec"]["replicas"]
    assert f'job="{service["metadata"]["name"]}"' in scaler()["triggers"][0]["metadata"]["query"]
