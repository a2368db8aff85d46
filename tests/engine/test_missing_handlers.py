"""Live runs whose handlers are gone since their plan was made: the doctor names the handler, the runs and what to do."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import Defect, RunStatus
from flowcraft_sdk._operations.missing_handlers import missing_handlers
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]


def graph(name: str, nodes: dict[str, Any], *edges: str) -> dict[str, Any]:
    listed = [{"id": node, **({"uses": what} if isinstance(what, str) else what)} for node, what in nodes.items()]
    ends = [edge.split() for edge in edges]
    return {"id": name, "nodes": listed, "edges": [{"source": ends[0], "target": ends[1]} for ends in ends]}


GRAPHS = {
    each["id"]: each
    for each in (
        graph("before", {"w": "wait", "b": "old"}, "w b"),
        graph("after", {"b": "old", "w": "wait"}, "b w"),
        graph("circle", {"b": "old", "w": "wait"}, "b w", "w b"),
        graph("items", {"w": "wait", "m": {"uses": "map", "inputs": "list", "params": {"uses": "old"}}}, "w m"),
        graph("other", {"w": "wait", "b": "new"}, "w b"),
    )
}


@pytest.fixture
def env(environment: Make) -> TestEnvironment:
    return environment(workers=0, handlers={"old": lambda ctx: 1, "new": lambda ctx: 1}, blueprints=GRAPHS)


def replaced(env: TestEnvironment, *blueprints: str) -> list[str]:
    """Runs that wait, and then a worker that has the handler no more."""
    worker = env.add_worker()
    runs = [env.client.start(each, {"list": [1]}) for each in blueprints]
    for run in runs:
        run.wait_for(RunStatus.WAITING, timeout=60)
    worker.drain(5)
    worker.stop()
    env.workers.remove(worker)
    del env.handlers["old"]
    env.add_worker()
    return [run.run_id for run in runs]


def found(env: TestEnvironment, run_id: str | None = None) -> list[Defect]:
    return [defect for defect in env.client.admin.examine(run_id) if defect.kind == "handler-missing"]


def test_the_doctor_says_how_many_runs_need_which_handler(env: TestEnvironment) -> None:
    before, after, circle, items, other = replaced(env, "before", "after", "circle", "items", "other")
    (defect,) = found(env)
    assert (defect.subject, defect.remedy, defect.fixed) == ("old", "", False)
    assert defect.explanation.startswith(
        "3 live runs need the handler 'old', which no worker has any more (blueprint 'before', 'circle', 'items', such as "
    )
    assert {run for run in (before, after, circle, items, other) if found(env, run)} == {before, circle, items}
    assert found(env, before)[0].run_id == before
    for run in (before, circle, items):
        env.client.get_handle(run).cancel()
    env.run_until_idle()
    assert found(env) == []


def test_workers_of_a_release_that_does_not_report_are_asked_nothing(env: TestEnvironment) -> None:
    (run,) = replaced(env, "before")
    assert len(found(env)) == 1
    (worker,) = env.client.workers()
    assert worker.handlers == ("new",)
    env.link.redis.hdel(env.keys.worker(worker.id), "handlers")
    assert found(env) == []
    env.client.get_handle(run).cancel()


def test_only_what_live_runs_need_is_looked_for(env: TestEnvironment) -> None:
    replaced(env, "other")
    operation = missing_handlers(env.client.deployment, {"new"})
    assert env.client.driver.run(operation) == []
