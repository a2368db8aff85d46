"""Replies of a model that many nodes of one worker process stream at once: its memory, and how late a client has each piece.

The model is a server in a process of its own. It sends pieces to each connection at a steady pace, begun at a moment of chance,
and each piece has the time at which it was sent. The worker runs a coroutine for each stream. Some of the streams are followed
as a client does; their first pieces, while the others are still begun, are counted apart.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import resource
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.report import write
from benchmarks.streams import memory_of
from flowcraft_sdk import AsyncClient, StreamText
from flowcraft_server.llm import Endpoint, LanguageModels, OpenAICompatible
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

BLUEPRINT = "nodes:\n  ask: {uses: ask}\n"
DESCRIPTORS = 16_384
FOLLOWED = 50
"""Streams that are followed: each piece of them counts."""

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


async def ask(ctx: Any) -> int:
    size = 0
    async for piece in ctx.llm.stream("p"):
        size += len(piece)
    return size


def framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def serve_model(pipe: Connection, pieces: int, pause: float) -> None:
    """A model: each request gets `pieces` pieces, one every `pause` seconds."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        writer.write(HEAD)
        due = time.monotonic() + random.random() * pause
        for _ in range(pieces):
            due += pause
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            text = f"{time.time():.4f} word word "
            chunk = {
                "id": "c",
                "object": "chat.completion.chunk",
                "model": "m",
                "choices": [{"index": 0, "delta": {"content": text}}],
            }
            writer.write(framed(b"data: %s\n\n" % json.dumps(chunk).encode()))
        writer.write(framed(END) + b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=2_000)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    asyncio.run(main())


def work(pipe: Connection, url: str, port: int, streams: int) -> None:
    """The worker: a process of its own, as its memory counts."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", "key", "m", timeout=600.0, max_concurrent=streams)
    models = LanguageModels({"main": OpenAICompatible("main", endpoint)})
    settings = WorkerSettings(async_concurrency=streams)
    with TestEnvironment(
        blueprints={"ask": BLUEPRINT},
        handlers={"ask": ask},
        models=models,
        settings=settings,
        redis_url=url,
        check=False,
    ) as env:
        pipe.send(env.namespace)
        pipe.recv()


async def follow(client: AsyncClient, run_id: str) -> list[float]:
    """Seconds that each piece of a stream is late; of pieces that came together all count."""
    late: list[float] = []
    async for item in client.get_handle(run_id).stream("ask", timeout=600):
        if isinstance(item, StreamText):
            now = time.time()
            late += [now - float(word) for word in item.text.split() if "." in word]
    return late


async def measure(url: str, namespace: str, pid: int, streams: int) -> dict[str, float]:
    async with AsyncClient(url, namespace=namespace) as client:
        handles = [await client.start("ask") for _ in range(streams)]
        followers = [asyncio.create_task(follow(client, handle.run_id)) for handle in handles[:FOLLOWED]]
        most = 0
        while not all(follower.done() for follower in followers):
            most = max(most, memory_of(pid))
            await asyncio.sleep(0.1)
        found = await asyncio.gather(*followers)
        first = sorted(value for each in found for value in each[: len(each) // 4])
        late = sorted(value for each in found for value in each[len(each) // 4 :])
        for handle in handles:
            await handle.result(timeout=600)
    return {
        "streams": streams, "MB": most / 1024, "pieces": len(late), "ms median": statistics.median(late) * 1000,
        "ms p95": late[len(late) * 95 // 100] * 1000, "ms last": late[-1] * 1000,
        "ms p95 at first": first[len(first) * 95 // 100] * 1000,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("streams", nargs="*", type=int, default=[1, 100, 1000])
    parser.add_argument("--pieces", type=int, default=20)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two pieces of a stream")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    spawn, rows = multiprocessing.get_context("spawn"), []
    for streams in options.streams:
        ours, model = spawn.Pipe()
        model_process = spawn.Process(target=serve_model, args=(model, options.pieces, options.pause), daemon=True)
        model_process.start()
        port = ours.recv()
        with tempfile.TemporaryDirectory() as folder, EmbeddedStore(Path(folder) / "redis") as store:
            to_worker, from_worker = spawn.Pipe()
            worker = spawn.Process(target=work, args=(from_worker, store.url, port, streams), daemon=True)
            worker.start()
            namespace = to_worker.recv()
            assert worker.pid is not None
            rows.append(asyncio.run(measure(store.url, namespace, worker.pid, streams)))
            to_worker.send(None)
            worker.join(30)
        model_process.terminate()
        model_process.join(10)
        print(", ".join(f"{name}: {value:.0f}" for name, value in rows[-1].items()), flush=True)
    write("model_streams", {"pieces": options.pieces, "pause": options.pause, "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
