"""Streams of the HTTP API: memory of its process a stream, and how late an event arrives at the last of many."""

import argparse
import asyncio
import json
import re
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.api_process import Api
from benchmarks.report import write
from flowcraft_server.testing import TestEnvironment

BLUEPRINT = "nodes:\n  ask: {uses: wait}\n  say: {uses: say, needs: ask}\n"
DESCRIPTORS = 16_384
AT_ONCE = 50
"""Connections that are opened in one go."""


def say(ctx: Any) -> str:
    ctx.emit("said", {"at": time.time()})
    return "said"


def memory_of(pid: int) -> int:
    """Kilobytes of a process."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[0])


async def listen(port: int, run_id: str, waits: "asyncio.Queue[None]") -> float:
    """Follow a run to its end; returns the seconds after which the event of its handler was here."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET /api/v1/runs/{run_id}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    writer.write(request.encode())
    late = -1.0
    while line := await reader.readline():
        if line.startswith(b"event: node_waiting"):
            waits.put_nowait(None)
        elif b'"name":"said"' in line:
            late = time.time() - json.loads(line.removeprefix(b"data: "))["data"]["data"]["at"]
        elif line.startswith(b"event: end"):
            break
    writer.close()
    return late


async def measure(env: TestEnvironment, api: Api, count: int) -> dict[str, float]:
    handle = env.client.start("ask")
    idle = memory_of(api.process.pid)
    waits: asyncio.Queue[None] = asyncio.Queue()
    streams = []
    for first in range(0, count, AT_ONCE):
        some = range(min(AT_ONCE, count - first))
        streams += [asyncio.create_task(listen(api.port, handle.run_id, waits)) for _ in some]
        for _ in some:
            await waits.get()
    held = memory_of(api.process.pid)
    await asyncio.to_thread(handle.signal, "ask")
    late = sorted(await asyncio.gather(*streams))
    return {
        "streams": count, "kB a stream": (held - idle) / count, "MB": held / 1024,
        "ms median": late[count // 2] * 1000, "ms last": late[-1] * 1000,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("streams", nargs="*", type=int, default=[1, 100, 1000])
    counts = parser.parse_args().streams
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        TestEnvironment(blueprints={"ask": BLUEPRINT}, handlers={"say": say}, check=False) as env,
    ):
        api = Api(env.url, env.namespace, Path(folder))
        try:
            rows = [asyncio.run(measure(env, api, count)) for count in counts]
        finally:
            api.process.terminate()
            api.process.wait(30)
    for row in rows:
        print(", ".join(f"{name}: {value:.0f}" for name, value in row.items()))
    write("streams", {"rows": rows})


if __name__ == "__main__":
    main()
