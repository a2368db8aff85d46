"""Batches: what their items may do, and what stands around them."""

from datetime import timedelta
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, NodeResult, NonRetryableError, RunFailedError, RunStatus
from tests.engine.defects.graphs import TIMEOUT, Make, answer, echo, graph, joined, name, ran

BASE = {"echo": echo, "name": name}


def mapped(uses: str, source: str | None = "items", **more: Any) -> dict[str, Any]:
    """A map node."""
    params = {"uses": uses} | more.pop("params", {})
    return {"uses": "map", "params": params, **more} | ({"inputs": source} if source else {})


def scattered(uses: str, **config: Any) -> dict[str, Any]:
    """A scatter and its gather."""
    params = {"workerUsesKey": uses, "gatherNodeId": "ga"}
    return {
        "sc": {"uses": "batch-scatter", "inputs": "items", "params": params, "config": config},
        "ga": {"uses": "batch-gather", "params": {"outputKey": "results"}},
    }


def odd(ctx: NodeContext) -> int:
    """Fails on even numbers."""
    if ctx.input % 2 == 0:
        raise NonRetryableError(f"{ctx.input} is even", details={"n": ctx.input})
    return int(ctx.input) * 10


def test_null_items_and_null_results_keep_their_places(environment: Make) -> None:
    g = graph({"m": mapped("only"), "z": "echo"}, "m z")
    env = environment(blueprints=g, handlers={**BASE, "only": lambda ctx: None if ctx.input == 2 else [ctx.input]})
    assert env.client.execute("g", {"items": [1, 2, None, 2, 3]}, timeout=TIMEOUT)["z"] == [
        [1],
        None,
        [None],
        None,
        [3],
    ]


@pytest.mark.parametrize("items", [[]])
def test_no_items_give_an_empty_list_and_the_run_goes_on(environment: Make, items: Any) -> None:
    env = environment(blueprints=graph({"m": mapped("echo"), "z": "echo"}, "m z"), handlers=BASE)
    handle = env.client.start("g", {"items": items})
    assert handle.result(timeout=TIMEOUT)["z"] == []
    assert ran(handle.describe()) == {"m", "z"}


def test_collect_of_scatter_and_gather(environment: Make) -> None:
    env = environment(
        blueprints=graph({**scattered("odd", onItemError="collect"), "z": "echo"}, "sc ga", "ga z"),
        handlers={**BASE, "odd": odd},
    )
    handle = env.client.start("g", {"items": [1, 2, 3, 4]})
    results = handle.result(timeout=TIMEOUT)["z"]
    assert [results[0], results[2]] == [10, 30]
    assert [result["error"]["message"] for result in (results[1], results[3])] == ["2 is even", "4 is even"]
    assert results[1]["error"]["details"] == {"n": 2}
    assert handle.status() is RunStatus.COMPLETED


def test_collect_when_every_item_fails(environment: Make) -> None:
    g = graph({"m": mapped("odd", config={"onItemError": "collect"}), "z": "echo"}, "m z")
    env = environment(blueprints=g, handlers={**BASE, "odd": odd})
    results = env.client.execute("g", {"items": [2, 4]}, timeout=TIMEOUT)["z"]
    assert [result["error"]["node"] for result in results] == ["m[0]", "m[1]"]


@pytest.mark.parametrize("kind", ["map", "scatter"])
def test_an_item_s_retries_wait_in_redis(environment: Make, kind: str) -> None:
    """While one item waits for its next attempt, the others are done; the batch ends when it is."""
    config = {"maxRetries": 3, "retryDelay": "1h"}
    attempts: list[tuple[int, int]] = []

    def flaky(ctx: NodeContext) -> int:
        attempts.append((ctx.input, ctx.attempt))
        if ctx.input == 2 and ctx.attempt < 3:
            raise ValueError("not yet")
        return int(ctx.input) * ctx.attempt

    g = graph({**scattered("flaky", **config), "z": "echo"}, "sc ga", "ga z")
    if kind == "map":
        g = graph({"m": mapped("flaky", config=config), "z": "echo"}, "m z")
    env = environment(blueprints=g, handlers={**BASE, "flaky": flaky})
    handle = env.client.start("g", {"items": [1, 2, 3]})
    for number in (1, 2):
        _until(env, lambda number=number: len(attempts) == 2 + number)
        assert handle.status() is RunStatus.RUNNING
        env.clock.advance(timedelta(minutes=61))
    assert handle.result(timeout=TIMEOUT)["z"] == [1, 6, 3]
    assert sorted(attempts) == [(1, 1), (2, 1), (2, 2), (2, 3), (3, 1)]


def _until(env: Any, holds: Any) -> None:
    """Until what was begun is done; `holds` says how much that is."""
    for _ in range(1000):
        env.run_until_idle()
        if holds():
            return
    raise AssertionError("it never did")


def test_an_item_that_fails_stops_items_that_have_not_begun(environment: Make) -> None:
    begun: list[int] = []

    def first_fails(ctx: NodeContext) -> None:
        begun.append(ctx.item)
        raise ValueError("no")

    g = graph({"m": mapped("first_fails", params={"chunkSize": 1})})
    env = environment(blueprints=g, handlers={"first_fails": first_fails})
    handle = env.client.start("g", {"items": list(range(20))})
    with pytest.raises(RunFailedError, match=r"m\[0\]"):
        handle.result(timeout=TIMEOUT)
    assert begun == [0]


def test_an_item_reads_the_context_and_writes_to_it(environment: Make) -> None:
    def item(ctx: NodeContext) -> int:
        ctx.context.set(f"seen{ctx.item}", ctx.input)
        return int(ctx.input) * int(ctx.context.get("factor"))

    env = environment(blueprints=graph({"m": mapped("item")}), handlers={"item": item})
    result = env.client.execute("g", {"items": [4, 5], "factor": 3}, timeout=TIMEOUT)
    assert (result["m"], result["seen0"], result["seen1"]) == ([12, 15], 4, 5)


def test_an_item_s_action_chooses_nothing(environment: Make) -> None:
    """Items have no edges: the node goes on by its own."""
    env = environment(
        blueprints=graph({"m": mapped("act"), "z": "echo"}, "m z"),
        handlers={**BASE, "act": lambda ctx: NodeResult(ctx.input, "left")},
    )
    assert env.client.execute("g", {"items": [1, 2]}, timeout=TIMEOUT)["z"] == [1, 2]


def test_one_map_feeds_another(environment: Make) -> None:
    env = environment(
        blueprints=graph({"m": mapped("double"), "n": mapped("double", None), "z": "echo"}, "m n", "n z"),
        handlers={**BASE, "double": lambda ctx: ctx.input * 2},
    )
    assert env.client.execute("g", {"items": list(range(300))}, timeout=30)["z"] == [4 * i for i in range(300)]


def test_two_batches_at_once_into_one_join(environment: Make) -> None:
    g = graph(
        {"m": mapped("double"), "n": mapped("negate"), "z": {"uses": "echo", "inputs": {"m": "m", "n": "n"}}},
        "m z",
        "n z",
    )
    handlers = {**BASE, "double": lambda ctx: ctx.input * 2, "negate": lambda ctx: -ctx.input}
    result = environment(blueprints=g, handlers=handlers).client.execute("g", {"items": [1, 2]}, timeout=TIMEOUT)
    assert result["z"] == {"m": [2, 4], "n": [-1, -2]}


def test_a_batch_that_is_skipped_is_skipped_with_its_gather(environment: Make) -> None:
    nodes = {"r": "route", **scattered("echo"), "other": "name", "z": joined("name")}
    g = graph(nodes, "r sc batch", "r other not", "sc ga", "ga z", "other z")
    env = environment(blueprints=g, handlers={**BASE, "route": lambda ctx: NodeResult(None, "not")})
    handle = env.client.start("g", {"items": [1]})
    assert handle.result(timeout=TIMEOUT)["z"] == "z"
    snapshot = handle.describe()
    assert {snapshot.nodes[node].status for node in ("sc", "ga")} == {"skipped"}


def test_cancelling_in_the_middle_of_a_batch(environment: Make) -> None:
    """Items that wait for a further attempt, and those that have not been opened, are never run."""
    begun: list[int] = []

    def later(ctx: NodeContext) -> None:
        begun.append(ctx.item)
        raise ValueError("later")

    g = graph(
        {"m": mapped("later", params={"chunkSize": 2}, config={"maxRetries": 2, "retryDelay": "1h"}), "z": "echo"},
        "m z",
    )
    env = environment(blueprints=g, handlers={**BASE, "later": later})
    handle = env.client.start("g", {"items": list(range(10))})
    _until(env, lambda: len(begun) == 2)
    handle.cancel("enough")
    assert handle.wait(timeout=TIMEOUT).status is RunStatus.CANCELLED
    env.clock.advance(timedelta(hours=2))
    env.run_until_idle()
    assert sorted(begun) == [0, 1]


def test_a_scatter_s_fallback_stands_in_for_the_scatter_and_not_for_its_items(environment: Make) -> None:
    """The scatter is done before its items are: an item that fails fails the run, as in the original."""
    nodes = {**scattered("odd", fallback="fb"), "fb": "name", "z": "echo"}
    env = environment(blueprints=graph(nodes, "sc ga", "ga z"), handlers={**BASE, "odd": odd})
    with pytest.raises(RunFailedError, match=r"sc\[1\]"):
        env.client.execute("g", {"items": [1, 2]}, timeout=TIMEOUT)
    assert env.client.execute("g", {"items": [1, 3]}, timeout=TIMEOUT)["z"] == [10, 30]


def test_a_scatter_that_cannot_scatter_is_caught(environment: Make) -> None:
    """It has no items: the gather has nothing to collect, and gives an empty list."""
    nodes = {**scattered("odd", fallback="fb"), "fb": "name", "z": "echo"}
    handle = environment(blueprints=graph(nodes, "sc ga", "ga z"), handlers={**BASE, "odd": odd}).client.start(
        "g", {"items": "abc"}
    )
    assert handle.result(timeout=TIMEOUT)["z"] == []
    assert handle.describe().nodes["sc"].caught_by_fallback


@pytest.mark.parametrize("kind", ["map", "scatter"])
def test_a_failed_batch_in_a_run_that_goes_on(environment: Make, kind: str) -> None:
    """What hangs on the batch is skipped, other branches finish, and the run ends."""
    nodes: dict[str, Any] = {**scattered("odd"), "other": "name", "last": "name", "z": "echo"}
    edges = ["sc ga", "ga z", "other last", "last z"]
    if kind == "map":
        nodes = {"m": mapped("odd", params={"chunkSize": 1}), "other": "name", "last": "name", "z": "echo"}
        edges = ["m z", "other last", "last z"]
    else:
        nodes["sc"]["params"]["chunkSize"] = 1
    g = graph(nodes, *edges, onFailure="continue")
    snapshot = (
        environment(blueprints=g, handlers={**BASE, "odd": odd})
        .client.start("g", {"items": [1, 2, 3, 4]})
        .wait(timeout=TIMEOUT)
    )
    assert snapshot.status is RunStatus.FAILED
    assert (snapshot.nodes["last"].status, snapshot.nodes["z"].status) == ("completed", "skipped")
    assert [failure.message for failure in snapshot.failures] == ["2 is even"]


def test_a_caught_batch_has_left_no_failure(environment: Make) -> None:
    """The item's failure is the map's, and that one was caught."""
    g = graph({"m": mapped("odd", config={"fallback": "fb"}), "fb": "name", "z": "echo"}, "m z")
    handle = environment(blueprints=g, handlers={**BASE, "odd": odd}).client.start("g", {"items": [1, 2, 3]})
    assert handle.result(timeout=TIMEOUT)["z"] == "fb"
    snapshot = handle.describe()
    assert (snapshot.status, snapshot.failures) == (RunStatus.COMPLETED, ())
    assert snapshot.nodes["m"].caught_by_fallback


def test_a_batch_while_a_wait_is_open(environment: Make) -> None:
    g = graph({"m": mapped("echo"), "w": "wait", "z": {"uses": "echo", "inputs": {"m": "m", "w": "w"}}}, "m z", "w z")
    env = environment(blueprints=g, handlers=BASE)
    handle = env.client.start("g", {"items": [1, 2]})
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    answer(env, handle.run_id, "w", b'"yes"')
    assert handle.result(timeout=TIMEOUT)["z"] == {"m": [1, 2], "w": "yes"}
