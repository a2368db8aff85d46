"""Primaries that are killed under load: `python -m tests.chaos.failover cluster` or `sentinel`; `--help` shows the options.

A client starts runs of all kinds at a fixed rate, repeats each start until it is acknowledged, and waits for each end. Meanwhile one
primary after the other is killed, a replica takes over, and the killed server comes back as a replica. At the end each acknowledged run
is looked for: it has ended as it must, with each node recorded once, or it is gone as a whole.
"""

import argparse
import asyncio
import itertools
import random
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from deploy.local.cluster import LocalCluster
from deploy.local.sentinel import SentinelDeployment
from flowcraft_sdk import AsyncClient, BackendUnavailableError, RunNotFoundError, RunSnapshot
from flowcraft_sdk._operations.durability import ASYNC, ONE_REPLICA, REPLICA
from flowcraft_sdk._transport.cluster import slot_of
from tests.chaos.deployment import NAMESPACE, Deployment
from tests.chaos.flows import FLOWS, context
from tests.chaos.tables import as_table
from tests.chaos.verdict import Verdict, judge_record

WORKERS = 2
THREADS = 16
"""Of each worker: enough for the load, so that no node waits for a thread."""

LEASE = 10.0
CLUSTER_PARTITIONS = 16
DOWN_AFTER = 2000
"""Milliseconds after which Sentinel takes a primary for down; with less it also removed some that were only slow."""

BETWEEN = 1.5
"""Seconds for which all servers are there before the next primary is killed."""

REPEAT_PAUSE = 0.1
MOST_UNACKNOWLEDGED = 50
"""Starts that are repeated at a time; meanwhile no other run is started."""

SETTLING = 90.0
"""Seconds within which everything has ended after the last failover."""


@dataclass(frozen=True)
class Failover:
    """One of them, by the wall clock.

    Attributes:
        killed: when the primary was killed.
        replaced: when its replica was seen as a primary.
        concerns: says of a run's id whether the run lay on it.
    """

    killed: float
    replaced: float
    concerns: Callable[[str], bool]


@dataclass
class Acknowledged:
    """A run whose start was acknowledged.

    Attributes:
        at: when, by the wall clock.
        ended: when the client was told of its end.
        ended_at: what it was told of when that was.
        gone: whether the client was told that there is no such run.
    """

    flow: str
    x: int
    at: float
    ended: float | None = None
    ended_at: datetime | None = None
    gone: bool = False


class Load:
    """Starts runs at a rate from a thread of its own. Use as a context manager, which stops it at the end.

    Args:
        rate: runs a second.
    """

    def __init__(self, url: str, rate: float, seed: int) -> None:
        self.runs: dict[str, Acknowledged] = {}
        self.errors: list[str] = []
        self.repeated = 0
        self._url = url
        self._rate = rate
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self._give_up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._drive()))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._give_up.set()
        self._thread.join()

    def finish(self, seconds: float) -> None:
        """Start no more, and wait for the ends of those that were started."""
        self._stop.set()
        self._thread.join(seconds)
        self._give_up.set()
        self._thread.join()

    async def _drive(self) -> None:
        loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        self._unacknowledged = asyncio.Semaphore(MOST_UNACKNOWLEDGED)
        async with AsyncClient(self._url, namespace=NAMESPACE) as client:
            begin = loop.time()
            for number in itertools.count():
                if self._stop.is_set():
                    break
                await self._unacknowledged.acquire()
                flow, x = self._chance.choice(sorted(FLOWS)), self._chance.randrange(1000)
                tasks.add(asyncio.create_task(self._one(client, f"run{number}", flow, x)))
                await asyncio.sleep(max(0.0, begin + (number + 1) / self._rate - loop.time()))
            while any(not task.done() for task in tasks) and not self._give_up.is_set():
                await asyncio.wait(tasks, timeout=0.2)
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            self.errors += [repr(end) for end in ends if isinstance(end, Exception)]

    async def _one(self, client: AsyncClient, run_id: str, flow: str, x: int) -> None:
        while True:
            try:
                handle = await client.start(flow, context(flow, x), run_id=run_id)
                break
            except BackendUnavailableError:
                self.repeated += 1
                await asyncio.sleep(REPEAT_PAUSE)
        self._unacknowledged.release()
        run = self.runs[run_id] = Acknowledged(flow, x, time.time())
        while run.ended is None:
            try:
                snapshot = await handle.wait()
                run.ended, run.ended_at = time.time(), snapshot.ended_at
            except RunNotFoundError:
                run.gone = True
                return
            except BackendUnavailableError:
                await asyncio.sleep(REPEAT_PAUSE)


@dataclass
class Outcome:
    """What happened.

    Attributes:
        lost: acknowledged runs of which nothing is there.
        undone: ends that a client was told of, and that were not there any more; the runs ended again.
        first: seconds from each take-over of a replica to the first handler that was called for a run that lay on the primary.
        slowest: seconds from each take-over until all runs that were under way there had ended.
        outage: seconds from each kill until a replica had taken over.
    """

    seed: int
    verdict: Verdict
    repeated: int
    lost: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    slowest: list[float] = field(default_factory=list)
    outage: list[float] = field(default_factory=list)
    seconds: float = 0.0


def fail_over_repeatedly(
    folder: Path, mode: str, *, failovers: int, rate: float, durability: str, seed: int, shown: bool = False
) -> Outcome:
    """Kill a primary so many times under load, and look over what is left.

    Args:
        folder: for everything, which must exist.
        mode: `cluster` (three primaries with a replica each, 16 partitions) or `sentinel`.
        rate: runs that are started a second.
        durability: `redis.durability`.
        shown: whether to print how far it is.
    """
    servers = folder / "servers"
    servers.mkdir()
    place = (
        LocalCluster(servers) if mode == "cluster" else SentinelDeployment(servers, sentinels=3, down_after=DOWN_AFTER)
    )
    partitions = CLUSTER_PARTITIONS if mode == "cluster" else 1
    chance, done, begin = random.Random(seed), list[Failover](), time.monotonic()
    with (
        place,
        Deployment(
            folder / "chaos",
            lease=LEASE,
            url=place.url,
            partitions=partitions,
            durability=durability,
            threads=THREADS,
        ) as deployment,
    ):
        for _ in range(WORKERS):
            deployment.add_worker()
        with Load(place.url, rate, seed) as load:
            for number in range(1, failovers + 1):
                time.sleep(BETWEEN + chance.uniform(0.0, 0.5))
                done.append(
                    _fail_over_cluster(place, deployment, chance)
                    if isinstance(place, LocalCluster)
                    else _fail_over_sentinel(place)
                )
                if shown:
                    took = done[-1].replaced - done[-1].killed
                    print(f"failover {number}: {took:.2f} s, {len(load.runs)} runs acknowledged", flush=True)
            time.sleep(BETWEEN)
            load.finish(SETTLING)
        outcome = _look_over(deployment, load, done, seed)
        outcome.seconds = time.monotonic() - begin
        return outcome


def _fail_over_cluster(cluster: LocalCluster, deployment: Deployment, chance: random.Random) -> Failover:
    victim = chance.choice([node for node in cluster.nodes() if node.is_primary])
    killed = time.time()
    cluster.fail_over(victim.port)
    replaced = time.time()
    cluster.start(victim.port)
    cluster.wait_until_whole()

    def concerns(run_id: str) -> bool:
        slot = slot_of(deployment.partitions.for_run(run_id).base)
        return any(begin <= slot <= end for begin, end in victim.slots)

    return Failover(killed, replaced, concerns)


def _fail_over_sentinel(sentinel: SentinelDeployment) -> Failover:
    begin = time.time()
    killed = sentinel.fail_over()
    replaced = time.time()
    sentinel.start_again(killed)
    return Failover(begin, replaced, lambda _run_id: True)


def _look_over(deployment: Deployment, load: Load, done: list[Failover], seed: int) -> Outcome:
    verdict = Verdict(runs=len(load.runs))
    outcome = Outcome(seed, verdict, load.repeated)
    verdict.unexplained += load.errors
    for run_id, run in load.runs.items():
        handle = deployment.client.get_handle(run_id)
        try:
            snapshot: RunSnapshot = handle.describe(ctx=True)
        except RunNotFoundError:
            outcome.lost.append(run_id)
            continue
        if not snapshot.status.is_terminal:
            verdict.stuck.append(f"{run_id}: {run.flow}, {snapshot.status}")
            continue
        judge_record(verdict, handle, snapshot, run.flow, run.x)
        if run.ended is None and not run.gone:
            verdict.stuck.append(f"{run_id}: {run.flow} has ended, and its client was not told")
        if run.ended_at is not None and run.ended_at != snapshot.ended_at:
            outcome.undone.append(run_id)
    verdict.hanging += deployment.hanging()
    _measure(deployment, load, done, outcome)
    return outcome


def _measure(deployment: Deployment, load: Load, done: list[Failover], outcome: Outcome) -> None:
    begun = sorted((one.at, one.place.run) for found in deployment.read_ledger().executions.values() for one in found)
    for failover in done:
        outcome.outage.append(failover.replaced - failover.killed)
        outcome.first += [
            at - failover.replaced for at, run_id in begun if at > failover.replaced and failover.concerns(run_id)
        ][:1]
        under_way = [
            run.ended - failover.replaced
            for run_id, run in load.runs.items()
            if run.at < failover.killed
            and run.ended is not None
            and run.ended > failover.killed
            and failover.concerns(run_id)
        ]
        outcome.slowest.append(max(under_way, default=0.0))


def table(outcome: Outcome, failovers: int) -> str:
    """What happened, as a table in Markdown."""
    verdict = outcome.verdict
    rows = [
        ("seed", outcome.seed),
        ("primaries killed with SIGKILL", failovers),
        ("runs whose start was acknowledged", verdict.runs),
        ("starts that were repeated", outcome.repeated),
        ("acknowledged runs lost, each as a whole", len(outcome.lost)),
        ("ends that were undone, and reached again", len(outcome.undone)),
        ("stuck runs", len(verdict.stuck)),
        ("runs with a wrong or missing result", len(verdict.lost)),
        ("nodes recorded", verdict.nodes),
        ("nodes or ends recorded twice", len(verdict.twice)),
        ("defects that the doctor finds", len(verdict.hanging)),
        ("errors that a client should not see", len(verdict.unexplained)),
        ("until a replica has taken over", _spread(outcome.outage)),
        ("from there to the first handler called", _spread(outcome.first)),
        ("from there to the end of all runs under way", _spread(outcome.slowest)),
        ("failovers after which that took more than 2 s", sum(seconds > 2 for seconds in outcome.slowest)),
        ("time", f"{outcome.seconds:.0f} s"),
    ]
    return as_table(rows)


def _spread(seconds: list[float]) -> str:
    found = sorted(seconds) or [0.0]
    return f"{found[len(found) // 2]:.2f} s (median), {found[-1]:.2f} s at most"


def main() -> int:
    """Exit code 1 if a guarantee was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.failover", description="Primaries killed under load.")
    parser.add_argument("mode", choices=("cluster", "sentinel"))
    parser.add_argument("--failovers", type=int, default=20)
    parser.add_argument("--rate", type=float, default=50.0, help="runs a second")
    parser.add_argument("--durability", default=ASYNC, choices=(ASYNC, REPLICA))
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="flowcraft-failover-") as folder:
        outcome = fail_over_repeatedly(
            Path(folder), options.mode, failovers=options.failovers, rate=options.rate,
            durability=ONE_REPLICA if options.durability == REPLICA else options.durability, seed=seed, shown=True,
        )  # fmt: skip
    sys.stdout.write(f"{outcome.verdict.faults()}\n{table(outcome, options.failovers)}\n")
    kept = options.durability == ASYNC or not (outcome.lost or outcome.undone)
    return 0 if outcome.verdict.is_clean() and kept else 1


if __name__ == "__main__":
    sys.exit(main())
