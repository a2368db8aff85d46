"""Bare Huey: a consumer with a no-op task, `python -m benchmarks.peers.huey_worker URL THREADS RESULTS`."""

import logging
import sys
import threading

from huey import RedisHuey
from huey.consumer import Consumer


def build(url: str, results: bool) -> RedisHuey:
    """A prefetch Huey with one task that does nothing."""
    queue = RedisHuey("peer", url=url, results=results, notify_result=results)

    def noop(value: int = 1) -> int:
        return value

    noop.__module__ = "benchmarks"  # a task is known by it, and this module is `__main__` in the worker
    queue.noop = queue.task(name="noop")(noop)
    return queue


class QuietConsumer(Consumer):
    """A consumer that leaves signals alone."""

    def _set_signal_handlers(self) -> None:
        """Nothing."""


def main() -> None:
    """Serve from the first line of standard input to its end."""
    logging.disable(logging.CRITICAL)
    consumer = QuietConsumer(build(sys.argv[1], sys.argv[3] == "results"), workers=int(sys.argv[2]), periodic=False)
    print("up", flush=True)
    sys.stdin.readline()
    consumer.start()
    threading.Event().wait() if sys.stdin is None else sys.stdin.read()
    consumer.stop()


if __name__ == "__main__":
    main()
