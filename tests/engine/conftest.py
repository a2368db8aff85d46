"""Engine tests run on the real engine; each leaves nothing behind but ended runs, plans and settings."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowcraft_server.testing import TestEnvironment, broken_invariants
from tests.engine.leaks import leaked_keys
from tests.engine.routed_keys import route_keys


@pytest.fixture
def environment() -> Iterator[Callable[..., TestEnvironment]]:
    """Makes environments that are closed, and looked over for left-over keys, at the end of the test."""
    opened: list[TestEnvironment] = []

    def make(**options: Any) -> TestEnvironment:
        env = route_keys(TestEnvironment(**{"check": False, **options}).__enter__())
        opened.append(env)
        return env

    yield make
    leaks = [leak for env in opened for leak in (*leaked_keys(env), *broken_invariants(env), *without_code(env))]
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
