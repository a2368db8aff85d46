"""What every benchmark needs: published graphs, worker processes of ours and of bare Huey, and what they take."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.server import server
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.blueprints.model import Blueprint
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


def tree(depth: int) -> list[dict[str, Any]]:
    """A subflow that holds two subflows, and so on, `depth` deep."""
    flows = [{"id": "tree0", "nodes": [{"id": "n", "uses": "echo"}]}]
    for level in range(1, depth + 1):
        inner = {"uses": "subflow", "params": {"blueprintId": f"tree{level - 1}"}}
        flows.append({"id": f"tree{level}", "nodes": [{"id": "a", **inner}, {"id": "b", **inner}]})
    return flows


def contextual(blueprint_id: str, count: int) -> dict[str, Any]:
    """A chain whose nodes read one small key of the context."""
    graph = chain(blueprint_id, count)
    for node in graph["nodes"]:
        node["inputs"] = "small"
    return graph


DIAMOND = {
    "id": "diamond",
    "nodes": [{"id": "r", "uses": "route"}, *({"id": name, "uses": "echo"} for name in ("x", "y", "j"))],
    "edges": [
        {"source": "r", "target": "x", "action": "x"},
        {"source": "r", "target": "y", "action": "y"},
        {"source": "x", "target": "j"},
        {"source": "y", "target": "j"},
    ],
}
MAP = {
    "id": "map",
    "nodes": [{"id": "m", "uses": "map", "inputs": "items", "params": {"uses": "echo", "chunkSize": 100}}],
}
SLEEPERS = {"id": "sleepers", "nodes": [{"id": "s", "uses": "async-sleep", "params": {"seconds": 2}}]}
TREE_DEPTH = 3
GRAPHS = (
    chain("chain3", 3), chain("chain10", 10), chain("async3", 3, "async-echo"), chain("async10", 10, "async-echo"),
    chain("reporting3", 3, "reporting-echo"), chain("brief", 1, "brief"), chain("slow", 1, "slow"),
    fan("fan20", 20), contextual("context100", 100), DIAMOND, MAP, SLEEPERS, *tree(TREE_DEPTH),
)  # fmt: skip


def publish(link: StoreLink, keys: Keys, graphs: Iterable[dict[str, Any]]) -> None:
    """Publish graphs in the plain form."""
    publish_to(link, Partitions(keys.namespace), graphs)


def publish_to(link: StoreLink, partitions: Partitions, graphs: Iterable[dict[str, Any]]) -> None:
    """The same, to all partitions."""
    publish_blueprints(link.redis, partitions, [Blueprint.from_plain(graph) for graph in graphs])


@contextmanager
def store() -> Iterator[tuple[StoreLink, Keys]]:
    """A private server with the benchmark's graphs published."""
    with server() as running:
        link, keys = StoreLink(running.url), Keys(NAMESPACE)
        prepare(link, keys)
        yield link, keys
        link.close()


def prepare(link: StoreLink, keys: Keys, *, history: bool = True, partitions: int = 1) -> None:
    """Make an emptied server ready: scripts, settings, graphs."""
    link.load_scripts()
    some = Partitions(keys.namespace, partitions)
    publish_settings(link.redis, some, history=history, max_events=10_000, cancel_grace_ms=30_000)
    publish_to(link, some, GRAPHS)


@contextmanager
def workers(
    module: str, *words: Any, processes: int = 1, begin: bool = True
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Worker processes, `python -m MODULE WORD ...`, that end when their standard input does.

    Args:
        begin: let them start to work at once; else `release` does, so that work can be queued before.
    """
    with ExitStack() as stack:
        children = []
        for _ in range(processes):
            command = [sys.executable, "-m", module, *map(str, words)]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.callback(child.wait, 15)
            assert child.stdin is not None and child.stdout is not None
            stack.callback(child.stdin.close)
            child.stdout.readline()
            children.append(child)
        if begin:
            release(children)
        yield children


def release(children: Iterable[subprocess.Popen[bytes]]) -> None:
    """Let worker processes begin."""
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"begin\n")
        child.stdin.flush()


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def percentile(values: list[float], percent: float) -> float:
    """A percentile of a list."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
