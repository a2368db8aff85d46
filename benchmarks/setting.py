"""What every benchmark needs: a private store, published graphs, worker processes of ours and of bare Huey."""

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.link import StoreLink
from flowcraft_server.store.publish import publish_blueprints, publish_settings

NAMESPACE = "bench"


def chain(blueprint_id: str, count: int, uses: str = "echo") -> dict[str, Any]:
    """A chain of `count` nodes."""
    return {
        "id": blueprint_id,
        "nodes": [{"id": f"n{i}", "uses": uses} for i in range(count)],
        "edges": [{"source": f"n{i}", "target": f"n{i + 1}"} for i in range(count - 1)],
    }


def fan(blueprint_id: str, width: int, uses: str = "echo") -> dict[str, Any]:
    """One node, `width` successors, one join."""
    middle = [f"w{i}" for i in range(width)]
    return {
        "id": blueprint_id,
        "nodes": [{"id": name, "uses": uses} for name in ("s", *middle, "j")],
        "edges": [{"source": "s", "target": w} for w in middle] + [{"source": w, "target": "j"} for w in middle],
    }


GRAPHS = (chain("chain3", 3), chain("chain10", 10), chain("async3", 3, "async-echo"), fan("fan20", 20))


def publish(link: StoreLink, keys: Keys, graphs: Iterable[dict[str, Any]]) -> None:
    """Publish graphs in the plain form."""
    publish_blueprints(link.redis, keys, [Blueprint.from_plain(graph) for graph in graphs])


@contextmanager
def store() -> Iterator[tuple[StoreLink, Keys]]:
    """A private store with the benchmark's graphs published."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedStore(folder, fsync="no", durable=False) as embedded:
        link, keys = StoreLink(embedded.url), Keys(NAMESPACE)
        link.load_scripts()
        publish_settings(link.redis, keys, history=True, max_events=10_000, cancel_grace_ms=30_000)
        publish(link, keys, GRAPHS)
        yield link, keys
        link.close()


@contextmanager
def workers(module: str, url: str, processes: int, threads: int) -> Iterator[None]:
    """Worker processes, `python -m MODULE URL THREADS`, that end when their standard input does."""
    with ExitStack() as stack:
        for _ in range(processes):
            worker = subprocess.Popen(
                [sys.executable, "-m", module, url, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            stack.callback(worker.wait, 15)
            assert worker.stdin is not None and worker.stdout is not None
            stack.callback(worker.stdin.close)
            worker.stdout.readline()
        yield


def percentile(values: list[float], percent: float) -> float:
    """A percentile of a list."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
