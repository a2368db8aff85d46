"""Fallbacks of nodes that open batches."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import NodeContext
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]
TIMEOUT = 10.0


def double(ctx: NodeContext) -> Any:
    if ctx.input is None:
        raise ValueError("no number")
    return ctx.input * 2


HANDLERS: dict[str, Any] = {
    "double": double,
    "echo": lambda ctx: ctx.input,
    "instead": lambda ctx: ["instead of", ctx.input],
}


@pytest.mark.parametrize("live", [1, 8])
def test_the_fallback_of_a_map_gets_the_whole_list(environment: Make, live: int) -> None:
    """It got the item that failed."""
    params = {"uses": "double", "maxLive": live}
    m = {"id": "m", "uses": "map", "inputs": "items", "params": params, "config": {"fallback": "fb"}}
    nodes = [m, {"id": "fb", "uses": "instead"}, {"id": "z", "uses": "echo"}]
    edges = [{"source": "m", "target": "z"}]
    env = environment(blueprints={"id": "g", "nodes": nodes, "edges": edges}, handlers=HANDLERS)
    assert env.client.execute("g", {"items": [1, None, 3]}, timeout=TIMEOUT)["z"] == ["instead of", [1, None, 3]]


def test_a_scatter_that_is_caught_in_a_later_round_does_not_gather_the_round_before(environment: Make) -> None:
    def lists(ctx: NodeContext) -> Any:
        ctx.context.set("n", ctx.context.get("n", 0) + 1)
        return [[1, 2], "abc", [3]][ctx.context.get("n") - 1]

    def note(ctx: NodeContext) -> None:
        ctx.context.set("seen", [*ctx.context.get("seen", []), ctx.input])

    nodes = {
        "lc": {"uses": "loop-controller", "params": {"condition": "(n ?? 0) < 3"}, "config": {"joinStrategy": "any"}},
        "i": {"uses": "lists"},
        "sc": {
            "uses": "batch-scatter",
            "params": {"workerUsesKey": "double", "gatherNodeId": "ga"},
            "config": {"fallback": "fb"},
        },
        "fb": {"uses": "instead"},
        "ga": {"uses": "batch-gather"},
        "note": {"uses": "note"},
        "z": {"uses": "echo"},
    }
    edges = ("lc i continue", "i sc", "ga note", "note lc", "lc z break")
    g = {
        "id": "g",
        "nodes": [{"id": name, **node} for name, node in nodes.items()],
        "edges": [dict(zip(("source", "target", "action"), edge.split(), strict=False)) for edge in edges],
    }
    env = environment(blueprints=g, handlers={**HANDLERS, "lists": lists, "note": note})
    assert env.client.execute("g", timeout=TIMEOUT)["seen"] == [[2, 4], [], [6]]
