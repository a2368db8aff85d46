"""What crosses the border between a run and its child: depth, values, failures, cancelling, waits, loops and batches."""

from datetime import timedelta
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, NodeResult, RunFailedError, RunStatus
from tests.engine.defects.graphs import TIMEOUT, Make, answer, boom, echo, graph, name, ran

BASE = {"echo": echo, "name": name, "boom": boom}


def call(blueprint_id: str, **more: Any) -> dict[str, Any]:
    """A subflow node."""
    params = {"blueprintId": blueprint_id} | more.pop("params", {})
    return {"uses": "subflow", "params": params, **more}


def called(blueprint: dict[str, Any], blueprint_id: str) -> dict[str, Any]:
    """A blueprint under another id."""
    return {**blueprint, "id": blueprint_id}


def tower(levels: int) -> list[dict[str, Any]]:
    """Blueprints `g`, `d1`, `d2` ..., each of which calls the next: so many children below the first run."""
    floors = [graph({"s": call(f"d{level + 1}")}) for level in range(levels)]
    floors.append(graph({"bottom": "echo"}))
    return [called(floor, f"d{level}" if level else "g") for level, floor in enumerate(floors)]


def test_sixteen_levels_are_allowed(environment: Make) -> None:
    handle = environment(blueprints=tower(16), handlers=BASE).client.start("g", {"_inputs.s": "down"})
    assert handle.result(timeout=TIMEOUT)["s"] == "down"


def test_the_seventeenth_is_refused_and_every_level_is_failed(environment: Make) -> None:
    env = environment(blueprints=tower(17), handlers=BASE)
    handle = env.client.start("g")
    with pytest.raises(RunFailedError, match=r"deeper than 16 \(limits\.subflowDepth\)"):
        handle.result(timeout=TIMEOUT)
    statuses = [run.status for run in env.client.list_runs(limit=50)]
    assert statuses == [RunStatus.FAILED] * 17


def test_of_several_terminals_those_that_were_skipped_are_left_out(environment: Make) -> None:
    inner = graph({"r": "route", "x": "name", "y": "name", "z": "name"}, "r x x", "r y y", "r z x")
    env = environment(
        blueprints=[called(inner, "inner"), graph({"s": call("inner"), "z": "echo"}, "s z")],
        handlers={**BASE, "route": lambda ctx: NodeResult(None, "x")},
    )
    assert env.client.execute("g", timeout=TIMEOUT)["z"] == {"x": "x", "z": "z"}


def test_a_child_that_is_older_than_its_blueprint_ends_in_its_own_last_node(environment: Make) -> None:
    """Its children of now end elsewhere; the worker has met those since."""
    older = called(graph({"w": "wait", "old": "echo", "new": "name"}, "w old"), "inner")
    env = environment(blueprints=[older, graph({"s": call("inner")})], handlers=BASE)
    first = env.client.start("g")
    first.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    env.publish(called(graph({"old": "name", "new": "name"}, "old new"), "inner"))
    assert env.client.execute("g", timeout=TIMEOUT)["s"] == "new"
    first.signal("s/w", "answer")
    assert first.result(timeout=TIMEOUT)["s"] == {"old": "answer", "new": "new"}


def test_null_crosses_both_ways(environment: Make) -> None:
    inner = graph({"a": {"uses": "see", "inputs": "k"}})
    params = {"inputs": {"k": "nothing"}, "outputs": {"got": "a", "none": "absent"}}
    env = environment(
        blueprints=[called(inner, "inner"), graph({"s": call("inner", params=params)})],
        handlers={**BASE, "see": lambda ctx: [ctx.input, ctx.context.has("k")]},
    )
    result = env.client.execute("g", {"nothing": None}, timeout=TIMEOUT)
    assert (result["got"], result["none"]) == ([None, True], None)


def test_the_child_s_context_is_its_own(environment: Make) -> None:
    def write(ctx: NodeContext) -> Any:
        before = ctx.context.get("k", "unset")
        ctx.context.set("k", "inner")
        return before

    env = environment(
        blueprints=[called(graph({"w": "write"}), "inner"), graph({"s": call("inner")})],
        handlers={"write": write},
    )
    result = env.client.execute("g", {"k": "outer"}, timeout=TIMEOUT)
    assert (result["k"], result["s"]) == ("outer", "unset")


def test_cancelling_reaches_a_wait_two_levels_down(environment: Make) -> None:
    blueprints = [
        called(graph({"w": "wait", "after": "name"}, "w after"), "two"),
        called(graph({"s": call("two"), "after": "name"}, "s after"), "one"),
        graph({"s": call("one"), "after": "name"}, "s after"),
    ]
    env = environment(blueprints=blueprints, handlers=BASE)
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    env.run_until_idle()
    handle.cancel("enough")
    assert handle.wait(timeout=TIMEOUT).status is RunStatus.CANCELLED
    env.run_until_idle()
    runs = env.client.list_runs(limit=10)
    assert [run.status for run in runs] == [RunStatus.CANCELLED] * 3
    assert all("after" not in ran(env.client.get_handle(run.run_id).describe()) for run in runs)


def test_cancelling_a_child_fails_the_node_that_called_it(environment: Make) -> None:
    env = environment(
        blueprints=[called(graph({"w": "wait"}), "inner"), graph({"s": call("inner"), "z": "name"}, "s z")],
        handlers=BASE,
    )
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    (child,) = handle.describe().children
    env.client.get_handle(child).cancel("not this one")
    with pytest.raises(RunFailedError, match="was cancelled"):
        handle.result(timeout=TIMEOUT)


def test_a_child_s_failure_goes_to_the_fallback_of_the_node_that_called_it(environment: Make) -> None:
    def instead(ctx: NodeContext) -> str:
        return str(ctx.context.get("_catch_error")["message"])

    outer = graph({"s": call("inner", config={"fallback": "fb"}), "fb": "instead", "z": "echo"}, "s z")
    env = environment(blueprints=[called(graph({"a": "boom"}), "inner"), outer], handlers={**BASE, "instead": instead})
    handle = env.client.start("g")
    assert "payment declined" in handle.result(timeout=TIMEOUT)["z"]
    assert handle.status() is RunStatus.COMPLETED


def test_a_failure_in_the_parent_cancels_the_child_that_waits(environment: Make) -> None:
    outer = graph({"s": call("inner"), "z": "name", "w": "wait", "bad": "boom"}, "s z", "w bad")
    env = environment(blueprints=[called(graph({"w": "wait"}), "inner"), outer], handlers=BASE)
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    (child,) = handle.describe().children
    answer(env, handle.run_id, "w", b"1")
    assert handle.wait(timeout=TIMEOUT).status is RunStatus.FAILED
    env.run_until_idle()
    assert env.client.get_handle(child).wait(timeout=TIMEOUT).status is RunStatus.CANCELLED


def test_a_child_of_a_run_that_goes_on_after_failures(environment: Make) -> None:
    """The child decides by its own `onFailure`, the parent by its own."""
    inner = graph({"bad": "boom", "good": "note"}, onFailure="continue")
    noted: list[str] = []

    def note(ctx: NodeContext) -> None:
        noted.append(ctx.node_id)

    outer = graph(
        {"s": call("inner"), "after": "name", "other": "wait", "last": "note"},
        "s after",
        "other last",
        onFailure="continue",
    )
    env = environment(blueprints=[called(inner, "inner"), outer], handlers={**BASE, "note": note})
    handle = env.client.start("g")
    (child,) = _children(env, handle)
    assert env.client.get_handle(child).wait(timeout=TIMEOUT).status is RunStatus.FAILED
    assert noted == ["good"]
    env.run_until_idle()
    answer(env, handle.run_id, "other", b"1")
    snapshot = handle.wait(timeout=TIMEOUT)
    assert snapshot.status is RunStatus.FAILED
    assert noted == ["good", "last"]
    assert snapshot.nodes["after"].status == "skipped"


def _children(env: Any, handle: Any) -> tuple[str, ...]:
    env.run_until_idle()
    return tuple(handle.describe().children)


def test_a_timeout_of_the_calling_node_takes_the_child_along(environment: Make) -> None:
    outer = graph({"s": call("inner", config={"timeout": "1m"}), "z": "name"}, "s z")
    env = environment(blueprints=[called(graph({"w": "wait"}), "inner"), outer], handlers=BASE)
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    (child,) = handle.describe().children
    env.clock.advance(timedelta(minutes=2))
    with pytest.raises(RunFailedError, match=r"subflow 'inner' .* timed out"):
        handle.result(timeout=TIMEOUT)
    assert env.client.get_handle(child).status() is RunStatus.TIMED_OUT


def test_a_child_that_took_too_long_is_tried_again(environment: Make) -> None:
    outer = graph({"s": call("inner", config={"timeout": "1m", "maxRetries": 2}), "z": "echo"}, "s z")
    env = environment(blueprints=[called(graph({"w": "wait"}), "inner"), outer], handlers=BASE)
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    (first,) = handle.describe().children
    env.clock.advance(timedelta(minutes=2))
    assert env.client.get_handle(first).wait(timeout=TIMEOUT).status is RunStatus.TIMED_OUT
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    (second,) = set(handle.describe().children) - {first}
    answer(env, second, "w", b'"in time"')
    assert handle.result(timeout=TIMEOUT)["z"] == "in time"


def test_a_timeout_of_the_defaults_is_not_for_children_and_waits(environment: Make) -> None:
    inner = graph({"w": "wait", "n": {"uses": "sleep", "params": {"duration": "1h"}}}, "w n")
    outer = graph({"s": call("inner"), "z": "echo"}, "s z", defaults={"timeout": "1m"})
    env = environment(blueprints=[{**called(inner, "inner"), "defaults": {"timeout": "1m"}}, outer], handlers=BASE)
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    env.clock.advance(timedelta(hours=2))
    env.run_until_idle()
    answer(env, handle.describe().children[0], "w", b'"late"')
    env.run_until_idle()
    env.clock.advance(timedelta(hours=2))
    assert handle.result(timeout=TIMEOUT)["z"] == "late"


def test_a_sleep_in_a_child_makes_both_runs_wait(environment: Make) -> None:
    inner = graph({"s": {"uses": "sleep", "params": {"duration": "1d"}}, "z": "name"}, "s z")
    env = environment(blueprints=[called(inner, "inner"), graph({"s": call("inner")})], handlers=BASE)
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    (child,) = handle.describe().children
    assert env.client.get_handle(child).wait_for(RunStatus.WAITING, timeout=TIMEOUT) is RunStatus.WAITING
    env.clock.advance(timedelta(days=1, minutes=1))
    assert handle.result(timeout=TIMEOUT)["s"] == "z"


def test_a_map_in_a_child(environment: Make) -> None:
    inner = graph({"m": {"uses": "map", "params": {"uses": "double", "chunkSize": 2}}})
    outer = graph({"a": {"uses": "echo", "inputs": "items"}, "s": call("inner"), "z": "echo"}, "a s", "s z")
    env = environment(
        blueprints=[called(inner, "inner"), outer], handlers={**BASE, "double": lambda ctx: ctx.input * 2}
    )
    assert env.client.execute("g", {"items": [1, 2, 3, 4, 5]}, timeout=TIMEOUT)["z"] == [2, 4, 6, 8, 10]
    assert env.client.execute("g", {"items": []}, timeout=TIMEOUT)["z"] == []


def test_a_child_in_each_round_of_a_loop(environment: Make) -> None:
    """Each round has a child run of its own, with that round's values."""

    def tick(ctx: NodeContext) -> int:
        ctx.context.set("n", ctx.context.get("n") + 1)
        return int(ctx.context.get("n"))

    def note(ctx: NodeContext) -> None:
        ctx.context.set("seen", [*ctx.context.get("seen"), ctx.input])

    inner = graph({"w": {"uses": "tenfold", "inputs": "k"}})
    nodes = {
        "lc": {"uses": "loop-controller", "params": {"condition": "n < 3"}, "config": {"joinStrategy": "any"}},
        "t": "tick", "s": call("inner", params={"inputs": {"k": "n"}}), "z": "note", "end": "name",
    }  # fmt: skip
    env = environment(
        blueprints=[called(inner, "inner"), graph(nodes, "lc t continue", "t s", "s z", "z lc", "lc end break")],
        handlers={**BASE, "tick": tick, "note": note, "tenfold": lambda ctx: ctx.input * 10},
    )
    handle = env.client.start("g", {"n": 0, "seen": []})
    assert handle.result(timeout=TIMEOUT)["seen"] == [10, 20, 30]
    assert len(set(handle.describe().children)) == 3


def test_a_loop_in_a_child_of_a_loop(environment: Make) -> None:
    def tick(ctx: NodeContext) -> int:
        ctx.context.set("n", ctx.context.get("n", 0) + 1)
        return int(ctx.context.get("n"))

    def looped(condition: str, body: Any) -> dict[str, Any]:
        lc = {"uses": "loop-controller", "params": {"condition": condition}, "config": {"joinStrategy": "any"}}
        return graph(
            {"lc": lc, "t": "tick", "b": body, "end": {"uses": "total"}}, "lc t continue", "t b", "b lc", "lc end break"
        )

    env = environment(
        blueprints=[called(looped("(n ?? 0) < 4", "echo"), "inner"), looped("(n ?? 0) < 3", call("inner"))],
        handlers={**BASE, "tick": tick, "total": lambda ctx: ctx.context.get("n")},
    )
    handle = env.client.start("g")
    assert handle.result(timeout=TIMEOUT)["b"] == 4
    assert handle.describe(ctx=True).ctx["n"] == 3
    assert len(handle.describe().children) == 3
