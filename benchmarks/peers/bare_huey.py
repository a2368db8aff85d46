"""How many no-op tasks a second bare Huey does."""

import time

from benchmarks.peers.huey_worker import build
from benchmarks.setting import release, workers
from flowcraft_server.store.link import StoreLink

TASKS = 6_000


def rate_of_huey(link: StoreLink, threads: int, processes: int) -> float:
    """No-op tasks a second, queued before the consumers begin; results off."""
    link.redis.flushall()
    queue = build(link.url, False)
    for _ in range(TASKS):
        queue.noop()
    with workers(
        "benchmarks.peers.huey_worker", link.url, threads, "off", processes=processes, begin=False
    ) as children:
        release(children)
        while (first := queue.pending_count()) == TASKS:
            time.sleep(0.001)
        begin = time.perf_counter()
        while queue.pending_count():
            time.sleep(0.005)
        return float(first / (time.perf_counter() - begin))
