"""The peer: a consumer of bare Huey with a no-op task, `python -m benchmarks.huey_worker URL THREADS`."""

import logging
import sys
import threading

from huey import RedisHuey
from huey.consumer import Consumer


def build(url: str, results: bool) -> RedisHuey:
    """A stock Huey with one task that does nothing."""
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
    """Serve until standard input ends."""
    logging.disable(logging.CRITICAL)
    consumer = QuietConsumer(build(sys.argv[1], True), workers=int(sys.argv[2]), periodic=False)
    consumer.start()
    print("up", flush=True)
    threading.Event().wait() if sys.stdin is None else sys.stdin.read()
    consumer.stop()


if __name__ == "__main__":
    main()
