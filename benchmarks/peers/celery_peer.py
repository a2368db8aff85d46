"""Celery: chains of no-op tasks on Redis, prefork. In an environment of its own: `python celery_peer.py URL CHAINS LENGTH`."""

import json
import subprocess
import sys
import time

from celery import Celery, chain

URL = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1].startswith("redis") else None
app = Celery("celery_peer", broker=URL, backend=URL)
app.conf.update(task_ignore_result=False, worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True)


@app.task
def noop(value: int = 1) -> int:
    return value


def main(chains: int, length: int) -> None:
    """Queue chains, start the worker, wait for the last results."""
    options = [
        "--concurrency",
        "2",
        "--loglevel",
        "critical",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    ]
    run = [sys.executable, __file__, URL or "", "worker", *options]
    results = [chain(noop.s(1), *[noop.s() for _ in range(length - 1)]).apply_async() for _ in range(chains)]
    worker = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        first = results[0].parent
        while first.parent is not None:
            first = first.parent
        first.get(timeout=60)
        begin = time.perf_counter()
        for result in results:
            result.get(timeout=120)
        print(json.dumps({"tasks/s": chains * length / (time.perf_counter() - begin)}))
    finally:
        worker.terminate()
        worker.wait(20)


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2] == "worker":
        app.worker_main(["worker", *sys.argv[3:]])
    else:
        main(int(sys.argv[2]), int(sys.argv[3]))
