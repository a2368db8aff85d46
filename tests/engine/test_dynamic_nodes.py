"""Nodes that handlers add to their run."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import DynamicNode, NodeResult, RunFailedError, RunStatus
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

Make = Callable[..., TestEnvironment]

PLANNED = {
    "id": "planned",
    "nodes": [{"id": "plan", "uses": "plan"}, {"id": "after", "uses": "see"}],
    "edges": [{"source": "plan", "target": "after"}],
}


def see(ctx: Any) -> Any:
    """The outputs of the dynamic nodes, as a later node sees them."""
    return {name: ctx.context.get(name) for name in ("t0", "t1", "_outputs.t0")}


def double(ctx: Any) -> Any:
    return ctx.input * 2


def planner(*nodes: Any, output: Any = 5, action: str | None = None) -> Any:
    def plan(ctx: Any) -> NodeResult:
        return NodeResult(output, action, dynamic_nodes=nodes)

    return plan


def tools(count: int, **more: Any) -> list[DynamicNode]:
    return [DynamicNode(f"t{i}", "double", **more) for i in range(count)]


def test_they_run_before_the_node_s_edges_fire(environment: Make) -> None:
    env = environment(blueprints=PLANNED, handlers={"plan": planner(*tools(2)), "double": double, "see": see})
    handle = env.client.start("planned")
    result = handle.result(timeout=60)
    assert (result["plan"], result["t0"], result["t1"]) == (5, 10, 10)
    assert result["after"] == {"t0": 10, "t1": 10, "_outputs.t0": 10}
    nodes = handle.describe().nodes
    assert {name: node.status for name, node in nodes.items()} == dict.fromkeys(
        ("plan", "t0", "t1", "after"), "completed"
    )


def test_their_inputs_params_and_the_action(environment: Make) -> None:
    blueprint = {
        "id": "planned",
        "nodes": [{"id": n, "uses": "plan" if n == "plan" else "see"} for n in ("first", "plan", "yes", "no")],
        "edges": [
            {"source": "first", "target": "plan"},
            {"source": "plan", "target": "yes", "action": "yes"},
            {"source": "plan", "target": "no", "action": "no"},
        ],
    }
    blueprint["nodes"][0] = {"id": "first", "uses": "one"}  # type: ignore[index]
    nodes: list[Any] = [
        {"id": "t0", "uses": "reported", "params": {"by": 3}, "inputs": {"a": "first", "b": "key", "c": "plan"}},
        DynamicNode("t1", "reported", inputs="key"),
    ]
    handlers = {
        "one": lambda ctx: 1,
        "plan": planner(*nodes, action="yes"),
        "reported": lambda ctx: [ctx.input, ctx.params.get("by")],
        "see": see,
    }
    env = environment(blueprints=blueprint, handlers=handlers)
    handle = env.client.start("planned", {"key": "k"})
    result = handle.result(timeout=60)
    assert result["t0"] == [{"a": 1, "b": "k", "c": 5}, 3]
    assert result["t1"] == ["k", None]
    assert handle.describe().nodes["no"].status == "skipped"


def test_one_may_read_another_s_output_once_that_is_done_and_add_more(environment: Make) -> None:
    def more(ctx: Any) -> NodeResult:
        return NodeResult(ctx.input + 1, dynamic_nodes=[DynamicNode("t1", "double", inputs="t0")])

    env = environment(
        blueprints=PLANNED,
        handlers={"plan": planner(DynamicNode("t0", "more")), "more": more, "double": double, "see": see},
    )
    result = env.client.start("planned").result(timeout=60)
    assert (result["t0"], result["t1"]) == (6, 12)


def test_a_coroutine_may_add_them_as_well(environment: Make) -> None:
    async def plan(ctx: Any) -> NodeResult:
        await ctx.context.set("written", True)
        return NodeResult(7, dynamic_nodes=tools(1))

    env = environment(blueprints=PLANNED, handlers={"plan": plan, "double": double, "see": see})
    result = env.client.start("planned").result(timeout=60)
    assert (result["plan"], result["t0"], result["written"]) == (7, 14, True)


def test_retries_follow_their_config(environment: Make) -> None:
    tried: list[int] = []

    def flaky(ctx: Any) -> str:
        tried.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return "at last"

    env = environment(
        blueprints=PLANNED,
        handlers={"plan": planner(DynamicNode("t0", "flaky", config={"maxRetries": 3})), "flaky": flaky, "see": see},
    )
    assert env.client.start("planned").result(timeout=60)["t0"] == "at last"
    assert tried == [1, 2, 3]


def test_one_that_fails_fails_the_node_that_added_it(environment: Make) -> None:
    def boom(ctx: Any) -> None:
        raise ValueError("no such tool")

    env = environment(
        blueprints=PLANNED,
        handlers={"plan": planner(DynamicNode("t0", "boom"), *tools(1)[:0]), "boom": boom, "see": see},
    )
    handle = env.client.start("planned")
    with pytest.raises(RunFailedError, match="no such tool"):
        handle.result(timeout=10)
    nodes = handle.describe().nodes
    assert nodes["t0"].status == "failed"
    assert nodes["plan"].status == "failed"
    assert "after" not in nodes or nodes["after"].status != "completed"


def test_its_fallback_catches_that(environment: Make) -> None:
    blueprint = {
        **PLANNED,
        "nodes": [
            {"id": "plan", "uses": "plan", "inputs": "question", "config": {"fallback": "fb"}},
            {"id": "fb", "uses": "fb"},
            {"id": "after", "uses": "echo"},
        ],
    }

    def boom(ctx: Any) -> None:
        raise ValueError("no such tool")

    handlers = {
        "plan": planner(DynamicNode("t0", "boom")),
        "boom": boom,
        "fb": lambda ctx: ["instead", ctx.input],
        "echo": lambda ctx: ctx.input,
    }
    handle = environment(blueprints=blueprint, handlers=handlers).client.start("planned", {"question": 3})
    assert handle.result(timeout=60)["after"] == ["instead", 3]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([DynamicNode("after", "double")], "'after' has the id of another node"),
        ([DynamicNode("t0", "double"), DynamicNode("t0", "double")], "two dynamic nodes 't0'"),
        ([DynamicNode("a b", "double")], "letters, digits"),
        ([{"id": "t0"}], "neither a DynamicNode nor an object"),
        ([{"id": "t0", "uses": "double", "parms": {}}], "neither a DynamicNode nor an object"),
        ([DynamicNode("t0", "double", config={"timeout": "soon"})], "dynamic node 't0' of 'plan'"),
        ([DynamicNode("t0", "double", config={"fallback": "after"})], "only nodes of the blueprint"),
        ([DynamicNode("t0", "double", config={"queue": "fast,slow"})], "'fast,slow' is no name for a queue"),
        ([DynamicNode("t0", "double", config={"queue": 7})], "7 is no name for a queue"),
        (tools(6), r"more than 5 dynamic nodes \(limits\.dynamicNodes\)"),
        ([DynamicNode("t0", "dubble")], "no worker has a handler 'dubble'"),
    ],
)
def test_what_cannot_be_added_fails_the_run_and_says_why(environment: Make, nodes: list[Any], message: str) -> None:
    settings = WorkerSettings(max_nodes=5, missing_handler_timeout=0.0)
    env = environment(
        blueprints=PLANNED, handlers={"plan": planner(*nodes), "double": double, "see": see}, settings=settings
    )
    with pytest.raises(RunFailedError, match=message):
        env.client.start("planned").result(timeout=10)


def test_a_loop_may_add_the_same_ones_in_each_round(environment: Make) -> None:
    blueprint = {
        "id": "rounds",
        "nodes": [{"id": "plan", "uses": "plan", "config": {"joinStrategy": "any"}}, {"id": "judge", "uses": "judge"}],
        "edges": [
            {"source": "plan", "target": "judge"},
            {"source": "judge", "target": "plan", "action": "again"},
            {"source": "judge", "target": "end", "action": "enough"},
        ],
        "metadata": {"cycleEntryPoints": ["plan"]},
    }
    blueprint["nodes"].append({"id": "end", "uses": "judge"})  # type: ignore[attr-defined]

    def plan(ctx: Any) -> NodeResult:
        return NodeResult(ctx.iteration, dynamic_nodes=tools(2))

    def judge(ctx: Any) -> NodeResult:
        return NodeResult(ctx.context.get("t1"), "again" if ctx.iteration < 3 and ctx.node_id == "judge" else "enough")

    env = environment(blueprints=blueprint, handlers={"plan": plan, "double": double, "judge": judge})
    handle = env.client.start("rounds")
    result = handle.result(timeout=60)
    assert result["t1"] == result["judge"] == 2 * result["plan"] > 0


def test_cancelling_ends_them(environment: Make) -> None:
    begun, release = threading.Event(), threading.Event()

    def slow(ctx: Any) -> None:
        begun.set()
        while not release.wait(0.01):
            ctx.check_cancelled()

    env = environment(
        blueprints=PLANNED, handlers={"plan": planner(DynamicNode("t0", "slow")), "slow": slow, "see": see}
    )
    handle = env.client.start("planned")
    assert begun.wait(60)
    assert handle.cancel("enough") is True
    assert handle.wait(timeout=60).status is RunStatus.CANCELLED
    nodes = handle.describe().nodes
    assert nodes["t0"].status == "cancelled"
    assert nodes["plan"].status == "cancelled"


def test_a_worker_that_dies_among_them_loses_none(environment: Make) -> None:
    begun, release = threading.Event(), threading.Event()

    def work(ctx: Any) -> Any:
        begun.set()
        release.wait(10)
        return ctx.node_id

    names = [f"t{i}" for i in range(20)]
    env = environment(
        blueprints=PLANNED,
        handlers={"plan": planner(*(DynamicNode(name, "work") for name in names)), "work": work, "see": see},
        settings=WorkerSettings(threads=2),
    )
    handle = env.client.start("planned")
    assert begun.wait(60)
    env.kill_worker()
    release.set()
    env.add_worker()
    env.clock.advance(11.0, keep_leases=False)
    result = handle.result(timeout=60)
    assert [result[name] for name in names] == names


def test_many(environment: Make) -> None:
    env = environment(blueprints=PLANNED, handlers={"plan": planner(*tools(500)), "double": double, "see": see})
    handle = env.client.start("planned")
    assert handle.result(timeout=30)["t499"] == 10
    assert sum(event.type == "node_completed" for event in handle.events(follow=False)) == 502
