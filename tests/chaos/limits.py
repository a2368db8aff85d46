"""Workers that are killed while limits are reached: `python -m tests.chaos.limits`, and in short as a test; `--help` shows the options.

Nodes of a limit of concurrency, nodes of a rate and concurrent runs of a blueprint and its keys are started, more than there may be at
once. Meanwhile one worker after the other is killed, and another takes its place. By what handlers have written and when, and by the
records of the runs, no limit was ever exceeded; slots of a killed worker were free after its lease, and in the end nothing is held.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from flowcraft_sdk import Client
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.config.limits import Limit
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.publish import publish_blueprints, publish_settings
from flowcraft_server.testing.environment import partitions_in_environment, read_blueprints
from tests.acceptance.server_program import Server, eventually

NAMESPACE = "limits"
NODES, RATE, RUNS, KEYS = 3, 20.0, 4, 3
LEASE = 1.0
SWEPT = 2.0
"""Seconds beyond the lease after which a slot has to be free: a sweep, and a machine that is busy."""

SAVED = 2.0
"""Seconds' worth of a rate that begin together at most, see limits.lua."""

WORKERS = 3
TIMEOUT = 120.0
LEDGER = "FLOWCRAFT_CHAOS_LIMITS"
FILE = """
name: limits
handlers: {few: "tests.chaos.limits:work", slow: "tests.chaos.limits:work", step: "tests.chaos.limits:work"}
redis: {url: "${REDIS_URL}", partitions: PARTITIONS}
logging: {level: error, format: json}
executor: {workers: 8, lease: 1s, maxCrashes: 1000}
limits: {named: {few: {maxConcurrent: NODES}, slow: {rate: RATE/s}}}
"""
BLUEPRINTS = {
    "few": "nodes: {a: {uses: few, config: {limit: few}}}\n",
    "slow": "nodes: {a: {uses: slow, config: {limit: slow}}}\n",
    "runs": f"limits: {{concurrentRuns: {RUNS}, concurrentRunsPerKey: 1}}\n"
    "nodes: {a: {uses: step}, b: {uses: step, needs: [a]}}\n",
}


def work(ctx: Any) -> int:
    """Writes when it begins and ends, and takes a moment."""
    place = {"run": ctx.run_id, "node": ctx.node_id, "pid": os.getpid()}
    _write({**place, "begin": time.time()})
    time.sleep(0.1)
    _write({**place, "end": time.time()})
    return 1


def _write(entry: dict[str, Any]) -> None:
    with Path(os.environ[LEDGER]).open("a") as file:
        file.write(json.dumps(entry) + "\n")


@dataclass
class Report:
    """What came of it.

    Attributes:
        nodes, runs, of_a_key: how many there were at once at most.
        begun: how many nodes of the rate began in five seconds at most, and how many may.
        freed: seconds after which the slots of a killed worker were free, the longest; None if none was killed with one.
        left: keys that hold something in the end.
    """

    kills: int = 0
    completed: int = 0
    started: int = 0
    nodes: int = 0
    runs: int = 0
    of_a_key: int = 0
    begun: tuple[int, int] = (0, 0)
    freed: float | None = None
    left: list[str] = field(default_factory=list)

    def is_clean(self) -> bool:
        """Whether all runs have completed and no limit was exceeded."""
        held = self.nodes <= NODES and self.runs <= RUNS and self.of_a_key <= 1 and self.begun[0] <= self.begun[1]
        return held and self.completed == self.started and not self.left and (self.freed or 0.0) <= LEASE + SWEPT


def rage(folder: Path, *, runs: int, kills: int, seed: int) -> Report:
    """Start runs of each kind, kill workers meanwhile, and look at what there was at once."""
    choose, partitions, report = random.Random(seed), Partitions(NAMESPACE, partitions_in_environment()), Report()
    folder.mkdir(parents=True, exist_ok=True)
    file = FILE.replace("PARTITIONS", str(partitions.count)).replace("NODES", str(NODES)).replace("RATE", f"{RATE:g}")
    (folder / "flowcraft.yaml").write_text(file)
    ledger = folder / "ledger.jsonl"
    ledger.touch()
    with EmbeddedStore(folder / "store") as store:
        connection = redis.Redis.from_url(store.url)
        limits = {"few": Limit(max_concurrent=NODES), "slow": Limit(rate=RATE)}
        publish_settings(connection, partitions, history=True, max_events=1000, cancel_grace_ms=1000, limits=limits)
        publish_blueprints(connection, partitions, list(read_blueprints(BLUEPRINTS)))
        environ = {"REDIS_URL": store.url, LEDGER: str(ledger)}
        servers, deaths = [Server(folder, "worker", environ=environ) for _ in range(WORKERS)], dict[int, float]()
        try:
            with Client(store.url, namespace=NAMESPACE) as client:
                assert eventually(lambda: connection.zcard(partitions.home.workers) >= WORKERS, 60)
                handles = [client.start("few", run_id=f"few-{n}") for n in range(runs)]
                handles += [client.start("slow", run_id=f"slow-{n}") for n in range(runs)]
                handles += [client.start("runs", run_id=f"runs-{n}", key=f"k{n % KEYS}") for n in range(runs // 2)]
                handles += [client.start("runs", run_id=f"free-{n}") for n in range(runs // 2)]
                for _ in range(kills):
                    time.sleep(choose.uniform(0.3, 1.2))
                    victim = servers.pop(choose.randrange(len(servers)))
                    victim.process.kill()
                    victim.process.wait()
                    deaths[victim.process.pid] = time.time()
                    servers.append(Server(folder, "worker", environ=environ))
                    freed = _until_free(connection, partitions, ledger, victim.process.pid)
                    report.freed = max(filter(None, (report.freed, freed)), default=None)
                report.kills, report.started = kills, len(handles)
                report.completed = sum(handle.wait(timeout=TIMEOUT).status.value == "completed" for handle in handles)
                _judge(report, _entries(ledger), deaths, [handle.describe() for handle in handles])
            eventually(lambda: not _left(connection, partitions.all), 15)
            report.left = _left(connection, partitions.all)
        finally:
            for server in servers:
                server.process.kill()
                server.process.wait()
            connection.close()
    return report


def _until_free(connection: Any, partitions: Partitions, ledger: Path, pid: int) -> float | None:
    """Seconds until the slots are free that a killed worker held, None if it held none."""
    entries, begin = _entries(ledger), time.monotonic()
    ended = {(entry["run"], entry["pid"]) for entry in entries if "end" in entry}
    begun = {entry["run"] for entry in entries if "begin" in entry and entry["pid"] == pid}
    held = [run for run in begun if run.startswith("few-") and (run, pid) not in ended]
    places = [(partitions.for_run(run).slots("few"), f"{run}|a") for run in held]
    scores = {place: connection.zscore(*place) for place in places}
    scores = {place: score for place, score in scores.items() if score is not None}
    if not scores:
        return None
    eventually(lambda: all(connection.zscore(*place) != score for place, score in scores.items()), 30)
    return time.monotonic() - begin


def _judge(report: Report, entries: list[dict[str, Any]], deaths: dict[int, float], found: Iterable[Any]) -> None:
    ends = {(entry["run"], entry["node"], entry["pid"]): entry["end"] for entry in entries if "end" in entry}
    spans = dict[str, list[tuple[float, float]]]()
    for entry in entries:
        if "begin" in entry:
            end = ends.get((entry["run"], entry["node"], entry["pid"]), deaths.get(entry["pid"], entry["begin"]))
            spans.setdefault(entry["run"].partition("-")[0], []).append((entry["begin"], max(end, entry["begin"])))
    report.nodes = most_at_once(spans["few"])
    begins = sorted(begin for begin, _ in spans["slow"])
    report.begun = (max(sum(first <= at < first + 5 for at in begins) for first in begins), int(RATE * (5 + SAVED)))
    by_key = dict[str | None, list[tuple[float, float]]]()
    for run in found:
        if run.blueprint_id == "runs":
            span = (run.started_at.timestamp(), run.ended_at.timestamp())
            by_key.setdefault(run.key, []).append(span)
    report.runs = most_at_once([span for each in by_key.values() for span in each])
    report.of_a_key = max(most_at_once(spans) for key, spans in by_key.items() if key is not None)


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """How many of these overlap at most; one that begins as another one ends does not."""
    now = most = 0
    for _, change in sorted([(end, -1) for _, end in spans] + [(begin, 1) for begin, _ in spans]):
        now += change
        most = max(most, now)
    return most


def _entries(ledger: Path) -> list[dict[str, Any]]:
    lines = ledger.read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def _left(connection: Any, every: Iterable[Keys]) -> list[str]:
    """Keys that hold a slot or a place."""
    prefixes = ("slots:", "limited:", "places", "line:", "running:", "blocked:", "admitted", "unplaced", "left")
    names = [name.decode() for keys in every for name in connection.scan_iter(match=f"{keys.base}*", count=1000)]
    return [name for name in names if name.partition("}:")[2].startswith(prefixes)]


def table(report: Report) -> str:
    """The report as a table."""
    freed = "none held one" if report.freed is None else f"{report.freed:.1f} s"
    return (
        f"| workers killed | {report.kills} |\n| completed | {report.completed} of {report.started} |\n"
        f"| nodes at once | {report.nodes} of {NODES} |\n| concurrent runs | {report.runs} of {RUNS} |\n"
        f"| of a key | {report.of_a_key} of 1 |\n| begun in 5 s | {report.begun[0]}, at most {report.begun[1]} |\n"
        f"| slots free again after | {freed}, lease {LEASE:g} s |\n| left in Redis | {', '.join(report.left) or 'nothing'} |\n"
    )


def main() -> int:
    """The long version; 1 if a limit did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="of each of the three kinds")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flowcraft-limits-") as folder:
        report = rage(Path(folder), runs=given.runs, kills=given.kills, seed=given.seed)
    sys.stdout.write(f"seed {given.seed}\n{table(report)}")
    return 0 if report.is_clean() else 1


if __name__ == "__main__":
    sys.exit(main())
