"""Defects by which the original gives wrong results, or has wrong side effects (design notes 3b)."""

import threading
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, NodeResult, RunConflictError, RunFailedError, RunStatus
from flowcraft_server.worker.settings import WorkerSettings
from tests.engine.defects.graphs import TIMEOUT, Make, boom, echo, graph, joined, name, ran


def test_d04_an_any_join_with_three_predecessors(environment: Make) -> None:
    """The third predecessor found a key that the second had made by testing it, and failed the run."""
    g = graph(
        {"s": "name", "a": "name", "b": "name", "c": "name", "j": joined("name")},
        "s a",
        "s b",
        "s c",
        "a j",
        "b j",
        "c j",
    )
    env = environment(blueprints=g, handlers={"name": name})
    for _ in range(10):
        handle = env.client.start("g")
        assert handle.result(timeout=TIMEOUT)["j"] == "j"
        assert handle.status() is RunStatus.COMPLETED


def test_d05_a_node_without_output(environment: Make) -> None:
    """An empty text was stored, which the next node could not parse: the run was lost."""
    env = environment(
        blueprints=graph({"a": "none", "z": "see"}, "a z"),
        handlers={"none": lambda ctx: None, "see": lambda ctx: [ctx.input]},
    )
    result = env.client.start("g").result(timeout=TIMEOUT)
    assert (result["a"], result["z"]) == (None, [None])


def test_d09_scatter_and_gather(environment: Make) -> None:
    """The adapter ignored the nodes that a scatter adds: the run completed with no results."""
    g = graph(
        {
            "sc": {
                "uses": "batch-scatter",
                "inputs": "items",
                "params": {"workerUsesKey": "double", "gatherNodeId": "ga"},
            },
            "ga": {"uses": "batch-gather", "params": {"gatherNodeId": "ga", "outputKey": "results"}},
        },
        "sc ga",
    )
    env = environment(blueprints=g, handlers={"double": lambda ctx: ctx.input * 2})
    assert env.client.start("g", {"items": [1, 2, 3]}).result(timeout=TIMEOUT)["results"] == [2, 4, 6]


def test_d17_a_fallback_runs_once(environment: Make) -> None:
    """It was queued as a start node as well, and ran twice."""
    calls: list[str] = []

    def stand_in(ctx: NodeContext) -> str:
        calls.append(ctx.node_id)
        return "instead"

    g = graph({"a": {"uses": "boom", "config": {"fallback": "fb"}}, "fb": "fb", "z": "echo"}, "a z")
    env = environment(blueprints=g, handlers={"boom": boom, "fb": stand_in, "echo": echo})
    assert env.client.start("g").result(timeout=TIMEOUT)["z"] == "instead"
    assert calls == ["fb"]


def test_d18_a_fallback_that_is_not_needed_does_not_run(environment: Make) -> None:
    """It ran first, as a start node, although the node it stands in for succeeded."""
    g = graph({"a": {"uses": "name", "config": {"fallback": "fb"}}, "fb": "name", "z": "echo"}, "a z")
    handle = environment(blueprints=g, handlers={"name": name, "echo": echo}).client.start("g")
    assert handle.result(timeout=TIMEOUT)["z"] == "a"
    assert ran(handle.describe()) == {"a", "z"}


def test_d19_after_failed_nothing_happens_any_more(environment: Make) -> None:
    """The client received `failed`, and side effects came later: nothing stopped the rest."""
    effects: list[str] = []
    begun, failed = threading.Event(), threading.Event()

    def sibling(ctx: NodeContext) -> None:
        begun.set()
        failed.wait(TIMEOUT)
        while True:
            ctx.check_cancelled()

    def fail(ctx: NodeContext) -> None:
        begun.wait(TIMEOUT)
        failed.set()
        raise ValueError("payment declined")

    def effect(ctx: NodeContext) -> None:
        effects.append(ctx.node_id)

    g = graph({"a": "fail", "b": "sibling", "c": "effect"}, "b c")
    handle = environment(blueprints=g, handlers={"fail": fail, "sibling": sibling, "effect": effect}).client.start("g")
    assert handle.wait(timeout=TIMEOUT).status is RunStatus.FAILED
    assert handle.describe().nodes["b"].status == "cancelled"
    assert effects == []


def test_d22_a_transform_changes_no_blueprint(environment: Make) -> None:
    """`inputs` of the target were overwritten in the worker's own copy, for all runs that came after."""
    g = graph({"r": "route", "x": "name", "y": "name", "j": {"uses": "echo", "inputs": {"x": "x", "y": "y"}}})
    g["edges"] = [
        {"source": "r", "target": "x", "action": "x"},
        {"source": "r", "target": "y", "action": "y"},
        {"source": "x", "target": "j", "transform": "20"},
        {"source": "y", "target": "j"},
    ]
    env = environment(
        blueprints=g,
        handlers={"route": lambda ctx: NodeResult(None, ctx.context.get("to")), "name": name, "echo": echo},
    )
    assert env.client.start("g", {"to": "x"}).result(timeout=TIMEOUT)["j"] == 20
    assert env.client.start("g", {"to": "y"}).result(timeout=TIMEOUT)["j"] == {"x": None, "y": "y"}


def test_d27_a_reused_id_is_no_other_run_s_result(environment: Make) -> None:
    """A repeated run id gave the earlier run's output to another start context."""
    env = environment(blueprints=graph({"a": "greet"}), handlers={"greet": lambda ctx: "for " + ctx.context.get("who")})
    assert env.client.start("g", {"who": "alice"}, run_id="7").result(timeout=TIMEOUT)["a"] == "for alice"
    again = env.client.start("g", {"who": "alice"}, run_id="7")
    assert again.attached
    with pytest.raises(RunConflictError):
        env.client.start("g", {"who": "bob"}, run_id="7")


def test_d28_parallel_nodes_do_not_undo_each_other_s_writes(environment: Make) -> None:
    """Each write was made at once and again at the node's end: an old value overwrote a newer one."""
    older_written, newer_done = threading.Event(), threading.Event()

    def older(ctx: NodeContext) -> None:
        ctx.context.set("k", "older")
        ctx.context.set("mine", "a")
        older_written.set()

    def newer(ctx: NodeContext) -> Any:
        older_written.wait(TIMEOUT)
        before = ctx.context.get("k")
        ctx.context.set("k", "newer")
        newer_done.set()
        return before

    g = graph({"a": "older", "b": "newer", "z": {"uses": "see", "config": {"joinStrategy": "all"}}}, "a z", "b z")
    env = environment(
        blueprints=g, handlers={"older": older, "newer": newer, "see": lambda ctx: ctx.context.get("mine")}
    )
    result = env.client.start("g").result(timeout=TIMEOUT)
    assert result["k"] in ("older", "newer")
    assert result["z"] == result["mine"] == "a"
    assert result["b"] in (None, "older")


def test_d36_an_any_join_with_a_failed_predecessor_leaves_the_run_failed(environment: Make) -> None:
    """The run was failed, and later overwritten as completed."""
    g = graph({"a": "boom", "b": "slow", "j": joined("name")}, "a j", "b j")
    release = threading.Event()

    def slow(ctx: NodeContext) -> str:
        release.wait(TIMEOUT)
        return "late"

    env = environment(
        blueprints=g, handlers={"boom": boom, "slow": slow, "name": name}, settings=WorkerSettings(cancel_grace=0.0)
    )
    handle = env.client.start("g")
    with pytest.raises(RunFailedError, match="payment declined"):
        handle.result(timeout=TIMEOUT)
    release.set()
    env.run_until_idle()
    assert handle.status() is RunStatus.FAILED
    assert "j" not in ran(handle.describe())


def test_d40_an_any_join_runs_once(environment: Make) -> None:
    """In process it ran once for each predecessor, distributed once: here once, everywhere."""
    calls: list[str] = []

    def count(ctx: NodeContext) -> None:
        calls.append(ctx.run_id)

    g = graph({"a": "name", "b": "name", "c": "name", "j": joined("count")}, "a b", "a j", "b c", "c j")
    env = environment(blueprints=g, handlers={"name": name, "count": count})
    env.client.start("g").result(timeout=TIMEOUT)
    env.run_until_idle()
    assert len(calls) == 1


@pytest.mark.parametrize("transform", ['context["a"]', "context.a", "a"])
def test_d39_a_transform_reads_a_node_by_its_id(environment: Make, transform: str) -> None:
    """The bare id existed in process only: distributed, the run failed."""
    g = graph({"a": "name", "b": "name", "z": "echo"}, "a b")
    g["edges"].append({"source": "b", "target": "z", "transform": transform})
    env = environment(blueprints=g, handlers={"name": name, "echo": echo})
    assert env.client.start("g").result(timeout=TIMEOUT)["z"] == "a"


def test_d42_a_handler_reads_a_node_by_its_id(environment: Make) -> None:
    """`context.get('a')` was undefined in the distributed mode."""
    g = graph({"a": "name", "z": "see"}, "a z")
    env = environment(
        blueprints=g,
        handlers={"name": name, "see": lambda ctx: [ctx.context.get(k) for k in ("a", "_outputs.a", "_inputs.z")]},
    )
    assert env.client.start("g").result(timeout=TIMEOUT)["z"] == ["a", "a", "a"]


def test_d43_the_message_is_there_in_every_failed_run(environment: Make) -> None:
    """After five failed runs of a process the error's message was lost."""
    env = environment(blueprints=graph({"a": "boom"}), handlers={"boom": boom})
    for _ in range(40):
        with pytest.raises(RunFailedError, match="payment declined") as caught:
            env.client.start("g").result(timeout=TIMEOUT)
        assert caught.value.failure is not None
        assert caught.value.failure.message == "payment declined"


def test_d37_values_keep_their_types(environment: Make) -> None:
    """The store ignored the serializer, and a map came out as an empty object."""
    from datetime import UTC, datetime
    from decimal import Decimal
    from uuid import UUID

    value = {
        "at": datetime(2026, 11, 23, tzinfo=UTC), "price": Decimal("1.10"), "id": UUID(int=7), "raw": b"\x00", "empty": [], "big": 2**60,
    }  # fmt: skip
    env = environment(
        blueprints=graph({"a": "give", "z": "echo"}, "a z"), handlers={"give": lambda ctx: value, "echo": echo}
    )
    assert env.client.start("g").result(timeout=TIMEOUT)["z"] == value


def test_d10_a_loop_controller_needs_no_output(environment: Make) -> None:
    """`continue` stored no output, and the run was lost (see D05)."""
    g = graph(
        {
            "lc": {"uses": "loop-controller", "params": {"condition": "i < 3"}, "config": {"joinStrategy": "any"}},
            "body": "up",
            "end": "name",
        },
        "lc body continue", "body lc", "lc end break",
    )  # fmt: skip

    def up(ctx: NodeContext) -> int:
        ctx.context.set("i", ctx.context.get("i") + 1)
        return int(ctx.context.get("i"))

    env = environment(blueprints=g, handlers={"up": up, "name": name})
    result = env.client.start("g", {"i": 0}).result(timeout=TIMEOUT)
    assert (result["i"], result["lc"], result["end"]) == (3, None, "end")
