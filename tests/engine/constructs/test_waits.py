"""Waits and sleeps beside each other, with time-outs, retries and fallbacks, and in runs that end meanwhile."""

from datetime import timedelta
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, RunFailedError, RunStatus
from tests.engine.defects.graphs import TIMEOUT, Make, answer, boom, echo, graph, joined, name, ran

BASE = {"echo": echo, "name": name, "boom": boom}
HOUR = timedelta(minutes=61)


def wait(config: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    """A wait of an hour."""
    return {"uses": "wait", "params": {"timeout": "1h", **params}, "config": config or {}}


def started(environment: Make, g: dict[str, Any], handlers: dict[str, Any] | None = None) -> tuple[Any, Any]:
    """An environment and a run that waits."""
    env = environment(blueprints=g, handlers={**BASE, **(handlers or {})})
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    return env, handle


def test_a_wait_without_an_answer_fails_in_time(environment: Make) -> None:
    env, handle = started(environment, graph({"w": wait(), "z": "name"}, "w z"))
    env.clock.advance(HOUR)
    with pytest.raises(RunFailedError, match="no signal came for 'w'"):
        handle.result(timeout=TIMEOUT)
    assert ran(handle.describe()) == {"w"}


def test_a_wait_without_an_answer_takes_its_edge_for_that(environment: Make) -> None:
    env, handle = started(
        environment, graph({"w": wait(onTimeout="late"), "a": "name", "b": "name"}, "w a late", "w b yes")
    )
    env.clock.advance(HOUR)
    assert handle.result(timeout=TIMEOUT)["a"] == "a"
    assert ran(handle.describe()) == {"w", "a"}


def test_each_attempt_of_a_wait_has_its_time(environment: Make) -> None:
    env, handle = started(environment, graph({"w": wait({"maxRetries": 2}), "z": "echo"}, "w z"))
    env.clock.advance(HOUR)
    env.run_until_idle()
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    answer(env, handle.run_id, "w", b'"second time"')
    assert handle.result(timeout=TIMEOUT)["z"] == "second time"


def test_a_fallback_answers_when_nobody_does(environment: Make) -> None:
    env, handle = started(environment, graph({"w": wait({"fallback": "fb"}), "fb": "why", "z": "echo"}, "w z"), {
        "why": lambda ctx: ctx.context.get("_catch_error")["message"],
    })  # fmt: skip
    env.clock.advance(HOUR)
    assert "no signal came" in handle.result(timeout=TIMEOUT)["z"]
    assert handle.status() is RunStatus.COMPLETED


def test_an_answer_after_the_time_is_too_late(environment: Make) -> None:
    env, handle = started(
        environment, graph({"w": wait(onTimeout="late"), "a": "wait", "b": "name"}, "w a late", "w b yes")
    )
    env.clock.advance(HOUR)
    env.run_until_idle()
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    answer(env, handle.run_id, "w", b"1", "yes")
    answer(env, handle.run_id, "a", b'"a"')
    assert handle.result(timeout=TIMEOUT)["a"] == "a"
    assert "b" not in ran(handle.describe())


def test_two_waits_are_answered_in_any_order(environment: Make) -> None:
    nodes = {"v": "wait", "w": "wait", "z": {"uses": "echo", "inputs": {"v": "v", "w": "w"}}}
    env, handle = started(environment, graph(nodes, "v z", "w z"))
    env.run_until_idle()
    answer(env, handle.run_id, "w", b'"second"')
    env.run_until_idle()
    assert handle.status() is RunStatus.WAITING
    answer(env, handle.run_id, "v", b'"first"')
    assert handle.result(timeout=TIMEOUT)["z"] == {"v": "first", "w": "second"}


def test_an_any_join_behind_a_wait_and_a_sleep(environment: Make) -> None:
    """Whichever is first; the other one is not waited for before the run goes on, but the run ends with it."""
    nodes = {"w": "wait", "s": {"uses": "sleep", "params": {"duration": "1h"}}, "j": joined("note")}
    calls: list[Any] = []

    def note(ctx: NodeContext) -> None:
        calls.append(ctx.input)

    env, handle = started(environment, graph(nodes, "w j", "s j"), {"note": note})
    env.clock.advance(HOUR)
    env.run_until_idle()
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    assert calls == [None]
    answer(env, handle.run_id, "w", b'"late"')
    assert handle.wait(timeout=TIMEOUT).status is RunStatus.COMPLETED
    assert calls == [None]


def test_a_failure_beside_a_wait_ends_the_run_without_an_answer(environment: Make) -> None:
    nodes = {"w": "wait", "s": {"uses": "sleep", "params": {"duration": "1h"}}, "bad": "boom", "z": "name"}
    env, handle = started(environment, graph(nodes, "s bad", "w z"))
    env.clock.advance(HOUR)
    snapshot = handle.wait(timeout=TIMEOUT)
    assert (snapshot.status, snapshot.nodes["w"].status) == (RunStatus.FAILED, "cancelled")


@pytest.mark.parametrize("kind", ["wait", "sleep"])
def test_a_run_s_own_time_ends_what_waits(environment: Make, kind: str) -> None:
    node = "wait" if kind == "wait" else {"uses": "sleep", "params": {"duration": "9h"}}
    env = environment(blueprints=graph({"w": node, "z": "name"}, "w z"), handlers=BASE)
    handle = env.client.start("g", run_timeout=timedelta(hours=1))
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    env.clock.advance(HOUR)
    assert handle.wait(timeout=TIMEOUT).status is RunStatus.TIMED_OUT
    env.clock.advance(timedelta(hours=9))
    env.run_until_idle()
    assert "z" not in ran(handle.describe())


def test_sleeps_side_by_side_end_each_in_its_time(environment: Make) -> None:
    nodes = {f"s{h}": {"uses": "sleep", "params": {"duration": f"{h}h"}} for h in (1, 2, 3)}
    nodes |= {f"z{h}": {"uses": "name"} for h in (1, 2, 3)}
    env, handle = started(environment, graph(nodes, "s1 z1", "s2 z2", "s3 z3"))
    for hours in (1, 2, 3):
        env.run_until_idle()
        env.clock.advance(HOUR)
        if hours < 3:
            env.run_until_idle()
            _until_ran(env, handle, {f"z{h}" for h in range(1, hours + 1)})
    assert handle.wait(timeout=TIMEOUT).status is RunStatus.COMPLETED


def _until_ran(env: Any, handle: Any, nodes: set[str]) -> None:
    for _ in range(2000):
        snapshot = handle.describe()
        if {node for node in ran(snapshot) if node.startswith("z")} == nodes and snapshot.status is RunStatus.WAITING:
            return
        env.run_until_idle()
    raise AssertionError(f"{nodes} did not run")
