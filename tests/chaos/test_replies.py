"""Replies that never arrive, scripts that Redis has forgotten, wake-up messages that are lost or doubled: nothing is applied twice."""

import os
import random
import secrets
import time
from collections.abc import Callable

import pytest

from flowcraft_server.testing.handlers import as_runnable
from flowcraft_server.worker.settings import WorkerSettings
from flowcraft_server.worker.worker import Worker
from tests.acceptance.server_program import eventually
from tests.chaos.deployment import NAMESPACE, Deployment
from tests.chaos.flows import FLOWS, context
from tests.chaos.proxy import LossyProxy
from tests.chaos.verdict import judge

Make = Callable[..., Deployment]
RUNS = 42
LOSS = 0.05
TIMEOUT = 40.0


def started(chaos: Deployment, chance: random.Random) -> dict[str, tuple[str, int]]:
    """Runs of all flows."""
    runs = {}
    for flow in sorted(FLOWS) * (RUNS // len(FLOWS)):
        x = chance.randrange(1000)
        runs[chaos.client.start(flow, context(flow, x)).run_id] = (flow, x)
    return runs


@pytest.fixture
def seed() -> int:
    """Printed when a test fails."""
    chosen = int(os.environ.get("FLOWCRAFT_CHAOS_SEED") or secrets.randbits(32))
    print(f"seed {chosen}")
    return chosen


def test_replies_lost_between_the_workers_and_redis(deployed: Make, seed: int) -> None:
    chaos = deployed(lease=1.0)
    socket = chaos.store.url.removeprefix("unix://")
    with LossyProxy(socket, seed, 0.0) as proxy:
        for _ in range(2):
            chaos.add_worker(proxy.url)
        proxy.loss = LOSS
        runs = started(chaos, random.Random(seed))
        verdict = judge(chaos, runs, TIMEOUT)
        proxy.loss = 0.0
    assert verdict.is_clean(), verdict.faults()
    assert proxy.lost > 20


@pytest.mark.parametrize("after", [0, 4, 8])
def test_a_connection_that_breaks_while_a_worker_starts(deployed: Make, after: int) -> None:
    chaos = deployed()
    with LossyProxy(chaos.store.url.removeprefix("unix://"), 0, 0.0) as proxy:
        settings = WorkerSettings(partitions=chaos.partitions.count)
        worker = Worker(proxy.url, NAMESPACE, {"step": as_runnable("step", lambda ctx: ctx.input)}, settings)
        proxy.lose(after, 2)
        worker.start()
        try:
            assert proxy.lost == 2
            assert eventually(lambda: worker.settings.worker_id in chaos.announced().values())
        finally:
            worker.stop()


def test_the_script_cache_flushed_under_way(deployed: Make, seed: int) -> None:
    chaos = deployed(lease=1.0)
    for _ in range(2):
        chaos.add_worker()
    runs = started(chaos, random.Random(seed))
    for _ in range(40):
        chaos.redis.script_flush()
        time.sleep(0.02)
    verdict = judge(chaos, runs, TIMEOUT)
    assert verdict.is_clean(), verdict.faults()


@pytest.mark.parametrize("what", ["deleted", "doubled"])
def test_messages_in_hueys_queue(deployed: Make, seed: int, what: str) -> None:
    """They are wake-ups: no message is needed for a node to run, and no message makes one run twice."""
    chaos = deployed(lease=1.0)
    if chaos.partitions.count > 1:
        pytest.skip("with several partitions nothing is written to Huey's queue")
    wake = chaos.partitions.home.wake("default")
    runs = started(chaos, random.Random(seed))
    before = chaos.redis.lrange(wake, 0, -1)
    assert before
    meddle(chaos, wake, what)
    for _ in range(2):
        chaos.add_worker()
    for _ in range(100):
        meddle(chaos, wake, what)
        time.sleep(0.01)
    verdict = judge(chaos, runs, TIMEOUT)
    assert verdict.is_clean(), verdict.faults()
    assert chaos.read_ledger().again() == 0


def meddle(chaos: Deployment, wake: str, what: str) -> None:
    """Delete or double all messages that are in the queue now."""
    if what == "deleted":
        chaos.redis.delete(wake)
    else:
        for message in chaos.redis.lrange(wake, 0, 20):
            chaos.redis.lpush(wake, message)
