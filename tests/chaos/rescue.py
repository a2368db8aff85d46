"""One worker dies at a chosen point, another one goes on: what the tests of kill points have in common."""

import subprocess
import sys
import time

from tests.acceptance.server_program import eventually, server_environment
from tests.chaos import ledger
from tests.chaos.deployment import NAMESPACE, Deployment, Worker
from tests.chaos.doomed import Point
from tests.chaos.flows import FLOWS, context
from tests.chaos.handlers import FOLDER
from tests.chaos.verdict import judge

LEASE = 2.0
RECOVERY = 4.0
"""Seconds from a death within which a run has to be where it would be without it."""
RECOVERY_APART = 10.0
"""The same where a suspect is run in a process of its own: that has to start first, slowly if the machine is busy."""


def frozen_worker(chaos: Deployment) -> Worker:
    """A worker that is ready to go on, and does nothing yet."""
    worker = chaos.add_worker()
    worker.freeze()
    return worker


def die_at(chaos: Deployment, point: Point, patience: float = 20.0) -> float:
    """Have a worker serve until it dies at a point; returns when, by the wall clock."""
    environ = server_environment(**{ledger.VARIABLE: str(chaos.ledger), FOLDER: str(chaos.folder)})
    partitions, lease = str(chaos.partitions.count), str(chaos.lease)
    command = [sys.executable, "-m", "tests.chaos.doomed", chaos.url, NAMESPACE, partitions, lease]
    victim = subprocess.Popen([*command, *point.arguments()], stdin=subprocess.PIPE, env=environ)
    try:
        assert eventually(lambda: victim.poll() is not None, patience), f"nobody came by: {point}"
        died = time.time()
        assert victim.returncode == -9
        return died
    finally:
        victim.kill()
        victim.wait()
        assert victim.stdin is not None
        victim.stdin.close()


def seconds_to_end(chaos: Deployment, run_id: str, died: float) -> float:
    """From a death to the end of a run."""
    handle = chaos.client.get_handle(run_id)
    handle.wait(timeout=20)
    ended = next(event for event in handle.events(follow=False) if event.type == "run_ended")
    return ended.at.timestamp() - died


def rescued(chaos: Deployment, flow: str, point: Point, rescuer: Worker | None = None) -> float:
    """Start a run of a flow, have its worker die at a point and another one go on; returns how long that took, in seconds.

    Everything about the run is as it would be without the death, or it is an assertion that fails.

    Args:
        rescuer: who goes on, if it is there already.
    """
    assert flow in FLOWS
    if rescuer is None:
        rescuer = frozen_worker(chaos)
    else:
        rescuer.freeze()
    x = 4
    run_id = chaos.client.start(flow, context(flow, x)).run_id
    died = die_at(chaos, point)
    rescuer.thaw()
    seconds = seconds_to_end(chaos, run_id, died)
    verdict = judge(chaos, {run_id: (flow, x)}, 1.0)
    assert verdict.is_clean(), verdict.faults()
    return seconds
