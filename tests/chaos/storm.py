"""Runs of all kinds while workers are killed at random: `python -m tests.chaos.storm`, and in short as a test.

Variables: FLOWCRAFT_CHAOS_KILLS (500), FLOWCRAFT_CHAOS_RUNS (2000), FLOWCRAFT_CHAOS_SEED (chosen and printed),
FLOWCRAFT_CHAOS_HOSTILE (0: the share of handler calls that exit, raise BaseException, close the loop or end their thread).
"""

import os
import random
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.server_program import eventually
from tests.chaos.deployment import Deployment
from tests.chaos.flows import FLOWS, context
from tests.chaos.tables import as_table
from tests.chaos.verdict import Verdict, judge

WORKERS = 3
LEASE = 1.0
FIRST_RUNS = 12
"""Runs that are under way before the first kill."""

SETTLING = 90.0
"""Seconds within which everything has ended after the last kill."""


@dataclass(frozen=True)
class Storm:
    """What happened.

    Attributes:
        executions: handlers called, by the ledger.
        again: how many of them not for the first time.
        stale: late finishers that were refused.
        seconds: from the first start to the last end.
    """

    seed: int
    kills: int
    verdict: Verdict
    executions: int
    again: int
    stale: int
    seconds: float


def rage(folder: Path, *, kills: int, runs: int, seed: int, hostile: float = 0.0, shown: bool = False) -> Storm:
    """Start `runs` runs spread over `kills` kills of a random worker; one worker at least is always alive.

    Args:
        hostile: the share of handler calls that misbehave.
        shown: whether to print how far it is.
    """
    chance = random.Random(seed)
    started: dict[str, tuple[str, int]] = {}

    def start(count: int) -> None:
        for _ in range(min(count, runs - len(started))):
            flow, x = chance.choice(sorted(FLOWS)), chance.randrange(1000)
            started[deployment.client.start(flow, context(flow, x)).run_id] = (flow, x)

    with Deployment(folder, lease=LEASE, hostile=hostile) as deployment:
        for _ in range(WORKERS):
            deployment.add_worker()
        begin = time.monotonic()
        start(FIRST_RUNS)
        for number in range(1, kills + 1):
            assert eventually(lambda: sum(worker.up() for worker in deployment.workers) >= 2)
            start(-(-(runs - FIRST_RUNS) // max(1, kills)))
            time.sleep(chance.uniform(0.0, 0.3))
            deployment.kill(chance.choice([worker for worker in deployment.workers if worker.up()]))
            deployment.add_worker(wait=False)
            if shown and number % 25 == 0:
                print(f"{number} kills, {len(started)} runs started, {time.monotonic() - begin:.0f} s", flush=True)
        start(runs)
        verdict = judge(deployment, started, SETTLING, deployment.deaths)
        verdict.hanging += deployment.hanging()
        reported = deployment.read_ledger()
        seconds = time.monotonic() - begin
        return Storm(seed, kills, verdict, reported.begun(), reported.again(), deployment.stale(), seconds)


def table(storm: Storm) -> str:
    """What happened, as a table in Markdown."""
    verdict = storm.verdict
    late = [seconds for seconds in verdict.takeovers if seconds > LEASE + 1]
    rows = [
        ("seed", storm.seed),
        ("workers killed with SIGKILL", storm.kills),
        ("runs started", verdict.runs),
        ("lost runs", len(verdict.lost)),
        ("stuck runs", len(verdict.stuck)),
        ("nodes recorded", verdict.nodes),
        ("outputs recorded twice", len(verdict.twice)),
        ("handlers called", storm.executions),
        ("of those again, after a take-over", storm.again),
        ("defects that the doctor finds", len(verdict.hanging)),
        ("executions without an explanation", len(verdict.unexplained)),
        ("late finishers refused", storm.stale),
        ("nodes taken over", len(verdict.takeovers)),
        (f"take-overs later than the lease ({LEASE:g} s) + 1 s", len(late)),
        ("slowest take-over, from the kill", f"{max(verdict.takeovers, default=0):.2f} s"),
        ("slowest new claim, from the kill", f"{max(verdict.resumed, default=0):.2f} s"),
        ("time", f"{storm.seconds:.0f} s"),
    ]
    return as_table(rows)


def main() -> int:
    """The long version; 1 if a guarantee was broken."""
    kills = int(os.environ.get("FLOWCRAFT_CHAOS_KILLS", "500"))
    runs = int(os.environ.get("FLOWCRAFT_CHAOS_RUNS", "2000"))
    seed = int(os.environ.get("FLOWCRAFT_CHAOS_SEED") or secrets.randbits(32))
    hostile = float(os.environ.get("FLOWCRAFT_CHAOS_HOSTILE") or 0)
    sys.stdout.write(f"seed {seed}: {kills} kills, {runs} runs, {hostile:.0%} of the handler calls misbehave\n")
    with tempfile.TemporaryDirectory(prefix="flowcraft-chaos-") as folder:
        storm = rage(Path(folder), kills=kills, runs=runs, seed=seed, hostile=hostile, shown=True)
    sys.stdout.write(f"{storm.verdict.faults()}\n{table(storm)}\n")
    return 0 if storm.verdict.is_clean() and max(storm.verdict.takeovers, default=0) <= LEASE + 1 else 1


if __name__ == "__main__":
    sys.exit(main())
