"""What a node of a chain of 10 costs, twice, in figures that a busy machine changes little: `python -m benchmarks.node_cost`.

Processor time of the worker's Python, where one thread works off replies that are made up; and time in Redis' scripts, where one
client records outcomes 16 at a time. The least of many rounds counts: what else the machine does only adds to it.
"""

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from loguru import logger

from benchmarks.report import write
from benchmarks.server import Server, server
from benchmarks.setting import NAMESPACE, prepare
from benchmarks.worker import echo
from flowcraft_sdk import Client
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.scripts import ClaimMode, ClaimRequest
from flowcraft_server.engine.claims import REPLY_CLAIM
from flowcraft_server.service.gc_tuning import collect_less_often
from flowcraft_server.store.link import StoreLink
from flowcraft_server.testing.handlers import as_runnable
from flowcraft_server.worker import worker as worker_module
from flowcraft_server.worker.lost_threads import Turn
from flowcraft_server.worker.settings import WorkerSettings
from flowcraft_server.worker.thread_loop import ThreadLoop
from flowcraft_server.worker.worker import Worker

KEYS = Partitions(NAMESPACE).home
NODES = 10
"""Of the chain."""

LIVE = 16
"""Runs under way at once."""

MADE_UP = 4096
"""Different runs whose nodes the made-up replies bring."""

OVER = [b"ok", b"completed", None, 0]
"""The reply to the last node of a run, with no other node ready."""


class MadeUpReplies:
    """Stands in for the exchange with Redis: to each outcome it replies with the same node of another run.

    Args:
        claim: a claim's reply, as Redis gave it.
    """

    def __init__(self, claim: Sequence[Any]) -> None:
        run_id = claim[0][:-4]
        self._replies = [[b"ok", b"running", [b"%s%04d" % (run_id, number), *claim[1:]]] for number in range(MADE_UP)]
        self._next = 0
        self.left = 0

    def first(self) -> list[Any]:
        """Claims to begin with."""
        return [reply[REPLY_CLAIM] for reply in self._replies[-LIVE:]]

    def exchange(self, commands: Sequence[Sequence[Any]], **_options: Any) -> list[Any]:
        """The replies to calls of `complete`, each of which stands for several outcomes."""
        replies: list[Any] = []
        for command in commands:
            words = command[3 + command[2] :]
            at = 1
            for _ in range(words[0]):
                at += 1 + words[at]
            outcomes = 0
            while at < len(words):
                at += 2 + words[at + 1]
                outcomes += 1
            self.left -= outcomes
            begin = self._next % (MADE_UP - 10 * LIVE)
            self._next += outcomes
            replies.append(self._replies[begin : begin + outcomes] if self.left > 0 else [OVER] * outcomes)
        return replies


def _request(mode: ClaimMode) -> ClaimRequest:
    return ClaimRequest("w", 30_000, "default", mode)


def _claimed(running: Server, link: StoreLink, runs: int) -> list[Any]:
    """Start runs, and claim the first node of each."""
    with Client(running.url, namespace=NAMESPACE) as client:
        for _ in range(runs):
            client.start("chain10", {})
    return list(link.call(scripts.claim(KEYS, _request(ClaimMode.NONE), runs)))


@contextmanager
def _thread_loops() -> Iterator[list[ThreadLoop]]:
    """The loops of the workers that are made meanwhile."""
    made: list[ThreadLoop] = []

    def make(*args: Any, **options: Any) -> ThreadLoop:
        made.append(ThreadLoop(*args, **options))
        return made[-1]

    worker_module.ThreadLoop = make  # type: ignore[misc, assignment]
    try:
        yield made
    finally:
        worker_module.ThreadLoop = ThreadLoop  # type: ignore[misc]


def worker_times(running: Server, link: StoreLink, rounds: int, nodes: int) -> list[float]:
    """Microseconds of processor time a node, of each round."""
    replies = MadeUpReplies(_claimed(running, link, 1)[0])
    with _thread_loops() as loops:
        worker = Worker(running.url, NAMESPACE, {"echo": as_runnable("echo", echo)}, WorkerSettings(threads=4))
    loop = loops[0]
    worker._link._exchange = replies.exchange  # type: ignore[method-assign]
    loop._executor.has_room = lambda _seconds: True  # type: ignore[method-assign]
    loop._sleep = lambda _turn: False  # type: ignore[method-assign]
    loop._prefetch.enter()
    times = []
    for _ in range(rounds):
        attempts = [attempt for claim in replies.first() if (attempt := loop._claimed_nodes.open(claim)) is not None]
        loop._prefetch.ask(LIVE)
        loop._prefetch.put(attempts, LIVE)
        turn = Turn(time.monotonic() + 3600, ready=0)
        replies.left = nodes
        begin = time.process_time()
        loop._work(turn)
        times.append((time.process_time() - begin) / nodes * 1e6)
    return times


def script_times(running: Server, link: StoreLink, rounds: int) -> list[float]:
    """Microseconds in scripts a node, of each round, by the server's own count."""
    times = []
    for _ in range(rounds):
        claims = _claimed(running, link, LIVE)
        plan = claims[0][2].decode()
        link.redis.config_resetstat()
        nodes = 0
        while claims:
            outcomes = [_outcome(claim, plan) for claim in claims]
            nodes += len(outcomes)
            claims = [reply[REPLY_CLAIM] for reply in link.send(outcomes) if reply[REPLY_CLAIM]]
        times.append(link.redis.info("commandstats")["cmdstat_evalsha"]["usec"] / nodes)
    return times


def _outcome(claim: Sequence[Any], plan: str) -> Any:
    run_id, node, token = claim[0].decode(), claim[1].decode(), claim[5].decode()
    number = int(node[1:])
    is_last = number == NODES - 1
    return scripts.complete(
        KEYS,
        _request(ClaimMode.QUEUE),
        run_id=run_id,
        instance_id=node,
        fencing_token=token,
        plan=plan,
        state="C",
        action="",
        decisions="" if is_last else "t",
        output=b"null",
        successor=("-",) if is_last else (f"n{number + 1}", "default", 1, "u", f"o:{node}"),
    )


def main() -> None:
    """Measure both, and print them."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--nodes", type=int, default=20_000, help="of each round of the worker's")
    chosen = arguments.parse_args()
    logger.remove()
    with server() as running:
        link = StoreLink(running.url)
        prepare(link, KEYS)
        in_scripts = script_times(running, link, 8 * chosen.rounds)
        collect_less_often()  # as the server's own workers do
        in_python = worker_times(running, link, chosen.rounds, chosen.nodes)
        link.close()
    for name, times in (("worker's Python", in_python), ("Redis' scripts", in_scripts)):
        print(f"{name}: {min(times):.2f} us a node (median {statistics.median(times):.2f})")
    write("node_cost", {"worker_us": in_python, "scripts_us": in_scripts})


if __name__ == "__main__":
    main()
