"""A worker process of ours: `python -m benchmarks.worker URL THREADS [PARTITIONS [keep]]`.

It begins at the first line of its standard input. With `keep` it removes no ended run.
"""

import asyncio
import sys
import time
from typing import Any

from loguru import logger

from benchmarks.setting import NAMESPACE
from flowcraft_server.service.gc_tuning import collect_less_often
from flowcraft_server.testing.handlers import as_runnable
from flowcraft_server.worker.settings import Retention, WorkerSettings
from flowcraft_server.worker.worker import Worker


def echo(ctx: Any) -> Any:
    """A node that does nothing."""
    return ctx.input


def brief(ctx: Any) -> float:
    """A node of a millisecond; says when it began."""
    begun = time.monotonic()
    time.sleep(0.001)
    return begun


def slow(ctx: Any) -> None:
    """A node of two seconds, as a plain function."""
    time.sleep(2.0)


def fails(ctx: Any) -> None:
    """A node that fails."""
    raise ValueError(f"the card of {ctx.input} was declined")


def route(ctx: Any) -> Any:
    """A router."""
    from flowcraft_sdk import NodeResult

    return NodeResult(None, "x")


def reporting_echo(ctx: Any) -> Any:
    """A node that does nothing, and says so."""
    ctx.progress(1.0)
    return ctx.input


async def async_echo(ctx: Any) -> Any:
    """A coroutine that does nothing."""
    return ctx.input


async def async_sleep(ctx: Any) -> None:
    """A coroutine that waits as long as it is asked to, as a call to a language model would."""
    await asyncio.sleep(ctx.params["seconds"])


async def async_patient(ctx: Any) -> None:
    """A coroutine that notes that it began, waits until it is asked to stop, and notes when it was."""
    with open(ctx.params["file"] + ".begun", "a") as file:
        file.write("b")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        reported = time.monotonic()
        with open(ctx.params["file"], "a") as file:
            file.write(f"{reported}\n")
        raise


def main() -> None:
    """Serve until standard input ends."""
    logger.remove()
    functions = {"echo": echo, "route": route, "async-echo": async_echo, "async-sleep": async_sleep}
    functions |= {
        "async-patient": async_patient,
        "reporting-echo": reporting_echo,
        "brief": brief,
        "slow": slow,
        "fails": fails,
    }
    handlers = {name: as_runnable(name, function) for name, function in functions.items()}
    partitions = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    retention = Retention(keep=(), bytes=None) if sys.argv[4:] == ["keep"] else Retention()
    settings = WorkerSettings(threads=int(sys.argv[2]), partitions=partitions, retention=retention)
    worker = Worker(sys.argv[1], NAMESPACE, handlers, settings)
    collect_less_often()  # as the server's own workers do
    print("up", flush=True)
    sys.stdin.readline()
    worker.start()
    sys.stdin.read()
    worker.drain(1.0)
    worker.stop()


if __name__ == "__main__":
    main()
