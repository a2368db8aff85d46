"""`ctx.last_progress`: where an earlier attempt at the node has come to."""

from typing import Any

import pytest

from flowcraft_sdk import AsyncNodeContext, NodeContext, ReportedProgress
from flowcraft_server.testing import TestEnvironment

FLOW = "nodes:\n  a: {uses: USES, config: {maxRetries: 4}}\n"
LOOP = """
nodes:
  a: {uses: rounds, inputs: items, config: {maxRetries: 2}}
  b: {uses: again, needs: [a], next: {again: a, done: end}}
  end: {uses: again}
"""


def advances(ctx: NodeContext) -> list[Any]:
    """Fails at its first three attempts, of which the second reports nothing."""
    before = ctx.last_progress
    if ctx.attempt == 4:
        assert before is not None
        return [before.fraction, before.message]
    expected = [None, ReportedProgress(0.5, "half"), ReportedProgress(0.5, "half")]
    assert before == expected[ctx.attempt - 1]
    if ctx.attempt != 2:
        ctx.progress(0.25)
        ctx.progress(0.5 if ctx.attempt == 1 else None, "half" if ctx.attempt == 1 else "further")
    raise ValueError("not yet")


async def advances_in_a_coroutine(ctx: AsyncNodeContext) -> list[Any]:
    return advances(ctx)  # type: ignore[arg-type]


def rounds(ctx: NodeContext) -> str:
    assert (ctx.last_progress is None) == (ctx.attempt == 1), "that of the round before is none"
    ctx.progress(0.5, f"round {ctx.iteration}")
    if ctx.attempt == 1:
        raise ValueError("once more")
    assert ctx.last_progress == ReportedProgress(0.5, f"round {ctx.iteration}")
    return "fine"


def again(ctx: NodeContext) -> Any:
    from flowcraft_sdk import NodeResult

    return NodeResult(None, action="again" if ctx.iteration < 1 else "done")


@pytest.mark.parametrize("uses", [advances, advances_in_a_coroutine])
def test_a_further_attempt_knows_what_was_reported(uses: Any) -> None:
    with TestEnvironment(blueprints={"flow": FLOW.replace("USES", "it")}, handlers={"it": uses}) as env:
        assert env.client.execute("flow", timeout=30)["a"] == [None, "further"]


def test_a_round_of_a_loop_begins_without() -> None:
    with TestEnvironment(blueprints={"flow": LOOP}, handlers={"rounds": rounds, "again": again}) as env:
        run = env.client.start("flow", {"items": 1})
        snapshot = run.wait(timeout=30)
        assert snapshot.status == "completed", snapshot.failures
