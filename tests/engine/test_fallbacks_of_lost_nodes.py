"""The fallback of a node that its workers died of gets the input that the node had, though nobody was left to store it."""

import threading
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, NodeResult
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings
from tests.engine.constructs.test_inside_loops import around, tick
from tests.engine.defects.graphs import TIMEOUT, Make, echo, graph, name

MANY = {"uses": "const", "params": {"value": {"k": [1.50, 2]}}}


class Deadly:
    """Notes its input and runs until its worker is killed; raises instead where it is asked to."""

    def __init__(self) -> None:
        self.began, self.release = threading.Event(), threading.Event()
        self.input: Any = None

    def __call__(self, ctx: NodeContext) -> Any:
        if ctx.input in ctx.params.get("raises", ()):
            raise ValueError("not this time")
        self.input = ctx.input
        self.began.set()
        self.release.wait(TIMEOUT)
        return "unheard"


@pytest.fixture
def deadly() -> Deadly:
    return Deadly()


def lost(env: TestEnvironment, deadly: Deadly) -> None:
    """Let the worker die of the node, and another one take over."""
    assert deadly.began.wait(TIMEOUT)
    env.kill_worker()
    deadly.release.set()
    env.add_worker()
    env.clock.advance(11.0, keep_leases=False)


def run(environment: Make, deadly: Deadly, blueprint: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    handlers = {
        "deadly": deadly, "echo": echo, "name": name, "tick": tick, "const": lambda ctx: ctx.params["value"],
        "left": lambda ctx: NodeResult("left", "l"), "rescue": lambda ctx: [ctx.input, ctx.context.get("_catch_error")["type"]],
    }  # fmt: skip
    env = environment(blueprints=blueprint, handlers=handlers, settings=WorkerSettings(max_crashes=1))
    handle = env.client.start("g", context)
    lost(env, deadly)
    result: dict[str, Any] = handle.result(timeout=TIMEOUT)
    return result


def dies(**more: Any) -> dict[str, Any]:
    return {"uses": "deadly", "config": {"fallback": "fb"}, **more}


WAYS: dict[str, tuple[dict[str, Any], Any]] = {
    "an edge": (graph({"w": MANY, "a": dies(), "fb": "rescue"}, "w a"), {"k": [1.50, 2]}),
    "a key": (graph({"w": MANY, "a": dies(inputs="x"), "fb": "rescue"}, "w a"), [9]),
    "keys, paths and what is not there": (
        graph({"w": MANY, "a": dies(inputs={"p": "w.k.1", "w": "w", "x": "x", "no": "nothing"}), "fb": "rescue"}, "w a"),
        {"p": 2, "w": {"k": [1.50, 2]}, "x": [9], "no": None},
    ),
    "the start context": (graph({"a": dies(), "fb": "rescue"}), "begin"),
    "a transform": (
        graph({"w": MANY, "a": dies(), "fb": "rescue"})
        | {"edges": [{"source": "w", "target": "a", "transform": "input.k"}]},
        [1.50, 2],
    ),
    "a transform in place of a key": (
        graph({"w": MANY, "v": "name", "a": dies(inputs="x"), "fb": "rescue"})
        | {"edges": [{"source": "w", "target": "a", "transform": "input.k"}, {"source": "v", "target": "a"}]},
        [1.50, 2],
    ),
    "the last edge that was taken": (
        graph({"r": "left", "b": "name", "c": "name", "a": dies(), "fb": "rescue"}, "r b l", "r c other", "b a", "c a"),
        "b",
    ),
    "nothing": (graph({"a": dies(inputs="nothing"), "fb": "rescue"}), None),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_fallback_gets_what_the_node_got_from(environment: Make, deadly: Deadly, way: str) -> None:
    blueprint, expected = WAYS[way]
    result = run(environment, deadly, blueprint, {"x": [9], "_inputs.a": "begin"})
    assert result["fb"] == [expected, "WorkerLost"]
    assert deadly.input == expected


def test_in_a_loop_it_is_the_input_of_this_round(environment: Make, deadly: Deadly) -> None:
    """Its fallback was needed in the round before, too."""
    nodes = {"a": dies(params={"raises": [1]}), "fb": "rescue", "z": "echo"}
    result = run(environment, deadly, around(nodes, "t a", "a z", "z lc", rounds=2), {})
    assert result["z"] == [2, "WorkerLost"]


def test_a_fallback_with_inputs_of_its_own_gets_those(environment: Make, deadly: Deadly) -> None:
    blueprint = graph({"w": MANY, "a": dies(), "fb": {"uses": "rescue", "inputs": "x"}}, "w a")
    assert run(environment, deadly, blueprint, {"x": 4})["fb"] == [4, "WorkerLost"]


def test_a_map_keeps_its_items_for_its_fallback(environment: Make, deadly: Deadly) -> None:
    mapping = {"uses": "map", "inputs": "x", "params": {"uses": "deadly"}, "config": {"fallback": "fb"}}
    result = run(environment, deadly, graph({"m": mapping, "fb": "rescue"}), {"x": [5]})
    assert result["fb"] == [[5], "WorkerLost"]
