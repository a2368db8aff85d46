"""Coroutines: 1,000 that sleep in one process, and how fast 50 are notified of their run's cancellation."""

import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.report import write
from benchmarks.setting import NAMESPACE, percentile, publish, resident_mb, store, workers
from flowcraft_sdk import Client

SLEEPERS = 1_000
SLEEP_SECONDS = 2
"""As in `benchmarks.setting.SLEEPERS`."""

NOTIFIED = 50
ROUNDS = 20


def sleepers(client: Client, pid: int) -> tuple[float, float]:
    """Seconds until 1,000 runs that sleep two seconds each have ended; resident MB of the worker meanwhile."""
    begin = time.perf_counter()
    handles = [client.start("sleepers") for _ in range(SLEEPERS)]
    time.sleep(SLEEP_SECONDS / 2)
    resident = resident_mb(pid)
    for handle in handles:
        handle.result(timeout=60)
    return time.perf_counter() - begin, resident


def cancelling(client: Client, file: Path) -> tuple[list[float], list[float]]:
    """For each node the ms until it was notified, for each run the ms until it was cancelled."""
    notified, ended = [], []
    for _ in range(ROUNDS):
        begun = file.with_name(f"{file.name}.begun")
        file.write_text("")
        begun.write_text("")
        handle = client.start("patient")
        while (
            len(begun.read_text()) < NOTIFIED
        ):  # a claimed node that has not begun is cancelled without a notification
            time.sleep(0.01)
        begin = time.monotonic()
        handle.cancel("measured")
        handle.wait(timeout=10)
        ended.append((time.monotonic() - begin) * 1000)
        notified += [(float(line) - begin) * 1000 for line in file.read_text().split()]
    return notified, ended


def main() -> None:
    """Measure and print."""
    table = Table("what", "figure", title="coroutines in one worker process")
    with store() as (link, keys), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "notified"
        nodes = [{"id": f"n{i}", "uses": "async-patient", "params": {"file": str(file)}} for i in range(NOTIFIED)]
        patient: dict[str, Any] = {"id": "patient", "nodes": nodes}
        publish(link, keys, [patient])
        with workers("benchmarks.worker", link.url, 4) as (child,), Client(link.url, namespace=NAMESPACE) as client:
            client.start("async3").result(timeout=10)
            seconds, resident = sleepers(client, child.pid)
            notified, ended = cancelling(client, file)
    table.add_row(f"{SLEEPERS:,} sleeps of {SLEEP_SECONDS} s, against one", f"{seconds / SLEEP_SECONDS:.2f} x")
    table.add_row("resident memory of the worker meanwhile", f"{resident:.0f} MB")
    table.add_row(
        f"cancel: {NOTIFIED} coroutines notified, ms p50, p95, p99",
        ", ".join(f"{percentile(notified, p):.1f}" for p in (50, 95, 99)),
    )
    table.add_row(
        "cancel: the run is cancelled, ms p50, p95, p99", ", ".join(f"{percentile(ended, p):.1f}" for p in (50, 95, 99))
    )
    assert len(notified) == NOTIFIED * ROUNDS, "some were not notified"
    Console().print(table)
    write(
        "coroutines",
        {"sleepers": seconds / SLEEP_SECONDS, "worker_mb": resident, "notified_ms_p95": percentile(notified, 95)},
    )


if __name__ == "__main__":
    main()
