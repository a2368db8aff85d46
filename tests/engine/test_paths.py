"""A dotted path reads into context keys as into outputs, wherever a blueprint names a value; a `map` without its list fails."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, RunFailedError
from flowcraft_sdk.protocol.paths import beginnings, resolve, walk
from flowcraft_server.testing import TestEnvironment
from handlers.templates import pick, render, wanted_keys

Make = Callable[..., TestEnvironment]
TIMEOUT = 20.0
ORDER = {"order": {"customer": {"name": "Ada"}, "items": [{"sku": "a"}, {"sku": "b"}], "none": None}, "a.b": {"c": 1}}

PATHS: dict[str, Any] = {
    "order.customer.name": "Ada",
    "order.items.1.sku": "b",
    "order.items.7.sku": None,
    "order.none.deeper": None,
    "order.nothing": None,
    "nothing.at.all": None,
    "a.b": {"c": 1},
    "a.b.c": 1,
    "first.customer.name": "Ada",
    "_outputs.first.customer.name": "Ada",
}


def echo(ctx: NodeContext) -> Any:
    return ctx.input


def blueprint(path: str) -> dict[str, Any]:
    return {
        "id": "g",
        "nodes": [
            {"id": "first", "uses": "echo", "inputs": "order"},
            {"id": "text", "uses": "echo", "inputs": path},
            {"id": "many", "uses": "echo", "inputs": {"x": path}},
            {
                "id": "sub",
                "uses": "subflow",
                "params": {"blueprintId": "child", "inputs": {"x": path}, "outputs": {"got": "in.x"}},
            },
        ],
        "edges": [{"source": "first", "target": node} for node in ("text", "many", "sub")],
        "outputs": {"text": "text", "many": "many.x", "sub": "got", "own": path},
    }


CHILD = {"id": "child", "nodes": [{"id": "in", "uses": "echo", "inputs": {"x": "x"}}], "edges": []}


@pytest.mark.parametrize("path", PATHS)
def test_inputs_outputs_and_subflows_read_the_same(environment: Make, path: str) -> None:
    env = environment(handlers={"echo": echo}, blueprints=[CHILD, blueprint(path)])
    result = env.client.start("g", ORDER).result(timeout=TIMEOUT)
    assert result == dict.fromkeys(("text", "many", "sub", "own"), PATHS[path])


def test_a_path_into_what_a_handler_wrote(environment: Make) -> None:
    def write(ctx: NodeContext) -> None:
        ctx.context.set("made", {"by": ["me"]})

    graph = {
        "id": "g",
        "nodes": [{"id": "w", "uses": "write"}, {"id": "r", "uses": "echo", "inputs": "made.by.0"}],
        "edges": [{"source": "w", "target": "r"}],
    }
    env = environment(handlers={"write": write, "echo": echo}, blueprints=graph)
    assert env.client.start("g").result(timeout=TIMEOUT)["r"] == "me"


def test_templates_read_paths() -> None:
    inputs = {"name": "order.customer.name", "either": ["nothing.there", "order.items.0.sku"]}
    assert {"order", "order.customer.name", "_outputs.order"} <= set(wanted_keys(inputs))
    assert pick(inputs, ORDER) == {"name": "Ada", "either": "a"}
    assert render("{{ order.customer.name }} {{ nobody.x }} {{a.b.c}}", ORDER) == "Ada {{ nobody.x }} 1"


def test_the_rule() -> None:
    assert beginnings("a.b.c") == ["a.b.c", "a.b", "a"]
    assert resolve({"a": {"b": 1}, "a.b": 2}, "a.b") == 2
    assert resolve({"a": {"b": {"c": 1}}, "a.b": None}, "a.b.c") is None
    assert walk("text", "0") is None
    assert walk([1, 2], "1") == 2
    assert walk([1, 2], "-1") is None


MAP = {"id": "m", "nodes": [{"id": "each", "uses": "map", "inputs": "things", "params": {"uses": "echo"}}], "edges": []}


@pytest.mark.parametrize("context", [{}, {"things": None}])
def test_a_map_without_its_list_fails_and_names_it(environment: Make, context: dict[str, Any]) -> None:
    env = environment(handlers={"echo": echo}, blueprints=MAP)
    with pytest.raises(RunFailedError, match=r"'things' is missing or null.*allowMissing") as caught:
        env.client.start("m", context).result(timeout=TIMEOUT)
    assert caught.value.failure.type == "InvalidNodeInput"


def test_a_map_that_may_miss_its_list(environment: Make) -> None:
    graph = {**MAP, "nodes": [{**MAP["nodes"][0], "params": {"uses": "echo", "allowMissing": True}}]}  # type: ignore[dict-item]
    env = environment(handlers={"echo": echo}, blueprints=graph)
    assert env.client.start("m").result(timeout=TIMEOUT) == {"each": []}


def test_inputs_of_other_nodes_are_sources(environment: Make) -> None:
    graph = """
nodes:
  first: {uses: echo, inputs: order}
  second: {uses: upper, next: [third, fourth, fifth]}
  third: {uses: echo, inputs: _inputs.second}
  fourth: {uses: echo, inputs: {name: _inputs.second.customer.name, start: _inputs.first}}
  fifth: {uses: boom, inputs: _inputs.second.items.0.sku, config: {fallback: rescue}}
  rescue: {uses: echo}
edges: [first -> second]
outputs: {third: third, fourth: fourth, rescued: rescue}
"""
    handlers = {"echo": echo, "upper": lambda ctx: "done", "boom": lambda ctx: 1 / 0}
    env = environment(handlers=handlers, blueprints={"g": graph})
    result = env.client.start("g", {"order": ORDER["order"], "_inputs.first": 7}).result(timeout=TIMEOUT)
    assert result == {"third": ORDER["order"], "fourth": {"name": "Ada", "start": 7}, "rescued": "a"}


def test_a_fallback_reads_the_failure_by_its_inputs(environment: Make) -> None:
    graph = """
nodes:
  pay: {uses: boom, config: {fallback: rescue}}
  rescue: {uses: echo, inputs: {why: _catch_error.message, all: _catch_error, none: _catch_error.nothing.at.all}}
  later: {uses: echo, inputs: _catch_error, needs: pay}
"""
    env = environment(handlers={"echo": echo, "boom": lambda ctx: 1 / 0}, blueprints={"g": graph})
    result = env.client.start("g").result(timeout=TIMEOUT)
    assert result["rescue"]["why"] == "division by zero"
    assert result["rescue"]["all"]["type"] == "ZeroDivisionError"
    assert result["rescue"]["none"] is None
    assert result["later"] is None
