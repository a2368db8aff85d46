"""Leases are renewed for code that runs, nodes end at their time-out, and ready work never waits behind code whose node is over."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from loguru import logger

from flowcraft_sdk import AsyncNodeContext, NodeContext, RunFailedError
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.liveness import Liveness, thread_runs
from flowcraft_server.worker.settings import WorkerSettings

TIMEOUT = 20.0
Make = Callable[..., TestEnvironment]


def node(uses: str, config: str = "") -> str:
    return f"nodes:\n  node: {{uses: {uses}, config: {{{config}}}}}\n"


@pytest.fixture
def lines() -> Any:
    """What is logged meanwhile."""
    found: list[str] = []
    sink = logger.add(lambda message: found.append(message.record["message"]), level="WARNING", format="{message}")
    yield found
    logger.remove(sink)


def eventually(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def failure_of(env: TestEnvironment, run: Any) -> str:
    with pytest.raises(RunFailedError) as caught:
        run.result(timeout=TIMEOUT)
    return str(caught.value.failure.type)


def test_a_coroutine_that_swallows_its_cancellation_fails_at_its_timeout(environment: Make) -> None:
    let_go = threading.Event()

    async def stubborn(ctx: AsyncNodeContext) -> str:
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass
        return "too late"

    env = environment(blueprints={"f": node("stubborn", "timeout: 100ms")}, handlers={"stubborn": stubborn})
    run = env.client.start("f")
    assert failure_of(env, run) == "NodeTimeout"  # while the coroutine is still running
    let_go.set()
    assert eventually(lambda: not list(env.workers[0]._executor.attempts()))
    assert env.client.get_handle(run.run_id).describe(outputs=True).nodes["node"].output is None


def test_coroutines_that_do_not_end_leave_room_for_others(environment: Make) -> None:
    let_go = threading.Event()

    async def stubborn(ctx: AsyncNodeContext) -> None:
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass

    async def quick(ctx: AsyncNodeContext) -> str:
        return "done"

    env = environment(
        blueprints={"f": node("stubborn", "timeout: 50ms"), "g": node("quick")},
        handlers={"stubborn": stubborn, "quick": quick},
        settings=WorkerSettings(async_concurrency=2),
    )
    for run in [env.client.start("f") for _ in range(2)]:
        assert failure_of(env, run) == "NodeTimeout"
    assert env.client.start("g").result(timeout=TIMEOUT) == {"node": "done"}
    assert eventually(lambda: env.workers[0].counters.coroutines_abandoned == 2)
    let_go.set()
    assert eventually(lambda: env.workers[0].counters.coroutines_abandoned == 0)


def test_functions_that_do_not_return_hold_up_nothing(environment: Make, lines: list[str]) -> None:
    let_go = threading.Event()

    def stuck(ctx: NodeContext) -> None:
        let_go.wait(TIMEOUT)

    env = environment(
        blueprints={"f": node("stuck", "timeout: 50ms"), "g": node("quick")},
        handlers={"stuck": stuck, "quick": lambda ctx: "done"},
        settings=WorkerSettings(threads=2, abandoned_threads=4),
    )
    worker = env.workers[0]
    for _ in range(2):  # as many as there are threads, twice
        for run in [env.client.start("f") for _ in range(2)]:
            assert failure_of(env, run) == "NodeTimeout"
        assert env.client.start("g").result(timeout=TIMEOUT) == {"node": "done"}
    assert eventually(lambda: worker.counters.threads_abandoned == 4)
    assert any("let_go.wait" in line or "test_code_behind_attempts.py" in line for line in lines)
    let_go.set()
    assert eventually(lambda: worker.counters.threads_abandoned == 0)
    assert eventually(lambda: sum(thread.name.startswith("Worker-") for thread in threading.enumerate()) <= 2)
    assert env.client.start("g").result(timeout=TIMEOUT) == {"node": "done"}


def test_a_process_that_loses_too_many_threads_is_replaced(environment: Make) -> None:
    let_go, replaced = threading.Event(), threading.Event()

    def stuck(ctx: NodeContext) -> None:
        let_go.wait(TIMEOUT)

    env = environment(
        blueprints={"f": node("stuck", "timeout: 50ms")},
        handlers={"stuck": stuck},
        settings=WorkerSettings(threads=1, abandoned_threads=1),
    )
    env.workers[0]._replace_process = lambda _worker_id: replaced.set()
    for _ in range(2):
        assert failure_of(env, env.client.start("f")) == "NodeTimeout"
    assert replaced.wait(TIMEOUT)
    assert b"abandonedThreads" in (env.link.redis.hget(env.keys.worker(env.workers[0].settings.worker_id), "exhausted"))
    let_go.set()


def test_a_coroutine_that_holds_up_the_loop_is_named(environment: Make, lines: list[str]) -> None:
    let_go = threading.Event()

    async def blocking(ctx: AsyncNodeContext) -> str:
        let_go.wait(TIMEOUT)
        return "done"

    env = environment(blueprints={"f": node("blocking")}, handlers={"blocking": blocking})
    run = env.client.start("f")
    assert eventually(lambda: any("held up" in line for line in lines))
    (line,) = [line for line in lines if "held up" in line]
    assert "test_code_behind_attempts.py" in line
    assert "in blocking" in line
    let_go.set()
    assert run.result(timeout=TIMEOUT) == {"node": "done"}
    assert "event_loop_blocked" in {event.data.get("name") for event in run.events(follow=False)}
    assert env.workers[0].counters.loop_blocked == 1


def test_the_timeout_of_a_coroutine_that_holds_up_the_loop_counts(environment: Make) -> None:
    let_go = threading.Event()

    async def blocking(ctx: AsyncNodeContext) -> None:
        let_go.wait(TIMEOUT)

    env = environment(blueprints={"f": node("blocking", "timeout: 100ms")}, handlers={"blocking": blocking})
    assert failure_of(env, env.client.start("f")) == "NodeTimeout"  # while the loop stands
    let_go.set()


def test_other_coroutines_run_elsewhere_while_one_holds_up_the_loop(environment: Make) -> None:
    let_go = threading.Event()
    calls: list[str] = []

    async def blocking(ctx: AsyncNodeContext) -> str:
        await asyncio.sleep(0.05)
        calls.append("blocking")
        let_go.wait(TIMEOUT)
        return "done after all"

    async def innocent(ctx: AsyncNodeContext) -> str:
        calls.append("innocent")
        await asyncio.sleep(0.1)
        return "done"

    env = environment(
        blueprints={"f": node("blocking"), "g": node("innocent")},
        handlers={"blocking": blocking, "innocent": innocent},
        settings=WorkerSettings(lease=0.6, heartbeat=0.2),
    )
    blocked, other = env.client.start("f"), env.client.start("g")
    assert other.result(timeout=TIMEOUT) == {"node": "done"}  # while the loop that it began on stands
    assert env.workers[0].counters.loops_replaced == 1
    let_go.set()
    assert blocked.result(timeout=TIMEOUT) == {"node": "done after all"}
    assert calls.count("blocking") == 1
    assert eventually(lambda: env.workers[0]._executor.retired == 0)


def test_an_attempt_without_code_is_given_up_and_run_again(environment: Make) -> None:
    began: list[int] = []

    async def vanishes(ctx: AsyncNodeContext) -> str:
        began.append(ctx.fencing_token)
        if len(began) == 1:
            loop = env.workers[0]._executor._current
            loop.tasks.clear()  # as if a task had gone without a trace
            await asyncio.get_running_loop().create_future()
        return "done"

    env = environment(
        blueprints={"f": node("vanishes")},
        handlers={"vanishes": vanishes},
        settings=WorkerSettings(lease=60.0, heartbeat=0.1),
    )
    assert env.client.start("f").result(timeout=TIMEOUT) == {"node": "done"}
    assert began == [1, 2]
    assert env.workers[0].counters.attempts_given_up == 1


def test_what_has_no_code_at_two_looks_in_a_row_is_lost() -> None:
    here, there = object(), object()
    held: list[Any] = [here, there]
    running: list[Any] = [here]
    liveness = Liveness(lambda: held, (lambda: running, lambda: ()))
    assert liveness.without_code() == [there]
    assert liveness.lost() == []
    assert liveness.lost() == [there]
    running.append(there)
    assert liveness.lost() == []
    running.clear()
    assert liveness.lost() == []


def test_a_thread_runs_from_its_start_to_its_end() -> None:
    let_go = threading.Event()
    thread = threading.Thread(target=let_go.wait)
    assert thread_runs(thread)
    thread.start()
    assert thread_runs(thread)
    let_go.set()
    thread.join()
    assert not thread_runs(thread)
