"""Which nodes and starts the compiler flags for the scripts' fast path."""

import json
from typing import Any

import pytest

from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.compiling.fast_path import is_fast_node, is_fast_start
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.engine.plans import sole_successor

EDGE = ["b", 1, "u", "all", "default"]


def fields(nodes: dict[str, Any], *edges: str, **extra: Any) -> dict[str, Any]:
    """The plan's fields; an edge is `a>b`."""
    blueprint = Blueprint.from_plain(
        {
            "id": "g",
            "nodes": [{"id": name, "uses": "x", **more} for name, more in nodes.items()],
            "edges": [dict(zip(("source", "target"), edge.split(">"), strict=True)) for edge in edges],
            **extra,
        }
    )
    return {name: json.loads(text) for name, text in compile_blueprint(blueprint).fields.items()}


def flags(plan: dict[str, Any]) -> dict[str, bool]:
    """Which entries are flagged, `meta` among them."""
    entries = {name[2:]: entry[5:] for name, entry in plan.items() if name.startswith("n:")}
    return {
        "meta": "fast" in plan["meta"],
        **{node: bool(more) and "fast" in more[0] for node, more in entries.items()},
    }


def test_ordinary_nodes_are_flagged() -> None:
    plan = fields({"a": {}, "b": {"inputs": "a"}, "c": {}, "d": {}}, "a>b", "a>c", "b>d", "c>d")
    assert flags(plan) == dict.fromkeys(("meta", "a", "b", "c", "d"), True)


def test_a_loop_takes_the_slow_path() -> None:
    nodes = {"a": {}, "b": {}, "c": {"uses": "loop-controller", "params": {"condition": "true"}}, "d": {}}
    edges = [
        {"source": "a", "target": "b"},
        {"source": "b", "target": "c"},
        {"source": "c", "target": "b", "action": "continue"},
        {"source": "c", "target": "d", "action": "break"},
    ]
    plan = fields(nodes, edges=edges)
    assert flags(plan) == {"meta": True, "a": False, "b": False, "c": False, "d": True}


def test_fallbacks_any_joins_and_batches_take_the_slow_path() -> None:
    plan = fields({"a": {"config": {"fallback": "b"}}, "b": {}, "c": {"config": {"joinStrategy": "any"}}}, "a>c", "b>c")
    assert flags(plan) == {"meta": True, "a": False, "b": False, "c": True}
    scatter = {"uses": "batch-scatter", "params": {"gatherNodeId": "c"}}
    assert flags(fields({"a": scatter, "c": {"uses": "batch-gather"}}))["a"] is False
    assert flags(fields({"a": {}, "b": {}}, "a>b", "a>b")) == {"meta": True, "a": False, "b": True}


def test_more_nodes_than_an_entry_holds_take_the_slow_path() -> None:
    names = [f"n{i}" for i in range(101)]
    wide = fields({"a": {}, **{name: {} for name in names}}, *[f"a>{name}" for name in names])
    assert flags(wide)["a"] is False and flags(wide)["n7"] is True
    assert flags(fields({name: {} for name in names}))["meta"] is False


def test_a_feature_that_the_fast_path_does_not_know_is_off_it() -> None:
    assert is_fast_node({"inputs": 1, "collect": 1}, [EDGE], 100)
    assert not is_fast_node({"inputs": 1, "unheard-of": 1}, [EDGE], 100)
    for unknown in (["b", 1, "u", "most", "default"], [*EDGE, "y"], [*EDGE, "", "", ["l"]]):
        assert not is_fast_node({}, [unknown], 100)
    assert is_fast_start([{"fallback"}, set()], 100)
    assert not is_fast_start([{"fallback"}, {"unheard-of"}], 100)


@pytest.mark.parametrize("flagged", [True, False])
def test_the_worker_asks_for_the_flag_and_for_nothing_else(flagged: bool) -> None:
    options = {"fast": 1, "unheard-of": 1} if flagged else {}
    entries = {"a": ["all", [], [EDGE], [], "default", options], "b": ["all", ["o:a"], [], [], "default"]}
    assert sole_successor(entries, "a") == (("b", "default", 1, "u", "o:a") if flagged else ("",))
