"""Ticks of a schedule while the servers are killed at random: `python -m tests.chaos.schedules`, and in short as a test.

Three worker processes look for ticks that are due. The test moves the clock of the deployment from tick to tick, now and then also back,
and kills processes at the moments at which a tick falls due. Each tick has to have exactly one run.

Variables: FLOWCRAFT_CHAOS_TICKS (1000), FLOWCRAFT_CHAOS_KILLS (60), FLOWCRAFT_CHAOS_SEED (chosen and printed).
"""

import os
import random
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from flowcraft_sdk.protocol import scripts
from flowcraft_server.schedules.definition import Schedule
from flowcraft_server.store.schedules import publish_schedules
from tests.acceptance.server_program import eventually
from tests.chaos.deployment import Deployment
from tests.chaos.tables import as_table

SERVERS = 3
INTERVAL = 60_000
FLOW = {"tick": "nodes:\n  a: {uses: sleep, params: {duration: 1ms}}\n"}
SCHEDULE = Schedule("ticker", "tick", every=INTERVAL, catch_up=10 * INTERVAL)
LATEST = 30.0
"""Seconds that a tick may take until its run has ended: a killed process's node is taken over meanwhile."""


@dataclass
class Report:
    """What happened.

    Attributes:
        missing: ticks without a run, by the ids that their runs should have.
        unexpected: runs that stand for no tick.
        starts: how many the schedule has counted.
        skips: ticks that it has left out.
    """

    seed: int
    ticks: int
    kills: int = 0
    steps_back: int = 0
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    starts: int = 0
    skips: int = 0
    hanging: list[str] = field(default_factory=list)
    slowest: float = 0.0
    seconds: float = 0.0

    def is_clean(self) -> bool:
        """Whether each tick had exactly one run."""
        return not (self.missing or self.unexpected or self.skips or self.hanging) and self.starts == self.ticks


class Ticker:
    """A deployment whose clock goes from tick to tick."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.schedules = deployment.client.schedules
        publish_schedules(deployment.redis, deployment.partitions, [SCHEDULE], "host:/chaos")
        keys = deployment.partitions.for_run(SCHEDULE.id)
        self.tick = int(deployment.redis.hget(keys.schedule(SCHEDULE.id), "handled") or 0) // INTERVAL * INTERVAL

    def now(self) -> int:
        """The time by which the deployment goes, in ms."""
        seconds, micros = self.deployment.redis.time()
        return (
            seconds * 1000 + micros // 1000 + int(self.deployment.redis.get(self.deployment.partitions.home.clock) or 0)
        )

    def move(self, by: int) -> None:
        """Move the clock by so many ms, and have the servers look."""
        for keys in self.deployment.partitions.all:
            call = scripts.advance(keys, ms=by, keep_leases=True)
            self.deployment.redis.eval(call.script.source, len(call.keys), *call.keys, *call.args)
            self.deployment.redis.publish(keys.control, "|schedule")

    def to_next(self) -> str:
        """Move the clock to the next tick; returns the id that its run should have."""
        self.tick += INTERVAL
        self.move(max(0, self.tick - self.now()) + 1)
        return SCHEDULE.run_id(self.tick)

    def has_run(self, run_id: str) -> bool:
        """Whether a run was started, and has ended."""
        keys = self.deployment.partitions.for_run(run_id)
        return self.deployment.redis.hget(keys.run(run_id), "st") == b"completed"


def rage(folder: Path, *, ticks: int, kills: int, seed: int, shown: bool = False) -> Report:
    """Have so many ticks fall due, with kills of random servers in between; one at least is always alive.

    Args:
        shown: whether to print how far it is.
    """
    chance, report, expected = random.Random(seed), Report(seed, ticks), set[str]()
    fatal = set(chance.sample(range(1, ticks), kills))
    with Deployment(folder, lease=1.0, flows=FLOW) as deployment:
        for _ in range(SERVERS):
            deployment.add_worker()
        ticker, begin = Ticker(deployment), time.monotonic()
        for number in range(ticks):
            if number in fatal:
                assert eventually(lambda: sum(worker.up() for worker in deployment.workers) >= 2)
            elif chance.random() < 0.05:
                ticker.move(-chance.randrange(1, 5 * INTERVAL))
                report.steps_back += 1
            due = time.monotonic()
            run_id = ticker.to_next()
            expected.add(run_id)
            if number in fatal:
                time.sleep(chance.uniform(0.0, 0.01))
                deployment.kill(chance.choice([worker for worker in deployment.workers if worker.up()]))
                deployment.add_worker(wait=False)
                report.kills += 1
            if not eventually(lambda run_id=run_id: ticker.has_run(run_id), LATEST):  # type: ignore[misc]
                report.missing.append(run_id)
            report.slowest = max(report.slowest, time.monotonic() - due)
            if shown and number % 100 == 99:
                print(f"{number + 1} ticks, {report.kills} kills, {time.monotonic() - begin:.0f} s", flush=True)
        report.seconds = time.monotonic() - begin
        found = [run.run_id for run in deployment.client.list_runs(tag=f"schedule:{SCHEDULE.id}", limit=None)]
        report.missing = sorted(expected - set(found))
        report.unexpected = sorted(run_id for run_id in found if run_id not in expected or found.count(run_id) > 1)
        info = ticker.schedules.get(SCHEDULE.id)
        report.starts, report.skips = info.starts, info.skips
        report.hanging = deployment.hanging()
    return report


def table(report: Report) -> str:
    """What happened, as a table in Markdown."""
    rows = [
        ("seed", report.seed),
        ("ticks", report.ticks),
        ("servers killed with SIGKILL", report.kills),
        ("times that the clock was set back", report.steps_back),
        ("runs that the schedule counts", report.starts),
        ("ticks without a run", len(report.missing)),
        ("runs without a tick", len(report.unexpected)),
        ("ticks left out", report.skips),
        ("defects that the doctor finds", len(report.hanging)),
        ("slowest run, from its tick to its end", f"{report.slowest:.2f} s"),
        ("time", f"{report.seconds:.0f} s"),
    ]
    return as_table(rows)


def main() -> int:
    """The long version; 1 if a tick had not exactly one run."""
    ticks = int(os.environ.get("FLOWCRAFT_CHAOS_TICKS", "1000"))
    kills = int(os.environ.get("FLOWCRAFT_CHAOS_KILLS", "60"))
    seed = int(os.environ.get("FLOWCRAFT_CHAOS_SEED") or secrets.randbits(32))
    sys.stdout.write(f"seed {seed}: {ticks} ticks, {kills} kills\n")
    with tempfile.TemporaryDirectory(prefix="flowcraft-chaos-") as folder:
        report = rage(Path(folder), ticks=ticks, kills=kills, seed=seed, shown=True)
    faults = [*report.missing, *report.unexpected, *report.hanging]
    sys.stdout.write("\n".join([*faults[:20], table(report), ""]))
    return 0 if report.is_clean() else 1


if __name__ == "__main__":
    sys.exit(main())
