"""A worker process for the cases: `python -m tests.conformance.worker URL NAMESPACE PARTITIONS`, until its standard input ends."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from loguru import logger

from flowcraft_server.testing import TestEnvironment
from flowcraft_server.testing.handlers import as_runnable
from flowcraft_server.worker.settings import WorkerSettings
from flowcraft_server.worker.worker import Worker
from tests.conformance.case_handlers import HANDLERS


@contextmanager
def worker_processes(env: TestEnvironment, count: int) -> Iterator[None]:
    """Processes that run the environment's nodes."""
    with ExitStack() as stack:
        for _ in range(count):
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.conformance.worker", env.url, env.namespace, str(env.partitions.count)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert child.stdin is not None and child.stdout is not None
            stack.callback(child.wait, 30)
            stack.callback(child.stdout.close)
            stack.callback(child.stdin.close)
            child.stdout.readline()
        yield


def main(url: str, namespace: str, partitions: str) -> None:
    """Serve until standard input ends."""
    logger.remove()
    handlers = {name: as_runnable(name, function) for name, function in HANDLERS.items()}
    worker = Worker(url, namespace, handlers, WorkerSettings(threads=2, partitions=int(partitions)))
    worker.start()
    print("up", flush=True)
    sys.stdin.read()
    worker.drain(5.0)
    worker.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
