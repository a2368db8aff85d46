"""Runs that are started for another run, but by none of its nodes."""

import threading
from collections.abc import Callable
from typing import Any

from flowcraft_sdk import RunStatus
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]
ONE = {"id": "one", "nodes": [{"id": "n", "uses": "work"}]}


def test_they_are_listed_end_by_themselves_and_are_cancelled_with_their_parent(environment: Make) -> None:
    begun, release = threading.Semaphore(0), threading.Event()

    def work(ctx: Any) -> str:
        begun.release()
        while not release.wait(0.01):
            if ctx.context.get("patient"):
                ctx.check_cancelled()
            else:
                break
        return "done"

    env = environment(blueprints=ONE, handlers={"work": work})
    parent = env.client.start("one", {"patient": True})
    quick = env.client.start("one", parent=parent)
    slow = env.client.start("one", {"patient": True}, parent=parent.run_id)
    assert quick.result(timeout=60)["n"] == "done"
    for _ in range(3):
        assert begun.acquire(timeout=10)
    assert parent.status() is RunStatus.RUNNING
    assert set(parent.describe().children) == {quick.run_id, slow.run_id}
    assert {run.run_id for run in env.client.list_runs(parent=parent.run_id)} == {quick.run_id, slow.run_id}
    assert parent.cancel() is True
    assert slow.wait(timeout=10).status is RunStatus.CANCELLED
    assert parent.wait(timeout=10).status is RunStatus.CANCELLED
    assert quick.status() is RunStatus.COMPLETED
