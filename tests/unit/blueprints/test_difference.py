"""What differs between two blueprints."""

from typing import Any

import pytest

from flowcraft_server.blueprints.difference import difference
from tests.unit.blueprints.registry import read

BEFORE = """
description: before
outputs: {x: a}
nodes:
  a: {uses: echo, params: {deep: {one: 1, two: [1, 2]}}}
  b: {uses: echo, inputs: a, config: {timeout: 5s}}
  gone: {uses: route}
edges:
  - a -> b
  - {source: a, target: gone, action: x}
  - {source: b, target: gone, condition: a > 1}
"""
AFTER = """
description: after
onFailure: continue
nodes:
  a: {uses: echo, params: {deep: {one: true, two: [1, 2]}, more: null}}
  b: {uses: add, inputs: a, params: {n: 1}}
  new: {uses: echo, needs: b}
edges:
  - a -> b
  - a -> new
"""


def compare(before: str, after: str) -> dict[str, Any]:
    return difference(read(before), read(after)).to_plain()


def test_nodes_edges_and_settings() -> None:
    found = compare(BEFORE, AFTER)
    assert not found["same"]
    assert found["nodes"] == {
        "added": ["new"],
        "removed": ["gone"],
        "changed": {
            "a": [{"path": "params.deep.one", "before": 1, "after": True}, {"path": "params.more", "after": None}],
            "b": [
                {"path": "uses", "before": "echo", "after": "add"},
                {"path": "config", "before": {"timeout": 5000}},
                {"path": "params", "after": {"n": 1}},
            ],
        },
    }
    assert found["edges"] == {
        "added": [{"source": "b", "target": "new"}, {"source": "a", "target": "new"}],
        "removed": [
            {"source": "a", "target": "gone", "action": "x"},
            {"source": "b", "target": "gone", "condition": "a > 1"},
        ],
        "changed": [],
    }
    assert found["settings"] == [
        {"path": "description", "before": "before", "after": "after"},
        {"path": "outputs", "before": {"x": "a"}},
        {"path": "onFailure", "after": "continue"},
    ]


TWO = "nodes: {{a: {{uses: route}}, b: {{uses: echo}}}}\nedges:\n  - {}\n  - {}\n"


def test_an_edge_that_says_something_else_has_changed() -> None:
    before = TWO.format("a -[x]-> b", "{source: a, target: b, condition: a > 1}")
    after = TWO.format("a -[x]-> b", "{source: a, target: b, condition: a > 2, transform: input}")
    assert compare(before, after)["edges"]["changed"] == [
        {
            "edge": {"source": "a", "target": "b"},
            "changes": [
                {"path": "condition", "before": "a > 1", "after": "a > 2"},
                {"path": "transform", "after": "input"},
            ],
        }
    ]
    assert compare(after, after)["same"]


def test_edges_that_are_there_twice_are_counted() -> None:
    once = TWO.format("a -> b", "a -[x]-> b")
    twice = TWO.format("a -> b", "a -> b")
    found = compare(once, twice)["edges"]
    assert (found["added"], found["removed"]) == (
        [{"source": "a", "target": "b"}],
        [{"source": "a", "target": "b", "action": "x"}],
    )


def test_another_order() -> None:
    found = compare(TWO.format("a -> b", "a -[x]-> b"), TWO.format("a -[x]-> b", "a -> b"))
    assert (found["same"], found["reordered"]) == (False, ["edges"])
    nodes = "nodes: {{{}: {{uses: echo}}, {}: {{uses: echo}}}}\n"
    assert compare(nodes.format("a", "b"), nodes.format("b", "a"))["reordered"] == ["nodes"]


@pytest.mark.parametrize(
    ("short", "plain"),
    [
        (
            "nodes: {a: {uses: echo, next: b}, b: {uses: echo}}",
            "nodes: {a: {uses: echo}, b: {uses: echo}}\nedges: [a -> b]",
        ),
        ("nodes: {a: {call: child}}", "nodes: [{id: a, uses: subflow, params: {blueprintId: child}}]"),
        ("defaults: {timeout: 1s}\nnodes: {a: {uses: echo}}", "nodes: {a: {uses: echo, config: {timeout: 1000ms}}}"),
    ],
)
def test_the_same_in_another_form_is_the_same(short: str, plain: str) -> None:
    assert compare(short, plain)["same"]


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("2", "2.0", True), ("[1, {a: 2}]", "[1.0, {a: 2.0}]", True), ("1", "true", False), ("[1]", "[true]", False),
        ("1", "'1'", False), ("[1]", "[1, 2]", False), ("[{a: 1}]", "[{b: 1}]", False), ("0.1", "0.2", False),
    ],
)  # fmt: skip
def test_numbers_are_compared_by_value(before: str, after: str, same: bool) -> None:
    of = "id: g\nnodes: {{a: {{uses: echo, params: {{x: {}}}}}}}".format
    assert compare(of(before), of(after))["same"] is same
