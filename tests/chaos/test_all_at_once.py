"""All kinds of trouble at the same time, in an order that one seed decides."""

import os
import random
import secrets
import time
from collections.abc import Callable

from tests.acceptance.server_program import eventually
from tests.chaos.deployment import Deployment, Worker
from tests.chaos.flows import FLOWS, context
from tests.chaos.proxy import LossyProxy
from tests.chaos.verdict import judge

Make = Callable[..., Deployment]
LEASE = 1.0
WORKERS = 3
ROUNDS = int(os.environ.get("FLOWCRAFT_CHAOS_ROUNDS", "8"))
LOSS = 0.03


def test_kills_freezes_lost_replies_and_a_store_that_dies(deployed: Make) -> None:
    seed = int(os.environ.get("FLOWCRAFT_CHAOS_SEED") or secrets.randbits(32))
    chance = random.Random(seed)
    chaos = deployed(lease=LEASE)
    runs = {}
    with LossyProxy(chaos.store.url.removeprefix("unix://"), seed, 0.0) as proxy:
        for _ in range(WORKERS):
            chaos.add_worker(proxy.url)
        proxy.loss = LOSS
        for number in range(ROUNDS):
            for flow in sorted(FLOWS):
                x = chance.randrange(1000)
                runs[chaos.client.start(flow, context(flow, x)).run_id] = (flow, x)
            time.sleep(chance.uniform(0.0, 0.2))
            assert eventually(lambda: sum(worker.up() for worker in chaos.workers) >= 2)
            victim = chance.choice([worker for worker in chaos.workers if worker.up()])
            trouble(chaos, proxy, victim, ("kill", "freeze", "store", "wake")[number % 4])
        verdict = judge(chaos, runs, 60)
        proxy.loss = 0.0
    assert verdict.is_clean(), f"seed {seed}\n{verdict.faults()}"
    assert proxy.lost > ROUNDS, f"seed {seed}"
    assert chaos.hanging() == []
    shown = "".join(path.read_text() for path in chaos.folder.glob("output-*.txt"))
    of_handlers = "failed, the last one: Traceback"
    others = [line for line in shown.splitlines() if "raceback" in line and of_handlers not in line]
    assert not others, shown[shown.find("\n" + others[0]) :][:3000]


def trouble(chaos: Deployment, proxy: LossyProxy, victim: Worker, kind: str) -> None:
    """One piece of it."""
    if kind == "kill":
        chaos.kill(victim)
        chaos.add_worker(proxy.url, wait=False)
    elif kind == "freeze":
        victim.freeze()
        time.sleep(1.5 * LEASE)
        victim.thaw()
    elif kind == "store":
        chaos.kill_store()
        chaos.redis.script_flush()
    else:
        chaos.redis.delete(chaos.partitions.home.wake("default"))
