"""Why a run, or a node of it, does not go on: `describe`, the doctor and `flowcraft show` say it."""

import threading
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from flowcraft_sdk import DynamicNode, NodeResult
from flowcraft_server.cli.client import main
from flowcraft_server.config.limits import Limit
from flowcraft_server.store.publish import publish_settings
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

BLUEPRINTS = [
    "id: plain\nnodes: {a: {uses: work}}\n",
    "id: elsewhere\nnodes: {a: {uses: work, config: {queue: gpu}}}\n",
    "id: unknown\nnodes: {a: {uses: not-here}}\n",
    "id: adds\nnodes: {a: {uses: adds}}\n",
    "id: limited\nnodes: {a: {uses: hold, config: {limit: one}}}\n",
    "id: single\nlimits: {concurrentRuns: 1}\nnodes: {a: {uses: wait}}\n",
]


@pytest.fixture
def env() -> Iterator[TestEnvironment]:
    held = threading.Event()
    more = NodeResult(1, dynamic_nodes=[DynamicNode(id="more", uses="not-here")])
    handlers = {"adds": lambda ctx: more, "work": lambda ctx: 1, "hold": lambda ctx: held.wait(20)}
    settings = WorkerSettings(missing_handler_timeout=3600)
    with TestEnvironment(
        blueprints=BLUEPRINTS, handlers=handlers, workers=0, check=False, settings=settings
    ) as environment:
        publish_settings(
            environment.link.redis, environment.partitions, history=True, max_events=100, cancel_grace_ms=1000,
            limits={"one": Limit(max_concurrent=1)},
        )  # fmt: skip
        yield environment
        held.set()


def eventually(found: "threading.Event", condition: object) -> None:
    for _ in range(1000):
        if condition():  # type: ignore[operator]
            return
        found.wait(0.01)
    raise AssertionError("it never came to that")


def test_a_run_that_is_only_queued_says_why(env: TestEnvironment) -> None:
    plain = env.client.start("plain", run_id="plain")
    assert plain.describe().blocked_by == "node 'a': no worker is running"
    env.add_worker()
    assert plain.result(timeout=60) == {"a": 1}
    assert plain.describe().blocked_by is None
    elsewhere = env.client.start("elsewhere", run_id="elsewhere")
    assert elsewhere.describe().nodes["a"].blocked_by == "no worker serves queue 'gpu'"
    assert elsewhere.describe().blocked_by == "node 'a': no worker serves queue 'gpu'"


def test_a_node_without_its_handler_says_so_while_it_waits(env: TestEnvironment) -> None:
    run = env.client.start("unknown", run_id="unknown")
    env.add_worker()
    ticks = threading.Event()
    eventually(ticks, lambda: run.describe().nodes["a"].blocked_by == "no worker has the handler 'not-here'")
    arguments = ["--url", env.url, "--namespace", env.namespace, "show", "unknown"]

    def is_shown() -> bool:  # a worker that has claimed it is about to hand it back
        return "no worker has the handler" in CliRunner().invoke(main, arguments, catch_exceptions=False).output

    eventually(ticks, is_shown)
    assert "handler-missing" in [found.kind for found in env.client.admin.examine("unknown")]


def test_an_added_node_without_its_handler_says_so_too(env: TestEnvironment) -> None:
    run = env.client.start("adds", run_id="adds")
    env.add_worker()
    ticks = threading.Event()

    def reason() -> str | None:
        node = run.describe().nodes.get("more")
        return None if node is None else node.blocked_by

    eventually(ticks, lambda: reason() == "no worker has the handler 'not-here'")


def test_the_doctor_names_what_holds_a_limit(env: TestEnvironment) -> None:
    env.add_worker()
    ticks = threading.Event()
    first, second = (env.client.start("limited", run_id=run_id) for run_id in ("one", "two"))
    eventually(ticks, lambda: str(first.status()) == "running")
    eventually(ticks, lambda: second.describe().nodes["a"].blocked_by == "limit 'one'")
    (found,) = env.client.admin.examine("two")
    assert found.kind == "waits-for-limit"
    assert found.explanation == "node 'a' waits for limit 'one', which is held by node 'a' of run one"
    single = [env.client.start("single", run_id=f"single-{n}") for n in range(2)]
    eventually(ticks, lambda: "now single-0" in str(single[1].describe().blocked_by))
    (found,) = env.client.admin.examine("single-1")
    expected = "it waits to begin: at most 1 concurrent run of blueprint 'single', now single-0"
    assert (found.kind, found.explanation) == ("waits-for-limit", expected)
    assert env.client.admin.examine() == []
