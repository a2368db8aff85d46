"""Messages to nodes: sent by clients, kept in the run, taken by handlers in their order, once."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from flowcraft_sdk import (
    AsyncClient,
    AsyncNodeContext,
    NodeContext,
    NotReceivingError,
    PayloadTooLargeError,
    RunNotFoundError,
    RunStateError,
)
from flowcraft_sdk.protocol.bounds import MOST_MESSAGES
from flowcraft_server.testing import TestEnvironment

FLOWS = {
    "plain": "nodes:\n  a: {uses: collects, config: {maxRetries: 3}}\n",
    "coroutine": "nodes:\n  a: {uses: collects_on_the_loop, config: {maxRetries: 3}}\n",
    "outer": "nodes:\n  sub: {call: plain}\n",
    "waits": "nodes:\n  w: {uses: wait}\n  a: {uses: collects, needs: [w]}\n",
    "after": "nodes:\n  a: {uses: acts}\n  w: {uses: wait, needs: [a]}\n",
    "skips": "nodes:\n  f: {uses: acts, next: {yes: a, no: b}}\n  a: {uses: collects}\n  b: {uses: collects}\n",
}
began: list[tuple[str, int]] = []


def collects(ctx: NodeContext) -> list[Any]:
    """Takes messages until one says what to do: `done`, or `fail` once."""
    taken: list[Any] = []
    began.append((ctx.run_id, ctx.attempt))
    while True:
        message = ctx.receive(timeout="20s")
        taken.append(message)
        if message == "done":
            return taken
        if message == "fail" and ctx.attempt == 1:
            raise ValueError("once more")


async def collects_on_the_loop(ctx: AsyncNodeContext) -> list[Any]:
    taken: list[Any] = []
    began.append((ctx.run_id, ctx.attempt))
    while True:
        message = await ctx.receive(timeout=20)
        taken.append(message)
        if message == "done":
            return taken
        if message == "fail" and ctx.attempt == 1:
            raise ValueError("once more")


def acts(ctx: NodeContext) -> Any:
    from flowcraft_sdk import NodeResult

    return NodeResult(None, action="yes")


HANDLERS = {"collects": collects, "collects_on_the_loop": collects_on_the_loop, "acts": acts}


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=FLOWS, handlers=HANDLERS) as env:
        yield env


def kept(env: TestEnvironment, run_id: str) -> list[str]:
    """What is kept of messages in the run's record, but for their ids."""
    fields = env.link.redis.hkeys(env.partitions.for_run(run_id).run(run_id))
    return sorted(name.decode() for name in fields if name.startswith((b"m:", b"mq:", b"mn")))


@pytest.mark.parametrize("flow", ["plain", "coroutine"])
def test_messages_come_in_order_once_and_survive_a_failed_attempt(env: TestEnvironment, flow: str) -> None:
    """What was taken before the last message is gone; that one, which the failed attempt had not dealt with, comes again."""
    run = env.client.start(flow)
    for number in range(3):
        assert run.send("a", {"number": number}, message_id=f"m{number}") == "a"
        assert run.send("a", {"number": 99}, message_id=f"m{number}") == "a", "sent again"
    run.send("a", "fail")
    run.send("a", "done")
    assert run.result(timeout=30)["a"] == ["fail", "done"]
    assert [attempt for run_id, attempt in began if run_id == run.run_id] == [1, 2]
    assert kept(env, run.run_id) == []


@pytest.mark.parametrize("flow", ["plain", "coroutine"])
def test_a_waiting_handler_is_woken(env: TestEnvironment, flow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the notice alone: it does not look for itself within the test."""
    from flowcraft_server.worker import messages

    monkeypatch.setattr(messages, "LOOK_PAUSE", 60.0)
    run = env.client.start(flow)
    for _ in range(3):
        run.send("a", 1)
    run.send("a", "done")
    assert run.result(timeout=60)["a"] == [1, 1, 1, "done"]


def test_a_node_in_a_child_run_is_named_by_its_path(env: TestEnvironment) -> None:
    run = env.client.start("outer")
    assert _sent(run, "sub/a", "done")
    assert run.result(timeout=30)
    assert kept(env, f"{run.run_id}~1") == []


def test_messages_wait_for_their_node_and_go_with_it(env: TestEnvironment) -> None:
    run = env.client.start("waits")
    run.wait_for("waiting", timeout=30)
    for number in range(MOST_MESSAGES):
        run.send("a", number, message_id=str(number))
    with pytest.raises(NotReceivingError) as full:
        run.send("a", "one too many")
    assert full.value.reason == "full"
    assert run.send("a", "again", message_id="7") == "a", "known, although it is full"
    assert run.cancel(grace=0)
    run.wait(timeout=30)
    assert kept(env, run.run_id) == []
    with pytest.raises(RunStateError, match="has ended"):
        run.send("a", 1)


def test_those_of_a_skipped_node_go() -> None:
    with TestEnvironment(blueprints=FLOWS, handlers=HANDLERS, workers=0) as paused:
        run = paused.client.start("skips")
        run.send("b", "never")
        run.send("a", "done")
        paused.add_worker()
        assert run.result(timeout=30)["a"] == ["done"]
        assert kept(paused, run.run_id) == []


def test_what_cannot_be_sent_is_refused(env: TestEnvironment) -> None:
    run = env.client.start("waits")
    for node, reason in (("nope", "unknown"), ("w", "kind")):
        with pytest.raises(NotReceivingError) as refused:
            run.send(node, 1)
        assert refused.value.reason == reason
    with pytest.raises(NotReceivingError, match="has no node 'wa'; did you mean 'w'"):
        run.send("wa", 1)
    after = env.client.start("after")
    after.wait_for("waiting", timeout=30)
    with pytest.raises(NotReceivingError) as refused:
        after.send("a", 1)
    assert refused.value.reason == "ended"
    with pytest.raises(PayloadTooLargeError):
        run.send("a", "x" * 70_000)
    with pytest.raises(RunNotFoundError):
        env.client.get_handle("nobody").send("a", 1)
    run.signal("w")
    run.send("a", "done")
    assert run.result(timeout=30)["a"] == ["done"]


def test_time_and_cancellation_end_the_wait() -> None:
    seen: list[str] = []

    def waits(ctx: NodeContext) -> str:
        try:
            ctx.receive(timeout=0)
        except TimeoutError as error:
            seen.append(str(error))
        ctx.receive()
        return "never"

    flow = {"flow": "nodes:\n  a: {uses: waits}\n"}
    with TestEnvironment(blueprints=flow, handlers={"waits": waits}) as env:
        run = env.client.start("flow")
        run.wait_for("running", timeout=30)
        assert run.cancel(grace=20)
        assert run.wait(timeout=60).status == "cancelled"
    assert seen == ["no message within 0 s"]


def test_a_worker_that_dies_leaves_them_to_the_next_one(env: TestEnvironment) -> None:
    settings = replace(env.settings, lease=1.0, heartbeat=0.2)
    with TestEnvironment(blueprints=FLOWS, handlers=HANDLERS, settings=settings) as own:
        run = own.client.start("plain")
        run.send("a", 1)
        run.wait_for("running", timeout=30)
        own.kill_worker()
        own.clock.advance("2s", keep_leases=False)
        run.send("a", "done")
        own.add_worker()
        assert run.result(timeout=30)["a"][-1] == "done"
        assert kept(own, run.run_id) == []


def test_the_asyncio_client_sends_as_well(env: TestEnvironment) -> None:
    async def main() -> Any:
        async with AsyncClient(env.url, namespace=env.namespace) as client:
            run = await client.start("plain")
            assert await run.send("a", "done") == "a"
            return (await run.result(timeout=30))["a"]

    assert asyncio.run(main()) == ["done"]


def _sent(run: Any, path: str, message: Any) -> bool:
    """Whether it was sent, once the child run is there."""
    for _ in range(2000):
        try:
            return bool(run.send(path, message))
        except NotReceivingError as error:
            assert error.reason == "unknown"
    return False
