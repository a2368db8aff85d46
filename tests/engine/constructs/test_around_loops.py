"""How loops stand in the graph: their ways in and out, joins behind them, loops that are skipped, and loops that fail."""

from typing import Any

import pytest

from flowcraft_sdk import NodeContext, NodeResult, RunStatus
from tests.engine.constructs.test_inside_loops import BASE, loop
from tests.engine.defects.graphs import TIMEOUT, Make, answer, boom, graph, joined, ran, says

AROUND = {**BASE, "boom": boom}
ROUND = {"lc": loop("(n ?? 0) < 3"), "t": "tick"}
WAYS = ("lc t continue", "t lc")


def execute(environment: Make, g: dict[str, Any], handlers: dict[str, Any] | None = None, **ctx: Any) -> Any:
    """The final snapshot of a run, with its context."""
    handle = environment(blueprints=g, handlers={**AROUND, **(handlers or {})}).client.start("g", ctx)
    handle.wait(timeout=TIMEOUT)
    return handle.describe(ctx=True)


def test_a_loop_that_is_not_entered_is_skipped_with_all_that_hangs_on_it(environment: Make) -> None:
    nodes = {"r": "route", **ROUND, "end": "name", "after": "name", "other": "name", "j": "name"}
    g = graph(nodes, "r lc in", "r other out", *WAYS, "lc end break", "end after", "after j", "other j")
    done = execute(environment, g, {"route": says("out")})
    assert done.status is RunStatus.COMPLETED
    assert ran(done) == {"r", "other", "j"}


def test_two_ways_in_of_which_one_is_taken(environment: Make) -> None:
    nodes = {"r": "route", "a": "name", "b": "name", **ROUND, "end": "name"}
    g = graph(nodes, "r a x", "r b y", "a lc", "b lc", *WAYS, "lc end break")
    done = execute(environment, g, {"route": says("x")})
    assert (done.status, done.ctx["n"], done.ctx["end"]) == (RunStatus.COMPLETED, 3, "end")


def test_two_ways_in_that_are_both_taken_enter_once(environment: Make) -> None:
    nodes = {"s": "name", "a": "name", "b": "wait", **ROUND, "end": "name"}
    g = graph(nodes, "s a", "s b", "a lc", "b lc", *WAYS, "lc end break")
    env = environment(blueprints=g, handlers=AROUND)
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    answer(env, handle.run_id, "b", b"1")
    assert handle.result(timeout=TIMEOUT)["n"] == 3
    started = [event.node_id for event in handle.events() if event.type == "node_started"]
    assert started.count("end") == 1


def test_one_loop_after_the_other(environment: Make) -> None:
    def more(ctx: NodeContext) -> None:
        ctx.context.set("m", ctx.context.get("m", 0) + 1)

    nodes = {**ROUND, "l2": loop("(m ?? 0) < 2"), "m2": "more", "end": "name"}
    g = graph(nodes, *WAYS, "lc l2 break", "l2 m2 continue", "m2 l2", "l2 end break")
    done = execute(environment, g, {"more": more})
    assert (done.ctx["n"], done.ctx["m"], done.ctx["end"]) == (3, 2, "end")


@pytest.mark.parametrize("how", ["all", "any"])
def test_a_join_behind_a_loop_and_a_branch_beside_it(environment: Make, how: str) -> None:
    nodes = {"s": "name", **ROUND, "beside": "name", "j": joined("name", how)}
    g = graph(nodes, "s lc", "s beside", *WAYS, "lc j break", "beside j")
    done = execute(environment, g)
    assert (done.status, done.ctx["n"], done.ctx["j"]) == (RunStatus.COMPLETED, 3, "j")


def test_both_ways_out_lead_to_one_join(environment: Make) -> None:
    """Only one of them is taken, whichever: the join fires once the loop is over."""

    def gate(ctx: NodeContext) -> NodeResult:
        return NodeResult(ctx.input, "out" if ctx.input == ctx.context.get("leave_at") else "on")

    nodes = {**ROUND, "gate": "gate", "j": "echo"}
    g = graph(nodes, "lc t continue", "t gate", "gate lc on", "gate j out", "lc j break")
    for leave_at, last in ((2, 2), (9, 3)):
        done = execute(environment, g, {"gate": gate}, leave_at=leave_at)
        assert (done.status, done.ctx["n"]) == (RunStatus.COMPLETED, last)
        assert "j" in ran(done)


def test_a_way_out_of_both_loops_from_the_inner_one(environment: Make) -> None:
    def gate(ctx: NodeContext) -> NodeResult:
        return NodeResult(ctx.input, "out" if ctx.input == 5 else "on")

    nodes = {
        "outer": loop("true"), "inner": loop("n % 3 != 0"), "t": "tick", "gate": "gate", "again": "tick",
        "end": "name", "escaped": "echo",
    }  # fmt: skip
    g = graph(
        nodes, "outer inner continue", "inner t continue", "t gate", "gate inner on", "gate escaped out", "inner again break",
        "again outer", "outer end break",
    )  # fmt: skip
    done = execute(environment, g, {"gate": gate}, n=0)
    assert (done.status, done.ctx["escaped"]) == (RunStatus.COMPLETED, 5)
    assert "end" not in ran(done)


def test_a_node_that_hangs_on_the_loop_s_inside_runs_in_each_round_and_what_is_behind_the_loop_once(
    environment: Make,
) -> None:
    nodes = {**ROUND, "side": "note", "side2": "echo", "end": "name"}
    g = graph(nodes, *WAYS, "t side", "side side2", "lc end break")
    done = execute(environment, g)
    assert (done.ctx["seen"], done.ctx["side2"], done.ctx["end"]) == ([1, 2, 3], 3, "end")


def test_an_entry_point_that_is_named(environment: Make) -> None:
    g = graph({"a": "tick", "b": "echo", "z": "name"}, metadata={"cycleEntryPoints": ["b"]})
    g["edges"] = [
        {"source": "a", "target": "b"},
        {"source": "b", "target": "a", "condition": "(n ?? 0) < 2"},
        {"source": "b", "target": "z", "condition": "(n ?? 0) >= 2"},
    ]
    handle = environment(blueprints=g, handlers=AROUND).client.start("g")
    assert handle.result(timeout=TIMEOUT)["z"] == "z"
    assert next(event.node_id for event in handle.events() if event.type == "node_started") == "b#0"


def test_a_loop_that_never_goes_round(environment: Make) -> None:
    done = execute(environment, graph({**ROUND, "end": "name"}, *WAYS, "lc end break"), n=3)
    assert (done.status, ran(done)) == (RunStatus.COMPLETED, {"lc", "end"})


def test_the_way_out_carries_the_last_round_s_value(environment: Make) -> None:
    """As the original's builder writes it: both edges of the controller carry the body's output (rule 2.11)."""
    nodes = {"init": "zero", "lc": loop("n < 3"), "t": "see", "end": "echo"}
    g = graph(nodes, "init lc", "t lc")
    g["edges"] += [
        {"source": "lc", "target": "t", "action": "continue", "transform": 'context["t"]'},
        {"source": "lc", "target": "end", "action": "break", "transform": 'context["t"]'},
    ]

    def see(ctx: NodeContext) -> list[Any]:
        ctx.context.set("n", ctx.context.get("n") + 1)
        return [ctx.context.get("n"), ctx.input[0] if ctx.input else None]

    done = execute(environment, g, {"see": see, "zero": lambda ctx: 0}, n=0)
    assert done.ctx["end"] == [3, 2]
    assert done.ctx["_outputs.lc"] is None


@pytest.mark.parametrize("policy", ["stop", "continue"])
def test_a_failure_in_the_second_round(environment: Make, policy: str) -> None:
    """The run has failed; what the first round did stands; nothing behind the loop runs."""

    def second(ctx: NodeContext) -> int:
        if ctx.input == 2:
            raise ValueError("second")
        return int(ctx.input)

    nodes = {**ROUND, "f": "second", "g": "echo", "j": "note", "end": "name", "after": "name"}
    g = graph(nodes, "lc t continue", "t f", "t g", "f j", "g j", "j lc", "lc end break", "end after", onFailure=policy)
    done = execute(environment, g, {"second": second})
    assert done.status is RunStatus.FAILED
    assert [failure.message for failure in done.failures] == ["second"]
    assert done.ctx["seen"] == [1]
    assert not {"end", "after"} & ran(done)


def test_many_rounds(environment: Make) -> None:
    nodes = {"lc": loop("(n ?? 0) < 400"), "t": "tick", "end": "name"}
    done = execute(environment, graph(nodes, *WAYS, "lc end break"))
    assert (done.status, done.ctx["n"]) == (RunStatus.COMPLETED, 400)
