"""The store is killed and comes back with its append-only file; the client is killed and another one asks."""

import random
import subprocess
import sys
import time
from collections.abc import Callable

from tests.acceptance.server_program import eventually, server_environment
from tests.chaos.deployment import NAMESPACE, Deployment
from tests.chaos.flows import FLOWS, context
from tests.chaos.verdict import judge

Make = Callable[..., Deployment]
HELD = "nodes:\n  a: {uses: hold, inputs: x}\n  b: {uses: step, inputs: a, needs: a}\n"


def test_the_store_killed_under_load(deployed: Make) -> None:
    """What it had answered is there again. (A power cut is another matter: see docs/reliability.md.)"""
    chaos = deployed(lease=1.0)
    for _ in range(2):
        chaos.add_worker()
    chance = random.Random(1)
    runs = {}
    for _ in range(4):
        for flow in sorted(FLOWS) * 2:
            x = chance.randrange(1000)
            runs[chaos.client.start(flow, context(flow, x)).run_id] = (flow, x)
        time.sleep(0.15)
        chaos.kill_store()
    verdict = judge(chaos, runs, 40)
    assert verdict.is_clean(), verdict.faults()


def test_a_node_that_runs_while_the_store_is_away_is_not_run_again(deployed: Make) -> None:
    chaos = deployed(lease=5.0, flows={"held": HELD})
    worker = chaos.add_worker()
    handle = chaos.client.start("held", {"x": 1})
    assert handle.wait_for("running", timeout=10) == "running"
    assert eventually(lambda: chaos.begun("a"))
    chaos.kill_store()
    chaos.go()
    assert handle.result(timeout=20)["b"] == 3
    assert chaos.read_ledger().again() == 0
    assert "raceback" not in worker.server.printed, "an outage is reported in a line"


def test_the_client_killed_while_it_waits(deployed: Make) -> None:
    chaos = deployed(flows={"held": HELD})
    chaos.add_worker()
    command = [sys.executable, "-m", "tests.chaos.caller", chaos.store.url, NAMESPACE, "held", "r1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=server_environment()) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"started\n"
        caller.kill()
    chaos.go()
    assert chaos.client.get_handle("r1").result(timeout=20)["b"] == 3
    again = chaos.client.start("held", context("held", 1), run_id="r1")
    assert again.attached
    assert len(chaos.read_ledger().at("r1", "a")) == 1
