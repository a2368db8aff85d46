"""Workers that are asked to stop and replaced, one after the other, under load: a deploy."""

import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.acceptance.server_program import eventually
from tests.chaos.deployment import Deployment
from tests.chaos.flows import FLOWS, context
from tests.chaos.verdict import judge

Make = Callable[..., Deployment]
RESTARTS = 4


@pytest.mark.parametrize("gently", [True, False], ids=["drained", "at once"])
def test_a_rolling_restart_loses_nothing(deployed: Make, gently: bool) -> None:
    """Drained workers finish what they run, so nothing is run again; asked twice, they hand back what they run.

    The lease is longer than the test waits: what were not handed back would be stuck.
    """
    chaos = deployed(lease=30.0)
    for _ in range(2):
        chaos.add_worker()
    chance = random.Random(5)
    runs = {}
    for _ in range(RESTARTS):
        for flow in sorted(FLOWS) * 2:
            x = chance.randrange(1000)
            runs[chaos.client.start(flow, context(flow, x)).run_id] = (flow, x)
        oldest = chaos.workers.pop(0)
        oldest.server.signal(signal.SIGTERM)
        chaos.add_worker(wait=False)
        if not gently:
            time.sleep(0.05)  # two signals that come together are delivered as one
            oldest.server.signal(signal.SIGTERM)
        # A second signal that comes when the program is already through ends it by the signal itself.
        assert oldest.server.ends() in ((0,) if gently else (0, 1, -signal.SIGTERM)), oldest.server.printed
        assert eventually(chaos.workers[-1].up)
    verdict = judge(chaos, runs, 20)
    assert not (verdict.lost or verdict.stuck or verdict.twice), verdict.faults()
    if gently:
        assert verdict.is_clean(), verdict.faults()
        assert chaos.read_ledger().again() == 0
