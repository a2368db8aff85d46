"""Sagas whose fourth step fails, while workers are killed at random: `python -m tests.chaos.sagas`, and in short as a test.

Three steps complete and the fourth fails for good: the compensations of the three are to run once each, in reverse order, and the node of
`finally` once after them. Each worker that is killed is replaced.

Variables: FLOWCRAFT_CHAOS_RUNS (150), FLOWCRAFT_CHAOS_KILLS (50), FLOWCRAFT_CHAOS_SEED (chosen and printed).
"""

import os
import random
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowcraft_sdk import Handle
from tests.acceptance.server_program import eventually
from tests.chaos.deployment import Deployment
from tests.chaos.tables import as_table

WORKERS = 3
AT_ONCE = 15
SAGA = """
nodes:
  one: {uses: step, inputs: x, params: {ms: 20}, config: {compensate: undo-one}}
  two: {uses: async_step, inputs: one, needs: one, params: {ms: 20}, config: {compensate: undo-two}}
  three: {uses: step, inputs: two, needs: two, params: {ms: 20}, config: {compensate: undo-three}}
  four: {uses: broken, needs: three, config: {compensate: undo-four}}
  five: {uses: step, inputs: three, needs: four, config: {compensate: undo-five}}
  undo-one: {uses: step, params: {ms: 20}}
  undo-two: {uses: async_step, params: {ms: 20}}
  undo-three: {uses: step, params: {ms: 20}}
  undo-four: {uses: step}
  undo-five: {uses: step}
finally:
  last: {uses: step, inputs: x}
"""
COMPLETED = ["one", "two", "three", "undo-three#3", "undo-two#2", "undo-one#1", "last"]
"""What has to complete, in this order and once each."""

PAUSE = 0.3
"""Seconds between two kills."""


@dataclass
class Report:
    """What happened.

    Attributes:
        wrong: runs that completed something else than they had to, with what that was.
        hanging: what the doctor finds.
    """

    seed: int
    runs: int
    kills: int = 0
    taken_over: int = 0
    wrong: list[str] = field(default_factory=list)
    hanging: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def is_clean(self) -> bool:
        """Whether each saga was undone as it has to be."""
        return not (self.wrong or self.hanging)


def rage(folder: Path, *, runs: int, kills: int, seed: int) -> Report:
    """Start so many sagas, `AT_ONCE` at a time, and kill workers until there were so many kills and all runs have ended."""
    chance, report = random.Random(seed), Report(seed, runs)
    begin, handles, open_ = time.monotonic(), list[Handle[Any]](), list[Handle[Any]]()
    with Deployment(folder, lease=1.0, flows={"saga": SAGA}) as deployment:
        for _ in range(WORKERS):
            deployment.add_worker()
        while report.kills < kills or open_ or len(handles) < runs:
            while len(open_) < AT_ONCE and (len(handles) < runs or report.kills < kills):
                handles.append(deployment.client.start("saga", {"x": 1}))
                open_.append(handles[-1])
            time.sleep(chance.uniform(0.0, PAUSE))
            if report.kills < kills and sum(worker.up() for worker in deployment.workers) >= 2:
                deployment.kill(chance.choice([worker for worker in deployment.workers if worker.up()]))
                deployment.add_worker(wait=False)
                report.kills += 1
            open_ = [handle for handle in open_ if not handle.status().is_terminal]
            if time.monotonic() - begin > 600:
                break
        report.runs = len(handles)
        for handle in handles:
            _judge(handle, report)
        eventually(lambda: not deployment.hanging())
        report.hanging = deployment.hanging()
    report.seconds = time.monotonic() - begin
    return report


def _judge(handle: Handle[Any], report: Report) -> None:
    events = list(handle.events(follow=False))
    completed = [event.node_id for event in events if event.type == "node_completed"]
    begun = [event.node_id for event in events if event.type == "node_started"]
    report.taken_over += len(begun) - len(set(begun))
    status = handle.status()
    if status != "failed" or completed != COMPLETED:
        report.wrong.append(f"{handle.run_id} ({status}): {', '.join(map(str, completed))}")


def table(report: Report) -> str:
    """What happened, as a table in Markdown."""
    rows = [
        ("seed", report.seed),
        ("sagas", report.runs),
        ("workers killed with SIGKILL", report.kills),
        ("nodes that another worker began again", report.taken_over),
        ("sagas that were not undone as they have to be", len(report.wrong)),
        ("defects that the doctor finds", len(report.hanging)),
        ("time", f"{report.seconds:.0f} s"),
    ]
    return as_table(rows)


def main() -> int:
    """The long version; 1 if a saga was not undone as it has to be."""
    runs = int(os.environ.get("FLOWCRAFT_CHAOS_RUNS", "150"))
    kills = int(os.environ.get("FLOWCRAFT_CHAOS_KILLS", "50"))
    seed = int(os.environ.get("FLOWCRAFT_CHAOS_SEED") or secrets.randbits(32))
    sys.stdout.write(f"seed {seed}: {runs} sagas at least, {kills} kills\n")
    with tempfile.TemporaryDirectory(prefix="flowcraft-chaos-") as folder:
        report = rage(Path(folder), runs=runs, kills=kills, seed=seed)
    sys.stdout.write("\n".join([*report.wrong[:20], *report.hanging[:20], table(report), ""]))
    return 0 if report.is_clean() else 1


if __name__ == "__main__":
    sys.exit(main())
