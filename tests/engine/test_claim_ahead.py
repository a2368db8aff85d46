"""Quick nodes are claimed ahead and committed in groups; nothing may wait behind one that turns out slow."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from flowcraft_sdk import RunStatus
from flowcraft_server.executor.settings import WorkerSettings
from flowcraft_server.testing import TestEnvironment

GRAPH = {"id": "one", "nodes": [{"id": "n", "uses": "mostly-quick"}]}
RUNS = 120
PATIENCE = 10.0


class MostlyQuick:
    """A handler that is quick until it is told to wait for `release`."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.blocked = threading.Event()
        self.calls: list[str] = []

    def __call__(self, ctx: Any) -> Any:
        self.calls.append(ctx.run_id)
        if ctx.context.get("slow"):
            self.blocked.set()
            self.release.wait(PATIENCE)
        return ctx.run_id


@pytest.fixture
def handler() -> Iterator[MostlyQuick]:
    made = MostlyQuick()
    yield made
    made.release.set()


@pytest.fixture
def environment(handler: MostlyQuick) -> Iterator[Callable[..., TestEnvironment]]:
    opened: list[TestEnvironment] = []

    def build(threads: int, workers: int = 1) -> TestEnvironment:
        env = TestEnvironment(
            blueprints=GRAPH, handlers={"mostly-quick": handler}, workers=workers,
            settings=replace(WorkerSettings(), threads=threads),
        )  # fmt: skip
        opened.append(env.__enter__())
        for handle in [env.client.start("one") for _ in range(RUNS)]:  # until the worker knows the handler as a quick one
            handle.result(timeout=PATIENCE)
        return env

    yield build
    handler.release.set()
    for env in opened:
        env.__exit__(None, None, None)


@pytest.mark.parametrize(("threads", "workers"), [(2, 1), (1, 2)], ids=["another thread", "another process"])
def test_what_was_claimed_beside_a_slow_node_is_run_elsewhere(
    environment: Callable[..., TestEnvironment], handler: MostlyQuick, threads: int, workers: int
) -> None:
    env = environment(threads, workers)
    slow = env.client.start("one", {"slow": True}, run_id="slow")
    quick = [env.client.start("one") for _ in range(RUNS)]
    assert handler.blocked.wait(PATIENCE)
    for handle in quick:
        assert handle.result(timeout=PATIENCE)["n"] == handle.run_id
    assert slow.status() is RunStatus.RUNNING
    handler.release.set()
    assert slow.result(timeout=PATIENCE)["n"] == "slow"
    assert handler.calls.count("slow") == 1


def test_what_is_finished_is_recorded_while_its_thread_runs_a_slow_node(
    environment: Callable[..., TestEnvironment], handler: MostlyQuick
) -> None:
    env = environment(threads=1)
    before = [env.client.start("one") for _ in range(RUNS)]
    env.client.start("one", {"slow": True})
    assert handler.blocked.wait(PATIENCE)
    begun = set(handler.calls)
    for handle in before:
        if handle.run_id in begun:
            assert handle.result(timeout=PATIENCE)["n"] == handle.run_id


def test_nodes_claimed_ahead_go_back_when_the_worker_drains(
    environment: Callable[..., TestEnvironment], handler: MostlyQuick
) -> None:
    env = environment(threads=1)
    slow = env.client.start("one", {"slow": True})
    waiting = [env.client.start("one") for _ in range(RUNS)]
    assert handler.blocked.wait(PATIENCE)
    worker = env.workers[0]
    assert worker.drain(0.2) is False
    env.add_worker()
    for handle in waiting:
        assert handle.result(timeout=PATIENCE)["n"] == handle.run_id
    handler.release.set()
    assert slow.result(timeout=PATIENCE)["n"] == slow.run_id
