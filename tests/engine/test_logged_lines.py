"""What handlers log is kept with their runs: bounded, masked, in order, once, and read by both clients."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from loguru import logger

from flowcraft_sdk import (
    AsyncClient,
    AsyncNodeContext,
    NodeContext,
    NodeNotFoundError,
    RunNotFoundError,
    WaitTimeoutError,
)
from flowcraft_server.cli.client import main
from flowcraft_server.observability.logging import configure_logging
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import LineCapture, WorkerSettings

SECRET = "a-secret-of-the-deployment"
GO_ON = threading.Event()


@pytest.fixture(autouse=True)
def logging_of_a_server() -> Iterator[None]:
    """Lines go where those of a server go; afterwards everything is as a test finds it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("info", "json")
    yield
    logger.remove()
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level


def say(ctx: NodeContext) -> str:
    ctx.logger.info("charging {} with {}", "Ada", SECRET)
    ctx.logger.bind(order=7, password="xyz-abc-uvw").warning("slow")
    ctx.logger.debug("not kept")
    logging.getLogger("shop.stock").warning("one left")
    thread = threading.Thread(target=ctx.logger.info, args=("from a thread of its own",))
    thread.start()
    thread.join()
    return "done"


def fail(ctx: NodeContext) -> None:
    try:
        raise ValueError("no stock")
    except ValueError:
        ctx.logger.exception("attempt {} goes wrong", ctx.attempt)
        raise


async def hear(ctx: AsyncNodeContext) -> None:
    ctx.logger.info("heard {}", ctx.item)


async def wait(ctx: AsyncNodeContext) -> None:
    ctx.logger.info("begun")
    while not GO_ON.is_set():
        await asyncio.sleep(0.01)
    ctx.logger.info("over")


def chatter(ctx: NodeContext) -> None:
    for number in range(30):
        ctx.logger.info("line {}", number)


def silent(ctx: NodeContext) -> None:
    pass


HANDLERS: dict[str, Any] = {
    "say": say, "fail": fail, "hear": hear, "hold": wait, "chatter": chatter, "silent": silent,
}  # fmt: skip
BLUEPRINTS = {
    "say": {"nodes": {"a": {"uses": "say"}}},
    "fail": {"nodes": {"a": {"uses": "fail", "config": {"maxRetries": 2, "retryDelay": 1}}}},
    "each": {"nodes": {"each": {"uses": "map", "inputs": "names", "params": {"uses": "hear"}}}},
    "wait": {"nodes": {"a": {"uses": "hold"}}},
    "chatter": {"nodes": {"a": {"uses": "chatter"}, "b": {"uses": "chatter", "needs": "a"}}},
    "two": {"nodes": {"a": {"uses": "hold"}, "b": {"uses": "silent", "needs": "a"}}},
    "silent": {"nodes": {"a": {"uses": "silent"}}},
}


@pytest.fixture
def env(environment: Callable[..., TestEnvironment]) -> TestEnvironment:
    capture = LineCapture(lines=20, names=("*password*",))
    return environment(
        blueprints=BLUEPRINTS,
        handlers=HANDLERS,
        settings=WorkerSettings(secrets=frozenset({SECRET}), capture=capture),
    )


def test_lines_are_kept_masked_with_fields_and_levels(env: TestEnvironment) -> None:
    handle = env.client.start("say")
    handle.wait(timeout=60)
    lines = list(handle.logs())
    assert [(line.level, line.message) for line in lines] == [
        ("info", "charging Ada with ********"),
        ("warning", "slow"),
        ("warning", "one left"),
        ("info", "from a thread of its own"),
    ]
    assert dict(lines[1].fields) == {"order": 7, "password": "********"}
    assert {(line.node_id, line.attempt, line.missing) for line in lines} == {("a", 1, 0)}
    assert list(handle.logs(after=lines[1].id)) == lines[2:]
    with pytest.raises(NodeNotFoundError, match="has no node 'b'"):
        list(handle.logs("b"))
    raw = b"".join(env.link.redis.hvals(env.partitions.for_run(handle.run_id).logs(handle.run_id)))
    assert SECRET.encode() not in raw
    handle.delete()
    assert not env.link.redis.exists(env.partitions.for_run(handle.run_id).logs(handle.run_id))
    with pytest.raises(RunNotFoundError):
        list(handle.logs())


def test_the_commands_say_what_a_node_is_not(env: TestEnvironment) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["--url", env.url, "--namespace", env.namespace, *words])
        return done.exit_code, done.output.strip()

    GO_ON.clear()
    handle = env.client.start("two", run_id="two-1")
    handle.wait_for("running", timeout=60)
    handle.cancel()
    handle.wait(timeout=60)
    assert run("logs", "two-1", "--node", "c") == (3, "run two-1 has no node 'c', nor has a run below it")
    meant = "run two-1 has no node 'aa', nor has a run below it; did you mean 'a'?"
    assert run("logs", "two-1", "--node", "aa") == (3, meant)
    assert run("stream", "two-1", "aa") == (3, "run two-1 has no node 'aa'; did you mean 'a'?")
    assert run("logs", "two-1", "--node", "b") == (0, "")
    assert run("stream", "two-1", "b") == (1, "node 'b' of run two-1 never began: the run has ended")


def test_each_attempt_has_its_lines_with_the_traceback(env: TestEnvironment) -> None:
    handle = env.client.start("fail")
    handle.wait(timeout=60)
    found = [(line.attempt, line.level, line.message) for line in handle.logs()]
    assert found == [(1, "error", "attempt 1 goes wrong"), (2, "error", "attempt 2 goes wrong")]
    assert all("ValueError: no stock" in line.traceback for line in handle.logs())


def test_items_are_told_apart(env: TestEnvironment) -> None:
    handle = env.client.start("each", {"names": ["a", "b"]})
    handle.wait(timeout=60)
    assert sorted(line.node_id for line in handle.logs("each")) == ["each[0]", "each[1]"]
    assert [line.message for line in handle.logs("each[1]")] == ["heard 1"]


def test_lines_of_a_long_attempt_come_while_it_runs_in_both_clients(env: TestEnvironment) -> None:
    GO_ON.clear()
    handle = env.client.start("wait")

    def follow() -> list[str]:
        found = []
        for line in handle.logs(follow=True, timeout=20):
            found.append(line.message)
            GO_ON.set()  # only if the first line has come before the end
        return found

    assert follow() == ["begun", "over"]

    async def follow_in_asyncio() -> list[str]:
        async with AsyncClient(env.url, namespace=env.namespace) as client:
            return [line.message async for line in client.get_handle(handle.run_id).logs("a", follow=True)]

    assert asyncio.run(follow_in_asyncio()) == ["begun", "over"]
    GO_ON.clear()
    other = env.client.start("wait")
    with pytest.raises(WaitTimeoutError):
        list(other.logs(follow=True, timeout=0.05))
    GO_ON.set()
    other.wait(timeout=20)


def test_lines_of_an_attempt_and_of_a_run_are_bounded(environment: Callable[..., TestEnvironment]) -> None:
    capture = LineCapture(lines=20, run_bytes=1024)
    env = environment(blueprints=BLUEPRINTS, handlers=HANDLERS, settings=WorkerSettings(capture=capture))
    handle = env.client.start("chatter")
    handle.wait(timeout=60)
    lines = list(handle.logs())
    assert lines[-1].message == "10 further lines of this attempt were not kept (logging.capture)"
    assert [line.message for line in lines[-21:-1]] == [f"line {number}" for number in range(20)]
    assert lines[0].missing == int(lines[0].id) - 1 > 0
    assert sum(line.missing for line in lines[1:]) == 0


def test_nothing_is_written_for_nodes_that_log_nothing(environment: Callable[..., TestEnvironment]) -> None:
    env = environment(
        blueprints=BLUEPRINTS, handlers=HANDLERS, settings=WorkerSettings(capture=LineCapture(level="none"))
    )
    for blueprint in ("silent", "say"):  # the second one logs, and nothing is to be kept
        handle = env.client.start(blueprint)
        handle.wait(timeout=60)
        assert list(handle.logs(follow=True)) == []
        assert not env.link.redis.exists(env.partitions.for_run(handle.run_id).logs(handle.run_id))


def say_at_levels_of_its_own(ctx: NodeContext) -> None:
    for name in ("AUDIT", "a|b|{\x1b[2J", "x" * 100_000):
        logger.level(name, no=34)
        ctx.logger.log(name, "line of {}", name[:3])


def test_a_level_of_any_name_leaves_the_log_readable(environment: Callable[..., TestEnvironment]) -> None:
    env = environment(
        blueprints={"flow": "nodes:\n  a: {uses: say}\n"},
        handlers={"say": say_at_levels_of_its_own},
        settings=WorkerSettings(capture=LineCapture()),
    )
    handle = env.client.start("flow")
    handle.wait(timeout=30)
    lines = [(line.level, line.message) for line in handle.logs()]
    assert lines == [("audit", "line of AUD"), ("level 34", "line of a|b"), ("level 34", "line of xxx")]
