"""Workers while pages are open: nodes a second of a chain with 100 live pages beside none, in turns.

Nine of ten pages follow the events of a run, and go on to a later one when it has ended; the others are overviews, which read
themselves again whenever the lists have changed. What plays the browsers takes only processor time that is left over: theirs are
machines of their own. That of the API is not left over.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.api_process import Api
from benchmarks.graphs import Load, Measured, measure
from benchmarks.report import write
from benchmarks.server import processors, server
from benchmarks.setting import NAMESPACE, cpu_seconds
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.link import StoreLink

PAGES = 100
OVERVIEWS = 10
"""Of these: one of so many is an overview."""

RUNS = 6_000
RUNS_OF_A_PAGE = 2
"""One behind the other, spread over the queue."""

PROCESSES = 1
ROUNDS = 5
WANTED = 0.97
LEAST_NICE = 19
FIGURES = {
    "nodes_per_s": ("nodes/s", ",.0f"),
    "worker_cpu_us": ("worker us", ".1f"),
    "server_cpu_us": ("server us", ".1f"),
    "commands": ("commands", ".2f"),
}


class Pages:
    """Open pages, played by a thread.

    Args:
        port: of the API.
        count: how many there are.
        run_ids: the runs that lie in the queue, in its order.

    Attributes:
        events: how many events have come.
        overviews: how many overviews were read.
    """

    def __init__(self, port: int, count: int, run_ids: Sequence[str]) -> None:
        self._port, self._count, self._run_ids = port, count, run_ids
        self._open, self._loop = threading.Event(), asyncio.new_event_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._connected = 0
        self.events = self.overviews = 0
        self._thread = threading.Thread(target=self._play, name="pages")

    def open(self) -> None:
        """Open all; returns when the API has answered each of them."""
        self._thread.start()
        if not self._open.wait(60):
            raise TimeoutError(f"{self._connected} of {self._count} pages are open after a minute")

    def close(self) -> None:
        """Close all."""
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._tasks])
        self._thread.join(60)

    def _play(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LEAST_NICE)
        pages = (self._overview() if at % OVERVIEWS == 0 else self._run_page(at) for at in range(self._count))
        self._tasks = [self._loop.create_task(page) for page in pages]
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.close()

    async def _run_page(self, at: int) -> None:
        """Follow runs spread over the queue, each to its end."""
        piece = len(self._run_ids) / RUNS_OF_A_PAGE
        for number in range(RUNS_OF_A_PAGE):
            run_id = self._run_ids[int(piece * (number + at / self._count))]
            async for line in self._lines(f"/api/v1/runs/{run_id}/events", is_first=not number):
                self.events += line.startswith(b"id:")
                if line.startswith(b"event: end"):
                    break

    async def _overview(self) -> None:
        """Read the overview again whenever it has changed."""
        async for line in self._lines("/ui-changes", is_first=True):
            if line.startswith(b"event: changed"):
                async for _ in self._lines("/"):
                    pass
                self.overviews += 1

    async def _lines(self, path: str, *, is_first: bool = False) -> AsyncIterator[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            writer.write(f"{head}Accept: {'text/html' if path == '/' else 'text/event-stream'}\r\n\r\n".encode())
            status = await reader.readline()
            assert b" 200 " in status, status
            if is_first:
                self._connected += 1
                if self._connected == self._count:
                    self._open.set()
            while line := await reader.readline():
                yield line
        finally:
            writer.close()


class Watched:
    """Pages beside a measurement.

    Args:
        count: how many there are.

    Attributes:
        api_share: of each measurement, how much of a processor the API took.
        events: of each, how many events the pages had.
        overviews: of each, how many overviews were read.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.api_share: list[float] = []
        self.events: list[int] = []
        self.overviews: list[int] = []

    @contextmanager
    def __call__(self, link: StoreLink) -> Iterator[None]:
        """Have the pages open."""
        queued = link.redis.zrange(Keys(NAMESPACE).index_status("queued"), 0, -1)
        with tempfile.TemporaryDirectory() as folder:
            api = Api(link.url, NAMESPACE, Path(folder))
            pages = Pages(api.port, self._count, [run_id.decode() for run_id in queued])
            try:
                pages.open()
                begin, used = time.perf_counter(), cpu_seconds(api.process.pid)
                yield
                self.api_share.append((cpu_seconds(api.process.pid) - used) / (time.perf_counter() - begin))
                self.events.append(pages.events)
                self.overviews.append(pages.overviews)
            finally:
                pages.close()
                api.stop()


def main() -> int:
    """Measure and print; 1 if the pages cost more than is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=PAGES)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--processes", type=int, default=PROCESSES, help="of workers")
    given = parser.parse_args()
    load, watched = Load("chain10", given.runs, 10, one_by_one=False), Watched(given.pages)
    ways: list[Callable[[StoreLink], AbstractContextManager[None]]] = [lambda _link: nullcontext(), watched]
    found: list[list[Measured]] = [[], []]
    with processors(awake=False) as state, server() as on:
        for number in range(given.rounds):
            for way in (0, 1) if number % 2 == 0 else (1, 0):
                found[way].append(measure(on, load, given.processes, beside=ways[way]))
    figures = {name: [statistics.median(getattr(each, name) for each in some) for some in found] for name in FIGURES}
    ratios = {
        name: statistics.median(
            getattr(with_pages, name) / getattr(alone, name) for alone, with_pages in zip(*found, strict=True)
        )
        for name in FIGURES
    }
    table = Table(
        "", "no page", f"{given.pages} pages", "ratio",
        title=f"{given.runs:,} chains of 10, {given.processes} worker process(es), {given.rounds} rounds, {on.name}, {state}",
    )  # fmt: skip
    for name, (title, form) in FIGURES.items():
        table.add_row(title, *(format(value, form) for value in figures[name]), f"{ratios[name]:.3f}")
    Console(width=110).print(table)
    of_api = {
        "api_share": statistics.median(watched.api_share),
        "events": statistics.median(watched.events),
        "overviews": statistics.median(watched.overviews),
    }
    print(
        f"the API took {of_api['api_share']:.0%} of a processor; the pages had {of_api['events']:,.0f} events, "
        f"{of_api['overviews']:,.0f} overviews were read"
    )
    write("watched", {"pages": given.pages, "runs": given.runs, "median": figures, "ratio": ratios, "api": of_api})
    print(f"wanted: {WANTED:.0%} of the nodes/s; measured: {ratios['nodes_per_s']:.1%}, {os.cpu_count()} processors")
    return int(ratios["nodes_per_s"] < WANTED)


if __name__ == "__main__":
    raise SystemExit(main())
