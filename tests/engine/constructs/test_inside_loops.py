"""What stands inside a loop begins anew in each round: nothing of the round before shows."""

from datetime import timedelta
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, NodeResult, RunFailedError, RunStatus
from flowcraft_sdk.protocol import scripts
from tests.engine.defects.graphs import TIMEOUT, Make, answer, echo, graph, joined, name, ran


def loop(condition: str, **params: Any) -> dict[str, Any]:
    """A loop-controller."""
    params["condition"] = condition
    return {"uses": "loop-controller", "params": params, "config": {"joinStrategy": "any"}}


def tick(ctx: NodeContext) -> int:
    """Counts rounds in the key `n`."""
    ctx.context.set("n", ctx.context.get("n", 0) + 1)
    return int(ctx.context.get("n"))


def note(ctx: NodeContext) -> Any:
    """Adds its input to the list `seen`."""
    ctx.context.set("seen", [*ctx.context.get("seen", []), ctx.input])
    return ctx.input


BASE = {"echo": echo, "name": name, "tick": tick, "note": note}


def around(nodes: dict[str, Any], *edges: str, rounds: int = 3) -> dict[str, Any]:
    """A loop of so many rounds: `lc` continues to `t`, which counts; the last node leads back to `lc`."""
    whole = {"lc": loop(f"(n ?? 0) < {rounds}"), "t": "tick", **nodes, "end": "name"}
    return graph(whole, "lc t continue", *edges, "lc end break")


def test_three_loops_one_in_the_other(environment: Make) -> None:
    def up(ctx: NodeContext) -> None:
        key = ctx.params["key"]
        ctx.context.set(key, ctx.context.get(key) + 1)
        for below in ctx.params.get("below", ""):
            ctx.context.set(below, 0)

    def work(ctx: NodeContext) -> None:
        ctx.context.set("all", [*ctx.context.get("all"), [ctx.context.get(key) for key in "xyz"]])
        ctx.context.set("z", ctx.context.get("z") + 1)

    g = graph(
        {
            "lx": loop("x < 2"), "ly": loop("y < 3"), "lz": loop("z < 2"), "work": "work",
            "uy": {"uses": "up", "params": {"key": "y", "below": "z"}}, "ux": {"uses": "up", "params": {"key": "x", "below": "yz"}},
            "end": "name",
        },
        "lx ly continue", "ly lz continue", "lz work continue", "work lz", "lz uy break", "uy ly", "ly ux break", "ux lx",
        "lx end break",
    )  # fmt: skip
    handle = environment(blueprints=g, handlers={**BASE, "up": up, "work": work}).client.start(
        "g", {"x": 0, "y": 0, "z": 0, "all": []}
    )
    result = handle.result(timeout=TIMEOUT)
    assert result["all"] == [[x, y, z] for x in range(2) for y in range(3) for z in range(2)]
    assert result["end"] == "end"
    begun = [event.node_id for event in handle.events() if event.type == "node_started"]
    assert begun.count("work#1.2.1") == 1
    assert len([each for each in begun if each.startswith("work#")]) == 12


def test_a_sleep_sleeps_in_each_round(environment: Make) -> None:
    g = around({"s": {"uses": "sleep", "params": {"duration": "1h"}}}, "t s", "s lc")
    env = environment(blueprints=g, handlers=BASE)
    handle = env.client.start("g")
    for done in (1, 2, 3):
        handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
        env.run_until_idle()
        assert handle.describe(ctx=True).ctx["n"] == done
        env.clock.advance(timedelta(minutes=61))
        env.run_until_idle()
    assert handle.result(timeout=TIMEOUT)["n"] == 3


def test_a_wait_takes_an_answer_in_each_round(environment: Make) -> None:
    """An answer of the round before is not taken for one of this round."""
    env = environment(blueprints=around({"w": "wait", "z": "note"}, "t w", "w z", "z lc"), handlers=BASE)
    handle = env.client.start("g")
    for published in (1, 2, 3):
        handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
        env.run_until_idle()
        assert handle.describe(ctx=True).ctx["n"] == published
        call = scripts.signal(
            env.keys, run_id=handle.run_id, instance_id="w", signal_id=f"s{published}", payload=str(published).encode()
        )
        assert env.link.call(call)[0] == b"ok"
        env.run_until_idle()
    assert handle.result(timeout=TIMEOUT)["seen"] == [1, 2, 3]


def test_a_repeated_answer_is_not_taken_for_the_next_round_s(environment: Make) -> None:
    env = environment(blueprints=around({"w": "wait", "z": "note"}, "t w", "w z", "z lc", rounds=2), handlers=BASE)
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    answer(env, handle.run_id, "w", b'"first"')
    env.run_until_idle()
    answer(env, handle.run_id, "w", b'"first again"')
    env.run_until_idle()
    assert handle.describe(ctx=True).ctx["seen"] == ["first"]
    env.link.call(
        scripts.signal(env.keys, run_id=handle.run_id, instance_id="w", signal_id="other", payload=b'"second"')
    )
    assert handle.result(timeout=TIMEOUT)["seen"] == ["first", "second"]


def test_a_fallback_stands_in_only_in_the_round_in_which_the_node_failed(environment: Make) -> None:
    def even(ctx: NodeContext) -> str:
        if ctx.input % 2:
            raise ValueError("odd")
        return f"even {ctx.input}"

    def instead(ctx: NodeContext) -> str:
        return f"{ctx.context.get('_catch_error')['message']} {ctx.input}"

    nodes = {"a": {"uses": "even", "config": {"fallback": "fb"}}, "fb": "instead", "z": "note"}
    env = environment(
        blueprints=around(nodes, "t a", "a z", "z lc", rounds=4), handlers={**BASE, "even": even, "instead": instead}
    )
    handle = env.client.start("g")
    assert handle.result(timeout=TIMEOUT)["seen"] == ["odd 1", "even 2", "odd 3", "even 4"]
    context = handle.describe(ctx=True).ctx
    assert context["_outputs.a"] == "even 4"


def test_a_fallback_s_own_edge_inside_a_loop(environment: Make) -> None:
    """Its own edge and the failed node's both fire, and the round waits for both."""

    def odd(ctx: NodeContext) -> int:
        if ctx.input == 2:
            raise ValueError("two")
        return int(ctx.input)

    nodes = {"a": {"uses": "odd", "config": {"fallback": "fb"}}, "fb": "echo", "own": "note", "z": "echo"}
    g = around(nodes, "t a", "a z", "fb own", "z lc")
    handle = environment(blueprints=g, handlers={**BASE, "odd": odd}).client.start("g")
    assert handle.result(timeout=TIMEOUT)["seen"] == [2]
    assert handle.status() is RunStatus.COMPLETED


def test_an_any_join_fires_once_in_each_round(environment: Make) -> None:
    nodes = {"a": "echo", "b": "echo", "j": joined("note")}
    g = around(nodes, "t a", "t b", "a j", "b j", "j lc")
    assert environment(blueprints=g, handlers=BASE).client.execute("g", timeout=TIMEOUT)["seen"] == [1, 2, 3]


def test_branches_that_change_from_round_to_round(environment: Make) -> None:
    """What was skipped in one round runs in the next, and the join's input is always of this round's branch."""

    def route(ctx: NodeContext) -> NodeResult:
        return NodeResult(ctx.input, "x" if ctx.input % 2 else "y")

    def published(ctx: NodeContext) -> str:
        return f"{ctx.node_id}{ctx.input}"

    nodes = {"r": "route", "x": "published", "y": "published", "j": "note"}
    g = around(nodes, "t r", "r x x", "r y y", "x j", "y j", "j lc", rounds=4)
    result = environment(blueprints=g, handlers={**BASE, "route": route, "published": published}).client.execute(
        "g", timeout=TIMEOUT
    )
    assert result["seen"] == ["x1", "y2", "x3", "y4"]
    assert (result["x"], result["y"]) == ("x3", "y4")


def items(ctx: NodeContext) -> list[Any]:
    """Fewer in each round: four, two, none."""
    return [[1, None, 3, 4], [10, 20], []][ctx.input - 1]


@pytest.mark.parametrize("chunk", [None, 1])
def test_a_map_of_a_list_that_gets_shorter(environment: Make, chunk: int | None) -> None:
    params: dict[str, Any] = {"uses": "echo"} | ({"chunkSize": chunk} if chunk else {})
    nodes = {"i": "items", "m": {"uses": "map", "params": params}, "z": "note"}
    g = around(nodes, "t i", "i m", "m z", "z lc")
    result = environment(blueprints=g, handlers={**BASE, "items": items}).client.execute("g", timeout=TIMEOUT)
    assert result["seen"] == [[1, None, 3, 4], [10, 20], []]


def test_scatter_and_gather_of_a_list_that_gets_shorter(environment: Make) -> None:
    scatter = {"uses": "batch-scatter", "params": {"workerUsesKey": "echo", "gatherNodeId": "ga", "chunkSize": 2}}
    nodes = {"i": "items", "sc": scatter, "ga": {"uses": "batch-gather", "params": {"outputKey": "got"}}, "z": "note"}
    g = around(nodes, "t i", "i sc", "sc ga", "ga z", "z lc")
    result = environment(blueprints=g, handlers={**BASE, "items": items}).client.execute("g", timeout=TIMEOUT)
    assert result["seen"] == [[1, None, 3, 4], [10, 20], []]
    assert result["got"] == []


def test_a_scatter_that_is_caught_in_a_later_round_gathers_nothing_of_the_round_before(environment: Make) -> None:
    params = {"workerUsesKey": "echo", "gatherNodeId": "ga"}
    scatter = {"uses": "batch-scatter", "params": params, "config": {"fallback": "fb"}}
    nodes = {"i": "first_only", "sc": scatter, "ga": "batch-gather", "fb": "name", "z": "note"}
    g = around(nodes, "t i", "i sc", "sc ga", "ga z", "z lc", rounds=2)
    handlers = {**BASE, "first_only": lambda ctx: [1, 2] if ctx.input == 1 else "no list"}
    assert environment(blueprints=g, handlers=handlers).client.execute("g", timeout=TIMEOUT)["seen"] == [[1, 2], []]


def test_attempts_are_counted_in_each_round(environment: Make) -> None:
    attempts: list[tuple[int, int]] = []

    def flaky(ctx: NodeContext) -> int:
        attempts.append((ctx.iteration, ctx.attempt))
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return int(ctx.input)

    nodes = {"a": {"uses": "flaky", "config": {"maxRetries": 3}}, "z": "note"}
    g = around(nodes, "t a", "a z", "z lc")
    assert environment(blueprints=g, handlers={**BASE, "flaky": flaky}).client.execute("g", timeout=TIMEOUT)[
        "seen"
    ] == [1, 2, 3]
    assert attempts == [(i, attempt) for i in range(3) for attempt in (1, 2, 3)]


def test_the_guard_of_a_controller_names_the_loop_and_the_limit(environment: Make) -> None:
    g = graph(
        {"lc": loop("true == true", maxIterations=7), "t": "tick", "end": "name"},
        "lc t continue",
        "t lc",
        "lc end break",
    )
    handle = environment(blueprints=g, handlers=BASE).client.start("g")
    with pytest.raises(RunFailedError, match=r"loop 'lc' went round 7 times \(maxIterations\)"):
        handle.result(timeout=TIMEOUT)
    assert handle.describe(ctx=True).ctx["n"] == 7


def test_a_loop_of_exactly_as_many_rounds_as_the_guard_allows(environment: Make) -> None:
    g = graph(
        {"lc": loop("(n ?? 0) < 7", maxIterations=7), "t": "tick", "end": "name"},
        "lc t continue",
        "t lc",
        "lc end break",
    )
    assert environment(blueprints=g, handlers=BASE).client.execute("g", timeout=TIMEOUT)["end"] == "end"


@pytest.mark.parametrize("limit", [1, 4])
def test_the_guard_of_a_plain_cycle(environment: Make, limit: int) -> None:
    """So many rounds are allowed, and no more."""
    g = graph({"t": {"uses": "tick", "params": {"maxIterations": limit}}, "z": "echo"}, "t z")
    g["edges"].append({"source": "z", "target": "t", "condition": "n < stop"})
    env = environment(blueprints=g, handlers=BASE)
    assert env.client.execute("g", {"stop": limit}, timeout=TIMEOUT)["n"] == limit
    handle = env.client.start("g", {"stop": limit + 1})
    with pytest.raises(RunFailedError, match=rf"loop 't' went round {limit} times \(maxIterations\)"):
        handle.result(timeout=TIMEOUT)
    assert handle.describe(ctx=True).ctx["n"] == limit


def test_a_way_out_of_the_middle_of_a_round(environment: Make) -> None:
    def gate(ctx: NodeContext) -> NodeResult:
        return NodeResult(ctx.input, "out" if ctx.input == 2 else "on")

    g = around({"gate": "gate", "out": "note"}, "t gate", "gate lc on", "gate out out", rounds=9)
    handle = environment(blueprints=g, handlers={**BASE, "gate": gate}).client.start("g")
    assert handle.result(timeout=TIMEOUT)["seen"] == [2]
    snapshot = handle.describe()
    assert snapshot.status is RunStatus.COMPLETED
    assert snapshot.nodes["end"].status == "skipped"


def test_cancelling_in_the_second_round(environment: Make) -> None:
    env = environment(blueprints=around({"w": "wait"}, "t w", "w lc"), handlers=BASE)
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    answer(env, handle.run_id, "w", b"1")
    env.run_until_idle()
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    handle.cancel("enough")
    assert handle.wait(timeout=TIMEOUT).status is RunStatus.CANCELLED
    assert handle.describe(ctx=True).ctx["n"] == 2
    assert "end" not in ran(handle.describe())
