"""A worker process of ours for the benchmarks: `python -m benchmarks.worker URL THREADS`."""

import sys
from typing import Any

from loguru import logger

from benchmarks.setting import NAMESPACE
from flowcraft_server.executor.process import WorkerProcess
from flowcraft_server.executor.settings import WorkerSettings
from flowcraft_server.testing.handlers import as_runnable


def echo(ctx: Any) -> Any:
    """A node that does nothing."""
    return ctx.input


async def async_echo(ctx: Any) -> Any:
    """A coroutine that does nothing."""
    return ctx.input


def main() -> None:
    """Serve until standard input ends."""
    logger.remove()
    handlers = {"echo": as_runnable("echo", echo), "async-echo": as_runnable("async-echo", async_echo)}
    worker = WorkerProcess(sys.argv[1], NAMESPACE, handlers, WorkerSettings(threads=int(sys.argv[2])))
    worker.start()
    print("up", flush=True)
    sys.stdin.read()
    worker.drain(1.0)
    worker.stop()


if __name__ == "__main__":
    main()
