"""The handlers of the chaos deployment: they write the ledger, take a moment, and return what follows from their input alone."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowcraft_sdk import AsyncNodeContext, DynamicNode, NodeContext, NodeResult
from tests.chaos import ledger
from tests.chaos.misbehaviour import perhaps_misbehave

FOLDER = "FLOWCRAFT_CHAOS_FOLDER"
"""Variable that names the folder in which handlers that wait find their files."""


@contextmanager
def noted(ctx: Any, *, tame: bool = False) -> Iterator[None]:
    """Writes the begin and, unless the process or the handler dies, the end.

    Args:
        tame: never misbehaves, as each of its attempts counts.
    """
    ledger.write("begin", ctx)
    if not tame:
        perhaps_misbehave(ctx)
    yield
    ledger.write("end", ctx)


def step(ctx: NodeContext) -> int:
    """One more than its input, after `ms` milliseconds."""
    with noted(ctx):
        time.sleep(ctx.params.get("ms", 5) / 1000)
        return int(ctx.input) + 1


async def async_step(ctx: AsyncNodeContext) -> int:
    """The same, as a coroutine."""
    with noted(ctx):
        await asyncio.sleep(ctx.params.get("ms", 5) / 1000)
        return int(ctx.input) + 1


def total(ctx: NodeContext) -> int:
    """The sum of all that it is given, but for what never ran."""
    with noted(ctx):
        values = ctx.input.values() if isinstance(ctx.input, dict) else ctx.input
        return sum(value for value in values if value is not None)


def flaky(ctx: NodeContext) -> int:
    """Fails before attempt `good`."""
    with noted(ctx, tame=True):
        if ctx.attempt < ctx.params.get("good", 2):
            raise OSError("not yet")
        return int(ctx.input) + 1


def count(ctx: NodeContext) -> int:
    """Counts the rounds of its loop in the context."""
    with noted(ctx):
        rounds = int(ctx.context.get("rounds", 0)) + 1
        ctx.context.set("rounds", rounds)
        time.sleep(ctx.params.get("ms", 5) / 1000)
        return rounds


def route(ctx: NodeContext) -> NodeResult:
    """Chooses a branch by whether its input is even."""
    with noted(ctx):
        return NodeResult(int(ctx.input) + 1, action="even" if int(ctx.input) % 2 == 0 else "odd")


def hold(ctx: NodeContext) -> int:
    """Runs until the file `go` is there, or one for its process; then one more than its input."""
    with noted(ctx):
        go = Path(os.environ[FOLDER]) / ctx.params.get("until", "go")
        mine = go.with_name(f"{go.name}-{os.getpid()}")
        while not go.exists() and not mine.exists():
            time.sleep(0.005)
        return int(ctx.input) + 1


def plan(ctx: NodeContext) -> NodeResult:
    """Adds `nodes` nodes to its run, which do `step` on its own output."""
    with noted(ctx):
        added = [DynamicNode(f"t{i}", "step", params={"ms": 40}) for i in range(ctx.params["nodes"])]
        return NodeResult(int(ctx.input) + 1, dynamic_nodes=added)


def broken(ctx: NodeContext) -> None:
    """Fails each time."""
    with noted(ctx, tame=True):
        time.sleep(0.02)
    raise OSError("never")


def collect(ctx: NodeContext) -> int:
    """Adds its input to the list `taken` in the context."""
    with noted(ctx):
        taken = [*ctx.context.get("taken", []), ctx.input]
        ctx.context.set("taken", taken)
        return len(taken)


HANDLERS = {
    function.__name__: function
    for function in (step, async_step, total, flaky, count, route, hold, plan, broken, collect)
}
