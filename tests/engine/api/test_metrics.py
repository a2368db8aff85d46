"""/metrics: what one process reports of the whole deployment, who may read it, and that labels stay few."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flowcraft_sdk import AsyncClient
from flowcraft_sdk.records import BlueprintMetrics, DeploymentMetrics, HandlerMetrics, Histogram
from flowcraft_server.api import metrics
from flowcraft_server.api.app import create_app
from flowcraft_server.api.options import ApiOptions
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings
from tests.engine.api.conftest import TOKENS

BLUEPRINTS = [
    {"id": "good", "nodes": [{"id": "a", "uses": "quick"}, {"id": "b", "uses": "wave"}], "edges": ["a -> b"]},
    {"id": "bad", "nodes": [{"id": "a", "uses": "fails", "config": {"maxRetries": 2}}]},
    {"id": "stuck", "nodes": [{"id": "a", "uses": "quick", "config": {"queue": "nobody"}}]},
]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def wave(_ctx: Any) -> int:
    return 1


def fails(_ctx: Any) -> None:
    raise ValueError("no")


HANDLERS = {"quick": lambda _ctx: 1, "wave": wave, "fails": fails}


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


@pytest.fixture(params=[1, 16])
def env(request: pytest.FixtureRequest, environment: Callable[..., TestEnvironment]) -> TestEnvironment:
    settings = WorkerSettings(heartbeat=0.05, partitions=request.param)
    return environment(blueprints=BLUEPRINTS, handlers=HANDLERS, partitions=request.param, settings=settings)


@pytest.fixture
def api(env: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(metrics, "KEPT_SECONDS", 0.0)
    app = create_app(AsyncClient(env.url, namespace=env.namespace), ApiOptions(tokens=TOKENS, namespace=env.namespace))
    with TestClient(app, base_url="http://10.0.0.7") as client:
        yield client


def until_counted(api: TestClient, env: TestEnvironment, attempts: int) -> Samples:
    """The metrics, once the worker has added its counts."""
    while True:
        env.workers[0].wake()
        found = samples(api.get("/metrics").text)
        if sum(value for (name, _), value in found.items() if name == "flowcraft_node_attempts_total") >= attempts:
            return found


def test_it_reports_for_the_whole_deployment(env: TestEnvironment, api: TestClient) -> None:
    for run in [env.client.start("good") for _ in range(3)]:
        run.result(timeout=60)
    bad = env.client.start("bad")
    bad.wait(timeout=60)
    stuck = env.client.start("stuck")
    answer = api.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = until_counted(api, env, 8)
    assert of(found, "flowcraft_redis_up") == 1
    assert of(found, "flowcraft_runs", status="completed") == 3 and of(found, "flowcraft_runs", status="queued") == 1
    assert of(found, "flowcraft_runs_ended_total", blueprint="good", status="completed") == 3
    assert of(found, "flowcraft_runs_ended_total", blueprint="bad", status="failed") == 1
    assert of(found, "flowcraft_run_duration_seconds_bucket", blueprint="good", le="+Inf") == 3
    for handler, outcomes in (
        ("quick", {"completed": 3}),
        ("wave", {"completed": 3}),
        ("fails", {"retried": 1, "failed": 1}),
    ):
        for outcome, count in outcomes.items():
            assert of(found, "flowcraft_node_attempts_total", handler=handler, outcome=outcome) == count
        for name in ("duration", "queue_delay"):
            assert of(found, f"flowcraft_node_{name}_seconds_count", handler=handler) == sum(outcomes.values())
            assert of(found, f"flowcraft_node_{name}_seconds_sum", handler=handler) >= 0
    assert of(found, "flowcraft_queue_ready_nodes", queue="nobody") == 1
    assert (
        of(found, "flowcraft_queue_workers", queue="nobody") == 0
        and of(found, "flowcraft_queue_workers", queue="default") == 1
    )
    env.clock.advance(100)
    later = samples(api.get("/metrics").text)
    assert of(later, "flowcraft_queue_oldest_age_seconds", queue="nobody") >= 100
    assert of(found, "flowcraft_workers") == 1 and of(found, "flowcraft_redis_memory_bytes") > 0
    assert of(found, "flowcraft_redis_script_calls_total") > 0
    stuck.cancel()


def test_probes_need_no_token_and_the_route_of_the_api_does(env: TestEnvironment, api: TestClient) -> None:
    assert api.get("/metrics", headers={"host": "10.1.2.3:8088"}).status_code == 200
    local = {"host": "localhost"}
    assert api.get("/api/v1/metrics/prometheus", headers=local).status_code == 401
    bearer = {"authorization": f"Bearer {TOKENS[0].secret}", **local}
    assert "flowcraft_info" in api.get("/api/v1/metrics/prometheus", headers=bearer).text
    assert api.get("/api/v1/metrics", headers=bearer).json()["workers"] == 1
    options = ApiOptions(tokens=TOKENS, namespace=env.namespace, metrics=False)
    with TestClient(
        create_app(AsyncClient(env.url, namespace=env.namespace), options), base_url="http://localhost"
    ) as off:
        answer = off.get("/metrics")
        assert answer.status_code == 404 and "api.metrics is off" in answer.json()["detail"]
        assert off.get("/api/v1/metrics/prometheus", headers=bearer).status_code == 200


def test_without_redis_it_says_so() -> None:
    app = create_app(AsyncClient("redis://127.0.0.1:1"), ApiOptions())
    with TestClient(app, base_url="http://localhost") as client:
        found = samples(client.get("/metrics").text)
    assert of(found, "flowcraft_redis_up") == 0 and {name for name, _ in found} == {
        "flowcraft_redis_up",
        "flowcraft_info",
    }


def test_there_are_no_more_labels_than_allowed() -> None:
    histogram = Histogram(buckets={0.003: 2, 7000.0: 1}, count=3, sum=7000.0)
    found = DeploymentMetrics(
        runs={},
        blueprints=tuple(
            BlueprintMetrics(blueprint_id=f"b{n}", ended={"failed": 3}, durations=histogram) for n in range(500)
        ),
        handlers=tuple(
            HandlerMetrics(handler=f"h{n}", attempts={"failed": 3}, durations=histogram, delays=histogram)
            for n in range(500)
        ),
    )
    registry = CollectorRegistry()
    registry.register(metrics._Found(found))
    text = generate_latest(registry).decode()
    for label in ("blueprint", "handler"):
        assert len(set(re.findall(rf'{label}="([^"]+)"', text))) == metrics.MOST_LABELS + 1
    said = samples(text)
    assert of(said, "flowcraft_runs_ended_total", blueprint="(others)", status="failed") == 900
    assert of(said, "flowcraft_node_duration_seconds_bucket", handler="h1", le="0.005") == 2
    assert of(said, "flowcraft_node_duration_seconds_bucket", handler="h1", le="1800") == 2
    assert of(said, "flowcraft_node_duration_seconds_count", handler="(others)") == 900
    assert of(said, "flowcraft_node_duration_seconds_sum", handler="h1") == 7000
