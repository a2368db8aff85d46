"""Engine tests run on the real engine; each leaves nothing behind but ended runs, plans and settings."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowcraft_sdk.records import STATES
from flowcraft_server.testing import TestEnvironment, broken_invariants

TRANSIENT = ("leases", "timers", "ready:default")


@pytest.fixture
def environment() -> Iterator[Callable[..., TestEnvironment]]:
    """Makes environments that are closed, and looked over for left-over keys, at the end of the test."""
    opened: list[TestEnvironment] = []

    def make(**options: Any) -> TestEnvironment:
        env = TestEnvironment(**options).__enter__()
        opened.append(env)
        return env

    yield make
    leaks = [leak for env in opened for leak in (*leaked(env), *broken_invariants(env), *without_code(env))]
    for env in opened:
        env.__exit__(None, None, None)
    assert not leaks, leaks


def without_code(env: TestEnvironment) -> list[str]:
    """Attempts that a worker holds, and renews the leases of, without code behind them."""
    suspects = [(worker, attempt) for worker in env.workers for attempt in worker.liveness.without_code()]
    # What just changed hands is somewhere at the next look.
    return [
        f"{attempt.key} is held without code"
        for worker, attempt in suspects
        if attempt in worker.held.all() and any(attempt is each for each in worker.liveness.without_code())
    ]


def leaked(env: TestEnvironment) -> list[str]:
    """Entries of ended runs that are still in a queue, a lease or a timer, and run hashes in no index."""
    ended = set()
    for status in ("completed", "failed", "cancelled", "timed_out"):
        ended |= {run.decode() for run in env.link.redis.zrange(env.keys.index_status(status), 0, -1)}
    found = []
    for name in TRANSIENT:
        for member in env.link.redis.zrange(env.keys.base + name, 0, -1):
            parts = member.decode().split("|")
            if ended & set(parts[:2]):
                found.append(f"{name} keeps {member.decode()}")
    indexes = [env.keys.index_status(status) for status in STATES]
    listed = {run.decode() for index in indexes for run in env.link.redis.zrange(index, 0, -1)}
    prefix = env.keys.base + "run:"
    for key in env.link.redis.scan_iter(match=prefix.replace("[", "\\[") + "*", count=1000):
        run_id = key.decode()[len(prefix) :].partition(":events")[0].partition(":batch:")[0]
        if run_id not in listed:
            found.append(f"{key.decode()} belongs to no listed run")
    return found
