"""Lists of runs with 100,000 ended runs: how long `GET /api/v1/runs` and the page of runs take, with and without filters."""

import argparse
import asyncio
import http.client
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

from rich.console import Console
from rich.table import Table

from benchmarks.api_process import Api
from benchmarks.report import write
from benchmarks.setting import NAMESPACE, percentile, publish, store, workers
from flowcraft_sdk import AsyncClient
from flowcraft_sdk.protocol.keys import Keys

RUNS = 100_000
REQUESTS = 40
AT_ONCE = 500
CUSTOMERS = 200
FAILS = 20
"""Each of so many runs fails."""

WANTED_MS = 50.0
GRAPHS = (
    *({"id": name, "nodes": [{"id": "a", "uses": "echo", "inputs": "n"}]} for name in ("order", "report", "mail")),
    {"id": "refused", "nodes": [{"id": "a", "uses": "fails", "inputs": "n"}]},
)


async def make_runs(url: str, count: int) -> None:
    """Start runs and wait until all have ended."""
    async with AsyncClient(url, namespace=NAMESPACE) as client:

        async def start(number: int) -> None:
            blueprint = "refused" if number % FAILS == 0 else GRAPHS[number % 3]["id"]
            tags = [f"customer-{number % CUSTOMERS}"]
            await client.start(blueprint, {"n": number}, run_id=f"run-{number:06}", tags=tags)

        for first in range(0, count, AT_ONCE):
            await asyncio.gather(*(start(number) for number in range(first, min(first + AT_ONCE, count))))
        while await client.count_runs(status=["completed", "failed"]) < count:
            await asyncio.sleep(0.2)


class Caller:
    """Asks the API over one connection.

    Args:
        port: of the API.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(self, path: str) -> tuple[float, bytes]:
        """The milliseconds of a request, and its answer."""
        begin = time.perf_counter()
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return (time.perf_counter() - begin) * 1000, body


def paths_of(caller: Caller, middle: str) -> dict[str, str]:
    """What is asked for, by its name."""
    queries: dict[str, dict[str, str]] = {
        "no filter": {},
        "state": {"status": "failed"},
        "blueprint": {"blueprint": "order"},
        "tag": {"tag": "customer-7"},
        "blueprint and state": {"blueprint": "order", "status": "completed"},
        "blueprint and state, none": {"blueprint": "order", "status": "failed"},
        "tag and state": {"tag": "customer-7", "status": "completed"},
        "since": {"since": middle},
        "until": {"until": middle},
        "beginning of an id, one run": {"q": f"run-{RUNS // 3:06}"},
        "beginning of an id, many": {"q": "run-05"},
        "text of an error": {"q": "was declined"},
        "text of an error, none": {"q": "no such error anywhere"},
    }
    paths = {name: f"/api/v1/runs?{urlencode(query)}" for name, query in queries.items()}
    cursor = json.loads(caller.get("/api/v1/runs?limit=1000")[1])["next_cursor"]
    paths["a later page"] = f"/api/v1/runs?cursor={quote(cursor)}"
    paths["the page of runs"] = "/runs"
    paths["the page of runs, failed"] = "/runs?status=failed"
    paths["the overview"] = "/"
    return paths


def main() -> int:
    """Measure and print; 1 if something takes longer than wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    count = parser.parse_args().runs
    table = Table("", "runs", "p50, ms", "p95, ms", title=f"{count:,} ended runs, {REQUESTS} requests each")
    figures = {}
    with store() as (link, _), tempfile.TemporaryDirectory() as folder:
        publish(link, Keys(NAMESPACE), GRAPHS)
        with workers("benchmarks.worker", link.url, 4, 1, "keep"):
            asyncio.run(make_runs(link.url, count // 2))
            middle = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            asyncio.run(make_runs(link.url, count))
        api = Api(link.url, NAMESPACE, Path(folder))
        try:
            caller = Caller(api.port)
            for name, path in paths_of(caller, middle).items():
                answers = [caller.get(path) for _ in range(REQUESTS)]
                ms = [each[0] for each in answers[1:]]
                found = len(json.loads(answers[0][1])["items"]) if "/api/" in path else ""
                figures[name] = {"p50": percentile(ms, 50), "p95": percentile(ms, 95)}
                table.add_row(name, str(found), *(f"{each:.1f}" for each in figures[name].values()))
        finally:
            api.stop()
    Console().print(table)
    write("lists", {"runs": count, "ms": figures})
    slow = [name for name, each in figures.items() if each["p50"] > WANTED_MS]
    print(f"wanted: {WANTED_MS:.0f} ms; longer: {', '.join(slow) or 'none'}")
    return int(bool(slow))


if __name__ == "__main__":
    raise SystemExit(main())
