"""Quick nodes are claimed ahead and committed in groups; nothing may wait behind one that turns out slow."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from flowcraft_sdk import Handle, RunStatus
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

GRAPH = {"id": "one", "nodes": [{"id": "n", "uses": "mostly-quick"}]}
RUNS = 120
TIMEOUT = 10.0


class MostlyQuick:
    """A handler that is quick unless its run says which event it waits for."""

    def __init__(self) -> None:
        self.events = {"gate": threading.Event(), "slow": threading.Event()}
        self.waiting = {"gate": threading.Semaphore(0), "slow": threading.Semaphore(0)}
        self.calls: list[str] = []

    def __call__(self, ctx: Any) -> Any:
        self.calls.append(ctx.run_id)
        event = ctx.context.get("until")
        if event:
            self.waiting[event].release()
            self.events[event].wait(6 * TIMEOUT)
        return ctx.run_id


@pytest.fixture(autouse=True)
def _the_stock_keeper_comes_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcraft_server.worker.background.prefetch_watchdog.LOOK_ANYWAY", 2 * TIMEOUT)


@pytest.fixture
def handler() -> Iterator[MostlyQuick]:
    made = MostlyQuick()
    yield made
    for event in made.events.values():
        event.set()


@pytest.fixture
def environment(handler: MostlyQuick) -> Iterator[Callable[..., TestEnvironment]]:
    opened: list[TestEnvironment] = []

    def build(threads: int, workers: int = 1) -> TestEnvironment:
        """All threads are held at the gate, so that what a test starts is queued, and claimed many at a time once it opens."""
        env = TestEnvironment(
            blueprints=GRAPH, handlers={"mostly-quick": handler}, workers=workers,
            settings=replace(WorkerSettings(), threads=threads),
        )  # fmt: skip
        opened.append(env.__enter__())
        for _ in range(threads * workers):
            env.client.start("one", {"until": "gate"})
            assert handler.waiting["gate"].acquire(timeout=TIMEOUT)
        return env

    yield build
    for event in handler.events.values():
        event.set()
    for env in opened:
        env.__exit__(None, None, None)


def queued_around_a_slow_one(env: TestEnvironment, handler: MostlyQuick) -> tuple[Handle[Any], list[Handle[Any]]]:
    """The slow run, under way, and the quick ones around it in the queue."""
    quick = [env.client.start("one") for _ in range(RUNS)]
    slow = env.client.start("one", {"until": "slow"}, run_id="slow")
    quick += [env.client.start("one") for _ in range(RUNS)]
    handler.events["gate"].set()
    assert handler.waiting["slow"].acquire(timeout=TIMEOUT)
    return slow, quick


@pytest.mark.parametrize(("threads", "workers"), [(2, 1), (1, 2)], ids=["another thread", "another process"])
def test_what_was_claimed_beside_a_slow_node_is_run_elsewhere(
    environment: Callable[..., TestEnvironment], handler: MostlyQuick, threads: int, workers: int
) -> None:
    env = environment(threads, workers)
    slow, quick = queued_around_a_slow_one(env, handler)
    for handle in quick:
        assert handle.result(timeout=TIMEOUT)["n"] == handle.run_id
    assert slow.status() is RunStatus.RUNNING
    handler.events["slow"].set()
    assert slow.result(timeout=TIMEOUT)["n"] == "slow"
    assert handler.calls.count("slow") == 1


def test_what_is_finished_is_recorded_while_its_thread_runs_a_slow_node(
    environment: Callable[..., TestEnvironment], handler: MostlyQuick
) -> None:
    env = environment(threads=1)
    _slow, quick = queued_around_a_slow_one(env, handler)
    begun = set(handler.calls)
    finished = [handle for handle in quick if handle.run_id in begun]
    assert (
        len(finished) >= RUNS // 2
    )  # on a machine with much to do some go back to the queue, and begin after the slow one
    for handle in finished:
        assert handle.result(timeout=TIMEOUT)["n"] == handle.run_id


def test_nodes_claimed_ahead_go_back_when_the_worker_drains(
    environment: Callable[..., TestEnvironment], handler: MostlyQuick
) -> None:
    env = environment(threads=1)
    slow, quick = queued_around_a_slow_one(env, handler)
    assert env.workers[0].drain(0.2) is False
    env.add_worker()
    for handle in quick:
        assert handle.result(timeout=TIMEOUT)["n"] == handle.run_id
    handler.events["slow"].set()
    assert slow.result(timeout=TIMEOUT)["n"] == "slow"


def test_what_follows_a_node_that_reported_progress_is_not_left_in_stock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outcome is sent by another thread, after the progress: nobody may be there to take what the reply would bring."""
    monkeypatch.setattr("flowcraft_server.worker.background.prefetch_watchdog.STUCK", 2 * TIMEOUT)
    chain = {
        "id": "chain",
        "nodes": [{"id": name, "uses": "says"} for name in "abc"],
        "edges": [{"source": "a", "target": "b"}, {"source": "b", "target": "c"}],
    }

    def says(ctx: Any) -> Any:
        ctx.progress(0.5, "half")

    with TestEnvironment(blueprints=chain, handlers={"says": says}) as env:
        for _ in range(5):
            assert env.client.start("chain").wait(TIMEOUT).status is RunStatus.COMPLETED
