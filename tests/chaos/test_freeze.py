"""Workers that stand still for longer than a lease and then go on as if nothing had happened."""

import random
import time
from collections.abc import Callable

from tests.acceptance.server_program import eventually
from tests.chaos.deployment import Deployment
from tests.chaos.flows import FLOWS, context
from tests.chaos.verdict import judge

Make = Callable[..., Deployment]
HELD = "nodes:\n  a: {uses: hold, inputs: x}\n  b: {uses: step, inputs: a, needs: a}\n"
LEASE = 0.5


def test_a_late_finisher_is_refused_and_counted(deployed: Make) -> None:
    chaos = deployed(lease=LEASE, flows={"held": HELD})
    frozen = chaos.add_worker()
    handle = chaos.client.start("held", {"x": 1})
    assert eventually(lambda: chaos.begun("a"))
    frozen.freeze()
    chaos.add_worker()
    assert eventually(lambda: chaos.begun("a", 2)), "another worker takes over"
    assert chaos.stale() == 0
    chaos.go(f"go-{frozen.pid}")
    frozen.thaw()
    assert eventually(lambda: chaos.stale() == 1), "the first one finishes, while the second one is at it"
    assert handle.status() == "running"
    chaos.go()
    assert handle.result(timeout=10)["b"] == 3
    first, second = chaos.read_ledger().at(handle.run_id, "a")
    assert first.fencing_token < second.fencing_token
    assert first.pid == frozen.pid
    completed = [
        event.node_id for event in handle.events(follow=False) if event.type in ("node_completed", "node_recovered")
    ]
    assert completed == ["a", "b"]
    assert "no longer ours" in frozen.server.printed


def test_workers_freeze_in_turn_under_load(deployed: Make) -> None:
    chaos = deployed(lease=LEASE)
    workers = [chaos.add_worker() for _ in range(3)]
    chance = random.Random(3)
    runs = {}
    deaths = []
    for number in range(5):
        for flow in sorted(FLOWS) * 2:
            x = chance.randrange(1000)
            runs[chaos.client.start(flow, context(flow, x)).run_id] = (flow, x)
        time.sleep(0.05)
        deaths.append(workers[number % 3].freeze())
        time.sleep(2 * LEASE)
        workers[number % 3].thaw()
    verdict = judge(chaos, runs, 40, deaths[-1:])
    assert verdict.is_clean(), verdict.faults()
    assert chaos.read_ledger().again() > 0
    assert chaos.stale() > 0
