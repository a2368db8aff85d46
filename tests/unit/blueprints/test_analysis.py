"""The shape of blueprints, and their pictures."""

import json
import re
from pathlib import Path

import pytest

from flowcraft_server.blueprints.analysis import Analysis, analyze
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.mermaid import to_mermaid
from flowcraft_server.blueprints.model import Blueprint, Edge, Node, NodeConfig
from tests.unit.blueprints.registry import read

CASES = json.loads((Path(__file__).parents[2] / "conformance" / "cases.json").read_text(encoding="utf-8"))["cases"]


def nodes(text: str) -> Blueprint:
    """`a b>c` is a blueprint with the nodes a, b and c and one edge."""
    names = dict.fromkeys(name for part in text.split() for name in part.split(">"))
    edges = [part.split(">") for part in text.split() if ">" in part]
    return Blueprint("g", tuple(Node(n, "echo") for n in names), tuple(Edge(s, t) for s, t in edges))


@pytest.mark.parametrize(
    ("graph", "starts", "terminals", "cycles"),
    [
        ("a", "a", "a", []),
        ("a>b b>c", "a", "c", []),
        ("a>c b>c", "a b", "c", []),
        ("a>b a>c", "a", "b c", []),
        ("a>b b>a", "a", "", ["a b"]),
        ("a>a", "a", "", ["a"]),
        ("s>a a>b b>a b>e", "s", "e", ["a b"]),
        ("a>b b>c c>a x>y y>x", "a x", "", ["a b c", "x y"]),
        ("a>b b>c c>b c>a", "a", "", ["a b c"]),
    ],
)
def test_shapes(graph: str, starts: str, terminals: str, cycles: list[str]) -> None:
    found = analyze(nodes(graph))
    assert found.start_nodes == tuple(starts.split())
    assert found.terminal_nodes == tuple(terminals.split())
    assert {frozenset(cycle) for cycle in found.cycles} == {frozenset(cycle.split()) for cycle in cycles}
    assert found.is_dag is not bool(cycles)


def test_a_fallback_is_neither_start_nor_end() -> None:
    blueprint = Blueprint(
        "f", (Node("a", "x", config=NodeConfig(fallback="b")), Node("b", "x"), Node("c", "x")), (Edge("a", "c"),)
    )
    assert analyze(blueprint).start_nodes == ("a",)
    assert analyze(blueprint).terminal_nodes == ("c",)


def test_a_gather_follows_its_scatter() -> None:
    params = {"workerUsesKey": "echo", "gatherNodeId": "g"}
    blueprint = Blueprint("b", (Node("s", "batch-scatter", params), Node("g", "batch-gather")))
    assert analyze(blueprint).start_nodes == ("s",)
    assert analyze(blueprint).terminal_nodes == ("g",)


def test_entry_points_of_cycles() -> None:
    blueprint = read("metadata: {cycleEntryPoints: [b]}\nnodes: {a: {uses: echo, next: b}, b: {uses: echo, next: a}}\n")
    assert analyze(blueprint).start_nodes == ("b",)


def test_edges_to_nowhere_do_not_count() -> None:
    blueprint = Blueprint("e", (Node("a", "x"),), (Edge("a", "b"), Edge("c", "a")))
    assert analyze(blueprint) == Analysis(("a",), ("a",), (), 1, 2, True)
    assert analyze(blueprint).to_plain() == {
        "startNodeIds": ["a"], "terminalNodeIds": ["a"], "cycles": [], "nodeCount": 1, "edgeCount": 2, "isDag": True,
    }  # fmt: skip


def test_starts_and_ends_are_those_of_the_engine() -> None:
    for case in CASES:
        for plain in (case["blueprint"], *case["subflows"].values()):
            blueprint = Blueprint.from_plain(plain)
            plan = compile_blueprint(blueprint)
            found = analyze(blueprint)
            assert (found.start_nodes, found.terminal_nodes) == (plan.starts, plan.terminals), blueprint.id


class TestMermaid:
    def test_a_picture(self) -> None:
        text = (
            "nodes:\n  a: {uses: route, next: {yes: b, no: c}, config: {fallback: f}}\n  b: {call: child}\n"
            "  c: {uses: sleep}\n  f: {uses: echo}\nedges:\n"
            "  - {source: b, target: c, condition: result.output > 1, transform: input.x}\n"
        )
        assert to_mermaid(read(text), {"a": "completed", "b": "failed", "gone": "failed", "c": "odd"}).splitlines() == [
            "flowchart TD",
            '    a("a")',
            '    b[["b (child)"]]',
            '    c(["c"])',
            '    f["f"]',
            '    a -->|"yes"| b',
            '    a -->|"no"| c',
            '    a -. "fallback" .-> f',
            '    b -->|"if result.output #62; 1 #61; input.x"| c',
            "    classDef completed fill:#d4edda,stroke:#2e7d32",
            "    classDef failed fill:#f8d7da,stroke:#b71c1c",
            "    class a completed",
            "    class b failed",
        ]

    @pytest.mark.parametrize(
        "name",
        [
            "end",
            "a b",
            'x"]; click x "javascript:alert(1)"',
            "<b>",
            "größe",
            "1",
            "a-b",
            "x`y",
            "%%{init}%%",
            "a;b",
            "o",
        ],
    )
    def test_names_have_no_meaning_in_it(self, name: str) -> None:
        blueprint = Blueprint("m", (Node("ok", "x"), Node(name, "x")), (Edge("ok", name, name, name, name),))
        lines = to_mermaid(blueprint).splitlines()
        assert len(lines) == 4
        assert re.fullmatch(r'    n1\["[^"<>`;]*(#\d+;[^"<>`;]*)*"\]', lines[2]), lines[2]
        assert re.fullmatch(r'    n0 -->\|"[^"|<>`]*"\| n1', lines[3]), lines[3]

    def test_long_texts_are_cut(self) -> None:
        blueprint = Blueprint("m", (Node("a", "x"), Node("b", "x")), (Edge("a", "b", condition="x and " * 100 + "y"),))
        assert all(len(line) < 200 for line in to_mermaid(blueprint).splitlines())
