"""`ctx.start_child`: runs that a handler starts and does not wait for, each once."""

from typing import Any

import pytest

from flowcraft_sdk import AsyncNodeContext, NodeContext, RunFailedError
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

FLOWS = {
    "parent": "nodes:\n  a: {uses: USES, config: {maxRetries: 2}}\n",
    "child": "nodes:\n  b: {uses: echo, inputs: x}\n",
    "waits": "nodes:\n  w: {uses: wait}\n",
    "starts": "nodes:\n  a: {uses: starts_a_wait}\n  w: {uses: wait, needs: [a]}\n",
    "conflict": "nodes:\n  a: {uses: conflicts}\n",
}


def starts(ctx: NodeContext) -> list[str]:
    found = [ctx.start_child("child", {"x": 1}), ctx.start_child("child", {"x": 2}, key="second", tags=["started"])]
    if ctx.attempt == 1:
        raise ValueError("once more")
    return found


async def starts_on_the_loop(ctx: AsyncNodeContext) -> list[str]:
    found = [
        await ctx.start_child("child", {"x": 1}),
        await ctx.start_child("child", {"x": 2}, key="second", tags=["started"]),
    ]
    if ctx.attempt == 1:
        raise ValueError("once more")
    return found


def conflicts(ctx: NodeContext) -> None:
    ctx.start_child("child", {"x": 1}, key="k")
    ctx.start_child("child", {"x": 2}, key="k")


HANDLERS = {
    "starts": starts,
    "starts_on_the_loop": starts_on_the_loop,
    "starts_a_wait": lambda ctx: ctx.start_child("waits"),
    "conflicts": conflicts,
    "echo": lambda ctx: ctx.input,
}


@pytest.mark.parametrize("uses", ["starts", "starts_on_the_loop"])
def test_a_further_attempt_starts_nothing_twice(uses: str) -> None:
    flows = {name: text.replace("USES", uses) for name, text in FLOWS.items()}
    with TestEnvironment(blueprints=flows, handlers=HANDLERS) as env:
        run = env.client.start("parent")
        first, second = run.result(timeout=30)["a"]
        assert env.client.get_handle(first).result(timeout=30)["b"] == 1
        assert env.client.get_handle(second).result(timeout=30)["b"] == 2
        below = {each.run_id: each.tags for each in env.client.list_runs(parent=run.run_id)}
        assert set(below) == {first, second}
        assert tuple(below[second]) == ("started",)


def test_they_are_stopped_with_their_parent_and_keys_are_unique() -> None:
    flows = {name: text.replace("USES", "starts") for name, text in FLOWS.items()}
    with TestEnvironment(blueprints=flows, handlers=HANDLERS) as env:
        run = env.client.start("starts")
        run.wait_for("waiting", timeout=30)
        (child,) = env.client.list_runs(parent=run.run_id)
        waiting: Any = env.client.get_handle(child.run_id)
        waiting.wait_for("waiting", timeout=30)
        assert run.cancel(grace=0)
        assert waiting.wait(timeout=30).status == "cancelled"
        (failure,) = env.client.start("conflict").wait(timeout=30).failures
        assert failure.type.endswith("RunConflictError")


def test_a_result_that_is_awaited_is_found_again_when_the_worker_dies() -> None:
    attempts: list[int] = []

    async def awaits(ctx: AsyncNodeContext) -> list[Any]:
        attempts.append(ctx.attempt)
        first = await ctx.run_child("child", {"x": 1})
        return [first["b"], (await ctx.run_child("waits", key="asked"))["w"]]

    async def awaits_failure(ctx: AsyncNodeContext) -> str:
        try:
            await ctx.run_child("failing")
        except RunFailedError as error:
            return str(error.failure.message) if error.failure else ""
        return "no failure"

    flows = {**FLOWS, "parent": "nodes: {a: {uses: awaits}}\n", "failing": "nodes: {a: {uses: fails}}\n"}
    flows["caught"] = "nodes: {a: {uses: awaits_failure}}\n"

    def fails(ctx: NodeContext) -> None:
        raise ValueError("not today")

    handlers = {**HANDLERS, "awaits": awaits, "awaits_failure": awaits_failure, "fails": fails}
    with TestEnvironment(blueprints=flows, handlers=handlers, settings=WorkerSettings(lease=1.0)) as env:
        run = env.client.start("parent")
        while not (asked := [each for each in env.client.list_runs(blueprint_id="waits") if each.status == "waiting"]):
            pass
        env.kill_worker()
        env.add_worker()
        while len(attempts) < 2:
            pass
        env.client.get_handle(asked[0].run_id).signal("w", "yes")
        assert run.result(timeout=30)["a"] == [1, "yes"]
        assert len(list(env.client.list_runs(parent=run.run_id))) == 2
        assert env.client.execute("caught", timeout=30)["a"] == "not today"
        stopped = env.client.start("parent")
        stopped.wait_for("running", timeout=30)
        stopped.cancel()
        assert stopped.wait(timeout=30).status == "cancelled"
