"""The probes of the original's semantics (semantics_rows.py) on our engine, and those that take more than one start."""

from collections.abc import Iterator
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, NodeResult, RunStatus
from flowcraft_sdk.protocol import scripts
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings
from tests.engine.semantics_rows import CHILDREN, ROWS, Row

TIMEOUT = 10.0


def say(ctx: NodeContext) -> NodeResult:
    return NodeResult(ctx.params.get("value"), ctx.params.get("action"))


def boom(ctx: NodeContext) -> None:
    raise ValueError("payment declined")


def up(ctx: NodeContext) -> int:
    ctx.context.set("i", ctx.context.get("i") + 1)
    return int(ctx.context.get("i"))


def count(ctx: NodeContext) -> None:
    ctx.context.set("count", ctx.context.get("count", 0) + 1)


def third(ctx: NodeContext) -> int:
    if ctx.attempt < 3:
        raise ValueError("not yet")
    return ctx.attempt


HANDLERS: dict[str, Any] = {
    "say": say, "boom": boom, "up": up, "count": count, "third": third,
    "echo": lambda ctx: ctx.input, "name": lambda ctx: ctx.node_id, "none": lambda ctx: None,
    "plus1": lambda ctx: ctx.input + 1, "double": lambda ctx: ctx.input * 2,
    "addxy": lambda ctx: ctx.context.get("x") + ctx.context.get("y"),
}  # fmt: skip


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    settings = WorkerSettings(missing_handler_timeout=0.0)
    with TestEnvironment(blueprints=CHILDREN, handlers=HANDLERS, settings=settings, check=False) as made:
        yield made


def blueprint(row: Row) -> dict[str, Any]:
    words = ("source", "target", "action")
    return {
        "id": row.name,
        "nodes": [{"id": k, **({"uses": v} if isinstance(v, str) else v)} for k, v in row.nodes.items()],
        "edges": [dict(zip(words, e.split(), strict=False)) if isinstance(e, str) else e for e in row.edges],
        **row.extra,
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(env: TestEnvironment, row: Row) -> None:
    env.publish(blueprint(row))
    handle = env.client.start(row.name, row.ctx)
    handle.wait(timeout=TIMEOUT)
    run = handle.describe(ctx=True)
    if row.failure:
        assert run.status is RunStatus.FAILED
        assert row.failure in run.failures[0].message
    else:
        assert run.status is RunStatus.COMPLETED, run.failures
    context = run.ctx or {}
    assert {key: context.get(key) for key in row.has} == row.has
    if row.ran is not None and not row.failure:
        completed = {name for name, node in run.nodes.items() if node.status == "completed" or node.caught_by_fallback}
        assert {name for name in completed if "[" not in name} == set(row.ran.split())


def test_s32_a_cancelled_run_keeps_its_context(env: TestEnvironment) -> None:
    """The original threw it away."""
    env.publish(
        {
            "id": "S32",
            "nodes": [{"id": "a", "uses": "name"}, {"id": "w", "uses": "wait"}],
            "edges": [{"source": "a", "target": "w"}],
        }
    )
    handle = env.client.start("S32", {"k": 1})
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    handle.cancel("enough")
    assert handle.wait(timeout=TIMEOUT).status is RunStatus.CANCELLED
    context = handle.describe(ctx=True).ctx or {}
    assert (context["k"], context["a"]) == (1, "a")


@pytest.mark.parametrize(("action", "ran"), [("approve", "y"), ("reject", "n")], ids=["S33 approve", "S33 reject"])
def test_s33_an_answer_s_action_chooses_the_branch(env: TestEnvironment, action: str, ran: str) -> None:
    """The original dropped the action: neither branch ran."""
    nodes = [{"id": "w", "uses": "wait"}, {"id": "y", "uses": "name"}, {"id": "n", "uses": "name"}]
    edges = [{"source": "w", "target": "y", "action": "approve"}, {"source": "w", "target": "n", "action": "reject"}]
    env.publish({"id": "S33", "nodes": nodes, "edges": edges})
    handle = env.client.start("S33")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    env.link.call(
        scripts.signal(env.partitions.for_run(handle.run_id), run_id=handle.run_id, signal_id="1", action=action)
    )
    assert handle.wait(timeout=TIMEOUT).status is RunStatus.COMPLETED
    nodes_ran = {name for name, node in handle.describe().nodes.items() if node.status == "completed"}
    assert nodes_ran == {"w", ran}


@pytest.mark.parametrize("inside", [False, True], ids=["S34", "S35 in a subflow"])
def test_s34_s35_an_answer_is_the_output_and_what_stands_behind_runs(env: TestEnvironment, inside: bool) -> None:
    """In a subflow the original skipped the inner nodes behind the wait."""
    inner = {
        "id": "S34",
        "nodes": [{"id": "w", "uses": "wait"}, {"id": "z", "uses": "echo"}],
        "edges": [{"source": "w", "target": "z"}],
    }
    outer = {"id": "S35", "nodes": [{"id": "s", "uses": "subflow", "params": {"blueprintId": "S34"}}]}
    env.publish([inner, outer])
    handle = env.client.start("S35" if inside else "S34")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    waiting = handle.describe().children[0] if inside else handle.run_id
    env.link.call(
        scripts.signal(env.partitions.for_run(waiting), run_id=waiting, signal_id="1", payload=b'{"by":"bob"}')
    )
    assert handle.result(timeout=TIMEOUT)["s" if inside else "z"] == {"by": "bob"}
