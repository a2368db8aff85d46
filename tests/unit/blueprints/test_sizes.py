"""Large blueprints: their limits, to the last node, and that reading, checking and compiling them stays linear."""

import inspect
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.load import HANDLERS, SHAPES, written
from benchmarks.setting import fan
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.compiling.loops import Link, find_loops, no_loops
from flowcraft_server.blueprints.difference import difference
from flowcraft_server.blueprints.linting import sizes as linter_sizes
from flowcraft_server.blueprints.linting.findings import Findings
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.linting.reachability import Ways
from flowcraft_server.blueprints.loading.loader import load_text
from flowcraft_server.blueprints.model import Blueprint


def lines_run(call: Callable[[], Any]) -> int:
    """How many lines of Python a call runs, those of the standard library left out: its length without a clock."""
    count = 0

    def local(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def enter(frame: FrameType, event: str, arg: Any) -> Any:
        return local if "flowcraft" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def whole(graph: dict[str, Any], text: str | None) -> None:
    blueprint = Blueprint.from_plain(graph)
    if text is not None:
        found, diagnostics = load_text(text)
        assert found is not None and not diagnostics
        blueprint = found
    lint(blueprint, handlers=HANDLERS, blueprints={})
    compile_blueprint(blueprint)


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("yaml", [False, True], ids=["plain", "yaml"])
def test_twice_the_nodes_take_twice_as_long(shape: str, yaml: bool) -> None:
    small, large = SHAPES[shape](301), SHAPES[shape](601)
    texts = [written(graph) if yaml else None for graph in (small, large)]
    steps = [
        lines_run(lambda graph=graph, text=text: whole(graph, text))
        for graph, text in zip((small, large), texts, strict=True)
    ]
    assert steps[1] / steps[0] < 2.4


def diagnostics(graph: dict[str, Any]) -> list[str]:
    findings = Findings(Blueprint.from_plain(graph), HANDLERS, {}, {})
    linter_sizes.check_sizes(findings)
    return [f"{diagnostic.path}: {diagnostic.message}" for diagnostic in findings.diagnostics]


def fan_of(width: int) -> dict[str, Any]:
    return fan("b", width)


def beginning(count: int) -> dict[str, Any]:
    return {"id": "b", "nodes": [{"id": f"n{i}", "uses": "echo"} for i in range(count)], "edges": []}


def chained(count: int) -> dict[str, Any]:
    return SHAPES["chain"](count)


def named(count: int) -> dict[str, Any]:
    graph = chained(2)
    graph["nodes"][1]["inputs"] = {f"v{i}": "n0" for i in range(count)}
    return graph


def ring(count: int) -> dict[str, Any]:
    graph = chained(count)
    graph["edges"] += [{"source": f"n{count - 1}", "target": "n0", "action": "again"}]
    return graph


def branching(count: int) -> dict[str, Any]:
    """A loop of two with a side branch."""
    graph = chained(count)
    graph["nodes"].append({"id": "r", "uses": "route"})
    graph["edges"] += [{"source": "n0", "target": "r"}, {"source": "r", "target": "n0", "action": "again"}]
    return graph


def nested(depth: int) -> dict[str, Any]:
    graph = chained(2 * depth)
    graph["edges"] += [{"source": f"n{2 * depth - 1 - i}", "target": f"n{i}", "action": "again"} for i in range(depth)]
    return graph


@pytest.mark.parametrize(
    ("make", "limit", "shown"),
    [
        (chained, linter_sizes.MOST_NODES, "100,001 nodes: a blueprint has 100,000 at most"),
        (beginning, linter_sizes.MOST_STARTS, "20,001 nodes that nothing leads to"),
        (fan_of, linter_sizes.MOST_EDGES, "20,001 edges lead from it, 20,000 at most can"),
        (named, linter_sizes.MOST_NAMES, "1,001 names: a node has 1,000 inputs at most"),
        (ring, linter_sizes.MOST_IN_LOOP, "is in a loop of 1,001 nodes: a loop has 1,000 nodes"),
        (
            branching,
            linter_sizes.MOST_IN_LOOP - 1,
            "nodes.n0: begins a loop of 1,001 nodes, those of its side branches among them",
        ),
        (nested, linter_sizes.MOST_NESTED, "nodes.n50: begins a loop that lies in 50 others: loops are nested 50 deep"),
    ],
    ids=["nodes", "starts", "edges", "names", "loop", "side branch", "nested"],
)
def test_sizes_at_their_limit_and_one_over(make: Callable[[int], dict[str, Any]], limit: int, shown: str) -> None:
    assert diagnostics(make(limit)) == []
    found = diagnostics(make(limit + 1))
    assert found and shown in found[0]


def test_loops_in_loops_deeper_than_calls_may_be() -> None:
    """Once the search called itself for each, until Python refused."""
    count = 300
    names = {f"n{i}": "x" for i in range(2 * count)}
    links = [Link(f"n{i}", f"n{i + 1}") for i in range(2 * count - 1)]
    links += [Link(f"n{2 * count - 1 - i}", f"n{i}", True) for i in range(count)]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + count // 2)
    try:
        forest = find_loops(names, links)
    finally:
        sys.setrecursionlimit(limit)
    assert len(forest.loops) == count
    assert max(len(chain) for chain in forest.chain.values()) == count


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20))
def test_a_graph_without_a_cycle_is_found_to_have_no_loops(pairs: list[tuple[int, int]]) -> None:
    """The compiler does not search loops in it."""
    links = [Link(f"n{min(pair)}", f"n{max(pair)}") for pair in pairs if pair[0] != pair[1]]
    nodes = {f"n{number}": "echo" for number in range(10)}
    assert find_loops(nodes, links) == no_loops(nodes)


def test_twice_the_changes_take_twice_as_long() -> None:
    def changed(count: int) -> int:
        before, after = (
            Blueprint.from_plain({**graph, "edges": [{**edge, "transform": name} for edge in graph["edges"]]})
            for graph, name in ((chained(count), "result.a"), (chained(count), "result.b"))
        )
        return lines_run(lambda: difference(before, after))

    assert changed(800) / changed(400) < 2.4


def test_fallbacks_in_a_circle_are_reported_once_each() -> None:
    graph = SHAPES["fallbacks in a chain"](12)
    graph["nodes"][11]["config"] = {"fallback": "n3"}
    graph["nodes"][2]["config"] = {"fallback": "n5"}
    found = [
        each for each in lint(Blueprint.from_plain(graph), handlers=HANDLERS, blueprints={}) if "circle" in each.message
    ]
    ring = "n10 -> n11 -> n3 -> n4 -> n5 -> n6 -> n7 -> ... -> n10"
    assert [(each.path, each.message) for each in found] == [
        ("nodes.n10.config.fallback", f"fallbacks lead round in a circle: {ring}")
    ]


def test_a_bounded_loop_in_many_others_is_looked_for_no_deeper_than_loops_may_be() -> None:
    def checked(depth: int) -> int:
        graph = nested(depth)
        graph["nodes"][0]["params"] = {"maxIterations": 3}
        graph["nodes"].append({"id": "odd", "uses": "route", "config": {"fallback": "nowhere"}})
        return lines_run(lambda: lint(Blueprint.from_plain(graph), handlers=HANDLERS, blueprints={}))

    assert checked(400) / checked(200) < 2.4


def test_a_blueprint_of_deep_loops_is_refused_and_not_crashed_on() -> None:
    graph = ring(1_200)
    graph["edges"] += [{"source": f"n{1199 - i}", "target": f"n{i}", "action": f"a{i}"} for i in range(1, 600)]
    found = lint(Blueprint.from_plain(graph), handlers=HANDLERS, blueprints={})
    assert any("a loop has 1,000 nodes" in diagnostic.message for diagnostic in found)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [("a", "d", True), ("d", "a", False), ("b", "c", False), ("e", "e", True), ("a", "a", False), ("e", "f", True)],
)
def test_ways(source: str, target: str, expected: bool) -> None:
    before = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "c"}, "e": {"f"}, "f": {"e"}}
    assert Ways(list(before), before).lead(source, target) is expected


def test_names_that_the_expressions_of_a_node_read_are_bounded() -> None:
    names = [
        f"{first}{second}{third}" for first in "abcde" for second in "abcdefghij" for third in "abcdefghijklmnopqrstu"
    ]
    nodes = [{"id": "a", "uses": "x", "inputs": f"= [{','.join(names[:1000])}]"}]
    plain = {"id": "b", "nodes": nodes, "edges": []}
    assert lint(Blueprint.from_plain(plain), handlers=None, blueprints={}) == []
    nodes[0]["config"] = {"timeout": "= sla"}
    found = lint(Blueprint.from_plain(plain), handlers=None, blueprints={})
    assert [each.message for each in found] == ["its expressions read 1,001 names: those of a node read 1,000 at most"]
