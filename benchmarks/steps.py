"""What a step of a handler costs: milliseconds on an idle server, and processor time a step under load."""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import write
from flowcraft_sdk import AsyncNodeContext, NodeContext
from flowcraft_server.testing import TestEnvironment

IDLE_STEPS = 500
LOAD_STEPS = 200
"""Steps of a node; a node keeps 1,000."""

WARM_UP = 50
FLOWS = {
    name: f"nodes:\n  a: {{uses: {name}}}\n"
    for name in ("idle", "idle_coroutine", "busy", "busy_coroutine", "plain", "plain_coroutine")
}
taken: list[float] = []


def nothing() -> int:
    """The call of a step."""
    return 1


async def nothing_later() -> int:
    """The same for a coroutine."""
    return 1


def idle(ctx: NodeContext) -> None:
    for number in range(IDLE_STEPS):
        begin = time.perf_counter()
        ctx.step("s", nothing)
        if number >= WARM_UP:
            taken.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.001)


async def idle_coroutine(ctx: AsyncNodeContext) -> None:
    for number in range(IDLE_STEPS):
        begin = time.perf_counter()
        await ctx.step("s", nothing_later)
        if number >= WARM_UP:
            taken.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.001)


def busy(ctx: NodeContext) -> None:
    for _ in range(LOAD_STEPS):
        ctx.step("s", nothing)


async def busy_coroutine(ctx: AsyncNodeContext) -> None:
    for _ in range(LOAD_STEPS):
        await ctx.step("s", nothing_later)


def plain(_: NodeContext) -> None:
    for _ in range(LOAD_STEPS):
        nothing()


async def plain_coroutine(_: AsyncNodeContext) -> None:
    for _ in range(LOAD_STEPS):
        await nothing_later()


HANDLERS: dict[str, Callable[..., Any]] = {
    "idle": idle,
    "idle_coroutine": idle_coroutine,
    "busy": busy,
    "busy_coroutine": busy_coroutine,
    "plain": plain,
    "plain_coroutine": plain_coroutine,
}


def spent(server: int) -> tuple[float, float]:
    """Seconds of processor time: of this process, and of the Redis server."""
    user, system = Path(f"/proc/{server}/stat").read_text("utf-8").rpartition(")")[2].split()[11:13]
    return time.process_time(), (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def load(env: TestEnvironment, server: int, flow: str, nodes: int) -> tuple[float, float, float]:
    """Seconds of both, and of the clock, that so many nodes take at the same time."""
    before, begin = spent(server), time.perf_counter()
    for run in [env.client.start(flow) for _ in range(nodes)]:
        run.result(timeout=120)
    after = spent(server)
    return after[0] - before[0], after[1] - before[1], time.perf_counter() - begin


def measure(nodes: int) -> dict[str, Any]:
    """The figures."""
    found: dict[str, Any] = {}
    with TestEnvironment(blueprints=FLOWS, handlers=HANDLERS) as env:
        server = int(env.link.redis.info("server")["process_id"])
        for flow in ("idle", "idle_coroutine"):
            taken.clear()
            env.client.execute(flow, timeout=60)
            cuts = statistics.quantiles(taken, n=100)
            found[flow] = {"p50": round(cuts[49], 3), "p95": round(cuts[94], 3)}
        for kind in ("", "_coroutine"):
            load(env, server, f"busy{kind}", 2)
            with_steps = load(env, server, f"busy{kind}", nodes)
            without = load(env, server, f"plain{kind}", nodes)
            steps = nodes * LOAD_STEPS
            found[f"busy{kind}"] = {
                "steps": steps,
                "steps a second": round(steps / with_steps[2]),
                "worker us": round((with_steps[0] - without[0]) / steps * 1e6, 1),
                "server us": round((with_steps[1] - without[1]) / steps * 1e6, 1),
            }
    return found


def main() -> int:
    """Print the figures, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=64, help="nodes that take steps at the same time")
    found = measure(parser.parse_args().nodes)
    for name, row in found.items():
        sys.stdout.write(f"{name:<16} {', '.join(f'{what} {value}' for what, value in row.items())}\n")
    write("steps", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
