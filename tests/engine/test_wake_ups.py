"""Messages that wake worker threads: what is none of ours is dropped and reported, whoever sleeps on them, and work goes on."""

from collections.abc import Callable, Iterator

import pytest
from loguru import logger

from flowcraft_server.testing import TestEnvironment
from tests.engine.test_failures import graph
from tests.engine.test_sdk_runs import echo
from tests.unit.sdk.conftest import until

FOREIGN = b'["x","another.task",[1]]'


@pytest.fixture
def published() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(line.record["message"]), level="WARNING")  # type: ignore[union-attr]
    yield lines
    logger.remove(sink)


@pytest.mark.parametrize("runs", [0, 20], ids=["asleep in Huey", "asleep in the slice"])
def test_what_is_no_wake_up_is_dropped_and_reported(
    environment: Callable[..., TestEnvironment], published: list[str], monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    monkeypatch.setattr("flowcraft_server.worker.thread_loop.SLICE_SECONDS", 60.0)
    env = environment(handlers={"echo": echo}, blueprints=graph({"a": "echo"}))
    for n in range(runs):
        assert env.client.start("g", {"value": n}).result(timeout=60)["a"] == n
    messages = [FOREIGN, b"\xff\x00", b"", b"[" * 10_000]
    env.link.redis.lpush(env.keys.wake("default"), *messages)
    until(lambda: sum("not ours" in line for line in published) == len(messages), "all are reported")
    assert max(map(len, published)) < 500
    assert env.client.start("g", {"value": "on"}).result(timeout=60)["a"] == "on"


def test_a_worker_whose_threads_sleep_in_their_slice_drains_at_once(
    environment: Callable[..., TestEnvironment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowcraft_server.worker.thread_loop.SLICE_SECONDS", 60.0)
    env = environment(handlers={"echo": echo}, blueprints=graph({"a": "echo"}))
    assert env.client.start("g", {"value": 1}).result(timeout=60)["a"] == 1
    first = env.workers[0]
    assert first.drain(5)
    first.stop()
    env.workers.remove(first)
    env.add_worker()
    assert env.client.start("g", {"value": 2}).result(timeout=60)["a"] == 2
