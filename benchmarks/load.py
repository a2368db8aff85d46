"""Reading, checking and compiling large blueprints: seconds and growth from N to 2 N nodes, for several shapes.

`python -m benchmarks.load [NODES]`
"""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from benchmarks.hostile_shapes import SHAPES as HOSTILE_SHAPES
from benchmarks.report import write
from benchmarks.setting import chain, fan, store
from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading.loader import Format, load_text
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.config.load import load_config
from flowcraft_server.service.deployment import Deployment

NODES = 20_000
LARGEST = 100_000
WIDEST = 10_000
FILES, NODES_A_FILE = 205, 300
HOSTILE = (
    "ladder", "comb", "branches with loops", "closed cycles", "fallbacks that lead back", "fallbacks around loops",
    "errors read by all", "unknown names", "one key", "wrong actions", "unknown nodes", "many tests",
)  # fmt: skip
"""Those of `hostile_shapes` that took quadratic time before they were bounded."""

HANDLERS = {"echo": HandlerSpec(), "route": HandlerSpec(actions=None)}


def plain(nodes: list[dict[str, Any]], edges: list[dict[str, Any]]) -> dict[str, Any]:
    """A blueprint in the plain form."""
    return {"id": "b", "nodes": nodes, "edges": edges}


def rows(count: int) -> dict[str, Any]:
    """Fans of 100, one behind the other."""
    nodes, edges = [{"id": "j0", "uses": "echo"}], []
    for row in range((count - 1) // 100):
        names = [f"r{row}n{i}" for i in range(99)]
        nodes += [{"id": name, "uses": "echo"} for name in (*names, f"j{row + 1}")]
        edges += [{"source": f"j{row}", "target": name} for name in names]
        edges += [{"source": name, "target": f"j{row + 1}"} for name in names]
    return plain(nodes, edges)


def routed(count: int) -> dict[str, Any]:
    """Routers with two actions each, whose ways meet again."""
    nodes, edges = [{"id": "r0", "uses": "route"}], []
    for i in range(count // 3):
        nodes += [{"id": f"{name}{i}", "uses": "echo"} for name in "ab"] + [{"id": f"r{i + 1}", "uses": "route"}]
        edges += [{"source": f"r{i}", "target": f"{name}{i}", "action": name} for name in "ab"]
        edges += [{"source": f"{name}{i}", "target": f"r{i + 1}"} for name in "ab"]
    return plain(nodes, edges)


def loops(count: int) -> dict[str, Any]:
    """Loops of five nodes, one behind the other."""
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    for i in range(count // 5):
        names = [f"l{i}n{k}" for k in range(5)]
        nodes += [{"id": name, "uses": "route"} for name in names]
        edges += [{"source": one, "target": two, "action": "on"} for one, two in itertools.pairwise(names)]
        edges.append({"source": names[-1], "target": names[0], "action": "again"})
        if i:
            edges.append({"source": f"l{i - 1}n4", "target": names[0], "action": "on"})
    return plain(nodes, edges)


def nested(count: int) -> dict[str, Any]:
    """Loops in loops, 100 deep at most, as many of these as it takes."""
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    for part in range(max(1, count // 100)):
        names = [f"p{part}n{i}" for i in range(100)]
        nodes += [{"id": name, "uses": "route"} for name in names]
        edges += [{"source": one, "target": two, "action": "on"} for one, two in itertools.pairwise(names)]
        edges += [{"source": names[99 - i], "target": names[i], "action": "again"} for i in range(50)]
    return plain(nodes, edges)


def fallbacks(count: int) -> dict[str, Any]:
    """Nodes each of which stands in for the one before it."""
    graph = plain([{"id": f"n{i}", "uses": "echo"} for i in range(count)], [])
    for i, node in enumerate(graph["nodes"][:-1]):
        node["config"] = {"fallback": f"n{i + 1}"}
    return graph


def batches(count: int) -> dict[str, Any]:
    """Batches, one behind the other."""
    nodes: list[dict[str, Any]] = []
    for i in range(count // 2):
        params = {"workerUsesKey": "echo", "gatherNodeId": f"g{i}"}
        nodes += [{"id": f"s{i}", "uses": "batch-scatter", "inputs": "items", "params": params}]
        nodes += [{"id": f"g{i}", "uses": "batch-gather"}]
    return plain(nodes, [{"source": f"g{i}", "target": f"s{i + 1}"} for i in range(count // 2 - 1)])


def parallel(count: int) -> dict[str, Any]:
    """As many edges between two nodes, each with a condition of its own; as many as a node may have."""
    edges = [
        {"source": "a", "target": "b", "condition": f"result.output == {i}"} for i in range(min(count, 2 * WIDEST))
    ]
    return plain([{"id": "a", "uses": "echo"}, {"id": "b", "uses": "echo"}], edges)


def reading(count: int) -> dict[str, Any]:
    """A chain, each of whose nodes reads the first one and one before it."""
    graph = chain("b", count)
    for i, node in enumerate(graph["nodes"][1:]):
        node["inputs"] = {"first": "n0", "last": f"n{i}"}
    return graph


SHAPES: dict[str, Callable[[int], dict[str, Any]]] = {
    "chain": lambda n: chain("b", n),
    "1 -> N -> 1": lambda n: fan("b", min(n, 2 * WIDEST)),
    "N that begin": lambda n: plain([{"id": f"n{i}", "uses": "echo"} for i in range(min(n, 2 * WIDEST))], []),
    "rows of 100": rows,
    "routers": routed,
    "loops": loops,
    "nested loops": nested,
    "fallbacks in a chain": fallbacks,
    "batches": batches,
    "parallel edges": parallel,
    "inputs from far": reading,
}


def written(graph: dict[str, Any]) -> str:
    """A graph as a YAML file."""
    return "\n".join(_lines(graph))


def _lines(graph: dict[str, Any]) -> Iterator[str]:
    yield f"id: {graph['id']}\nnodes:"
    for node in graph["nodes"]:
        yield f"  {node['id']}:\n    uses: {node['uses']}"
        for name in ("inputs", "params", "config"):
            if name in node:
                yield f"    {name}: {json.dumps(node[name])}"
    yield "edges:" if graph["edges"] else "edges: []"
    for edge in graph["edges"]:
        yield "  - {" + ", ".join(f"{name}: {value}" for name, value in edge.items()) + "}"


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    begin = time.perf_counter()
    found = call()
    return time.perf_counter() - begin, found


def measure(graph: dict[str, Any], form: Format | None) -> list[float]:
    """Seconds to read, check and compile; read from a JSON or YAML file, or made of the plain form."""
    if form is not None:
        source = written(graph) if form == "yaml" else json.dumps(graph)
        read, (blueprint, wrong) = timed(lambda: load_text(source, f"b.{form}", format=form))
        assert blueprint is not None and not wrong, wrong[:3]
    else:
        read, blueprint = timed(lambda: Blueprint.from_plain(graph))
    checked, diagnostics = timed(lambda: lint(blueprint, handlers=HANDLERS, blueprints={}))
    assert not [diagnostic for diagnostic in diagnostics if diagnostic.severity == "error"], diagnostics[:3]
    return [read, checked, timed(lambda: compile_blueprint(blueprint))[0]]


def checked(graph: dict[str, Any]) -> list[float]:
    """Seconds to read from JSON and check what may be full of mistakes; it is not compiled."""
    source = json.dumps(graph)
    read, (blueprint, _) = timed(lambda: load_text(source, "b.json", format="json"))
    assert blueprint is not None
    return [read, timed(lambda: lint(blueprint, handlers=HANDLERS, blueprints={}))[0], 0.0]


def starts() -> list[float]:
    """Seconds to load and publish a deployment of many files, the first time and the second."""
    with TemporaryDirectory() as name, store() as (link, keys):
        folder = Path(name)
        (folder / "flows").mkdir()
        (folder / "flowcraft.yaml").write_text(
            f"name: {keys.namespace}\nhandlers: {{echo: load_work:echo}}\nblueprints: {{dirs: [flows]}}\n"
        )
        (folder / "load_work.py").write_text("def echo(ctx):\n    return ctx.input\n")
        for number in range(FILES):
            (folder / f"flows/f{number}.yaml").write_text(written(chain(f"f{number}", NODES_A_FILE)))
        program = [sys.executable, "-m", "benchmarks.load", "--start", str(folder), link.url]
        return [float(subprocess.run(program, capture_output=True, text=True, check=True).stdout) for _ in range(2)]


def start_once(folder: str, url: str) -> None:
    """Load and publish a deployment, and print how long it took."""

    def whole() -> None:
        loaded = load_config(Path(folder) / "flowcraft.yaml", keep=True)
        assert loaded.settings is not None, loaded.diagnostics[:3]
        published = Deployment(loaded, loaded.settings, url).publish(redis.Redis.from_url(url))
        assert len(published.hashes) == FILES

    print(timed(whole)[0])


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--start"]:
        start_once(*sys.argv[2:])
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else NODES
    table = Table("shape", "nodes", "read, s", "check, s", "compile, s", "growth", title="blueprints, one process")
    figures: dict[str, float] = {}

    def row(name: str, nodes: int, seconds: list[float], growth: str) -> None:
        table.add_row(name, f"{nodes:,}", *(f"{part:.2f}" for part in seconds), growth)
        figures[f"{name} {nodes}"] = round(sum(seconds), 3)

    for name, make in SHAPES.items():
        small, large = measure(make(count // 2), "json"), measure(make(count), "json")
        row(name, count, large, f"{sum(large) / sum(small):.1f}")
    for name in HOSTILE:
        small, large = (checked(HOSTILE_SHAPES[name](size)) for size in (count // 2, count))
        row(name, count, large, f"{sum(large) / sum(small):.1f}")
    row("chain, from YAML", count, measure(chain("b", count), "yaml"), "")
    if len(sys.argv) < 2:
        row("rows of 100", LARGEST, measure(rows(LARGEST), "json"), "")
        row("rows of 100, from YAML", LARGEST, measure(rows(LARGEST), "yaml"), "")
        row("rows of 100, from the plain form", LARGEST, measure(rows(LARGEST), None), "")
    Console().print(table)
    if len(sys.argv) < 2:
        first, second = starts()
        print(
            f"{FILES} files of {NODES_A_FILE} nodes, loaded and published: {first:.2f} s, unchanged again {second:.2f} s"
        )
        figures |= {"first start": round(first, 3), "second start": round(second, 3)}
    write("load", figures)


if __name__ == "__main__":
    main()
