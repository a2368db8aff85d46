"""Limits of model calls: does a rate hold over three processes, and what do calls that wait cost those of another provider?

`python -m benchmarks.provider_limits [--seconds 60]`: three processes with 40 callers each ask a model of 600 calls a minute, and
one caller each asks a model of another provider, alone first and then beside them. A local server counts what it gets.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.report import write
from benchmarks.server import server
from benchmarks.setting import NAMESPACE
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.llm import Endpoint, ModelRequest, OpenAICompatible
from flowcraft_server.llm.call_gate import CallLimit, call_gate
from flowcraft_server.store.link import StoreLink
from flowcraft_server.worker.call_limits import CallLimits

RATE = 10.0
PROCESSES = 3
CALLERS = 40
ALONE = 10.0
"""Seconds for which the other provider is asked alone."""

REPLY = json.dumps(
    {
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
        "model": "m",
    }
).encode()


class CountingServer:
    """Answers at once, and notes when each path was asked for."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {"main": [], "other": []}
        self.port = 0

    async def serve(self, started: threading.Event) -> None:
        """Serve for ever."""
        listener = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        started.set()
        async with listener:
            await listener.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                self.times["main" if head.startswith(b"POST /main") else "other"].append(time.monotonic())
                kind = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                writer.write(kind + b"content-length: %d\r\n\r\n%b" % (len(REPLY), REPLY))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@contextmanager
def counting_server() -> Iterator[CountingServer]:
    """A server in a thread of its own."""
    counting, started = CountingServer(), threading.Event()
    threading.Thread(target=lambda: asyncio.run(counting.serve(started)), daemon=True).start()
    started.wait(10)
    yield counting


async def call_for(redis_url: str, models: str, seconds: float) -> list[float]:
    """Call as one of the processes does; returns how long each call of the other provider took."""
    link = StoreLink(redis_url)
    limits = CallLimits(link, Partitions(NAMESPACE, 1), 10.0)
    woken, over = threading.Event(), threading.Event()
    limits.wake = woken.set

    def step() -> None:
        while not over.is_set():
            woken.wait(min(limits.step(), 1.0))
            woken.clear()

    thread = threading.Thread(target=step)
    thread.start()
    main = OpenAICompatible("main", Endpoint(f"{models}/main", "k", "m", max_concurrent=500, limit=CallLimit(RATE)))
    other = OpenAICompatible("other", Endpoint(f"{models}/other", "k", "m", max_concurrent=500))
    took: list[float] = []

    async def ask_main(number: int) -> None:
        call_gate.set(limits.gate(f"run{number}"))
        while True:
            await main.acall(ModelRequest.of_prompt("hello"))

    async def ask_other(until: float) -> None:
        call_gate.set(limits.gate("other"))
        while time.monotonic() < until:
            begin = time.perf_counter()
            await other.acall(ModelRequest.of_prompt("hello"))
            took.append(time.perf_counter() - begin)
            await asyncio.sleep(0.05)

    await ask_other(time.monotonic() + ALONE)
    alone, took = took, []
    callers = [asyncio.create_task(ask_main(number)) for number in range(CALLERS)]
    await asyncio.create_task(ask_other(time.monotonic() + seconds))
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    over.set()
    woken.set()
    thread.join()
    return [statistics.median(alone), statistics.median(took)]


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=60.0, help="for how long the rate is measured")
    arguments.add_argument("--process", nargs=2, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.process:
        print(json.dumps(asyncio.run(call_for(*chosen.process, chosen.seconds))))
        return
    with server() as running, counting_server() as counting, ExitStack() as stack:
        command = [sys.executable, "-m", "benchmarks.provider_limits", "--seconds", str(chosen.seconds + 15)]
        command += ["--process", running.url, f"http://127.0.0.1:{counting.port}"]
        children = [stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE)) for _ in range(PROCESSES)]
        medians = [json.loads(child.communicate()[0]) for child in children]
        since = counting.times["main"][
            int(10 * RATE)
        ]  # by then all processes have their connections, and what was saved up is used
        begun = sum(since < moment <= since + chosen.seconds for moment in counting.times["main"])
    off = begun / (RATE * chosen.seconds) - 1
    print(f"{RATE * 60:.0f} calls a minute over {PROCESSES} processes: {begun} in {chosen.seconds:g} s, {off:+.1%}")
    alone, beside = (statistics.median(each[place] for each in medians) * 1000 for place in (0, 1))
    print(
        f"a call of another provider, median: {alone:.2f} ms alone, {beside:.2f} ms beside {CALLERS * PROCESSES} that wait"
    )
    write("provider_limits", {"begun": begun, "seconds": chosen.seconds, "alone_ms": alone, "beside_ms": beside})


if __name__ == "__main__":
    main()
