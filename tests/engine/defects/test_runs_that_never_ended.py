"""Defects by which runs of the original never end (design notes 3a). Here each of them ends, and right."""

from datetime import timedelta
from typing import Any

import pytest

from flowcraft_sdk import BlueprintNotFoundError, NodeContext, NodeResult, RunFailedError, RunStatus
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.background.retention import RetentionCleaner
from flowcraft_server.worker.settings import Retention
from tests.engine.defects.graphs import TIMEOUT, Make, answer, boom, echo, graph, joined, name, ran, says

ROUTER = graph({"r": "route", "x": "name", "y": "name"}, "r x x", "r y y")


def run(env: TestEnvironment, ctx: dict[str, Any] | None = None) -> Any:
    handle = env.client.start("g", ctx or {})
    handle.wait(timeout=TIMEOUT)
    return handle.describe(ctx=True)


def test_d01_a_router_into_two_terminals_of_which_one_is_taken(environment: Make) -> None:
    """Every terminal had to have run for the run to complete."""
    done = run(environment(blueprints=ROUTER, handlers={"route": says("x"), "name": name}))
    assert done.status is RunStatus.COMPLETED
    assert ran(done) == {"r", "x"}


def test_d02_an_all_join_behind_exclusive_branches(environment: Make) -> None:
    """The branch that was not taken counted as never completed."""
    g = graph({"r": "route", "x": "name", "y": "name", "z": "echo"}, "r x x", "r y y", "x z", "y z")
    done = run(environment(blueprints=g, handlers={"route": says("y"), "name": name, "echo": echo}))
    assert done.status is RunStatus.COMPLETED
    assert done.ctx["z"] == "y"


@pytest.mark.parametrize("action", ["nope", None])
def test_d03_a_dead_end(environment: Make, action: str | None) -> None:
    """An unknown action, or none, at a node whose edges all have one just ended the branch, and the run hung."""
    handle = environment(blueprints=ROUTER, handlers={"route": says(action), "name": name}).client.start("g")
    with pytest.raises(RunFailedError, match="its edges take 'x', 'y'"):
        handle.result(timeout=TIMEOUT)
    assert ran(handle.describe()) == {"r"}


def test_d03_a_condition_that_does_not_hold(environment: Make) -> None:
    """A condition that is false at a node that is no terminal hung the run."""
    g = graph({"a": "name", "z": "name"})
    g["edges"] = [{"source": "a", "target": "z", "condition": "result.output == 'b'"}]
    done = run(environment(blueprints=g, handlers={"name": name}))
    assert done.status is RunStatus.COMPLETED
    assert ran(done) == {"a"}


@pytest.mark.parametrize("action", ["x", "y"])
def test_d34_two_parallel_edges_between_two_nodes(environment: Make, action: str) -> None:
    """A join counted edges and not sources: it waited for two arrivals."""
    g = graph({"a": "route", "z": "name"}, "a z x", "a z y")
    done = run(environment(blueprints=g, handlers={"route": says(action), "name": name}))
    assert done.status is RunStatus.COMPLETED
    assert done.ctx["z"] == "z"


def test_d38_a_condition_on_a_node_s_id(environment: Make) -> None:
    """Only `_outputs.a` was stored, so that `a > 0` was never true."""
    g = graph({"a": "one", "z": "name"})
    g["edges"] = [{"source": "a", "target": "z", "condition": "a > 0"}]
    assert run(environment(blueprints=g, handlers={"one": lambda ctx: 1, "name": name})).ctx["z"] == "z"


def test_d11_a_loop_goes_round_more_than_once(environment: Make) -> None:
    """The second iteration was taken for a repetition of the first, by the output, the join's lock and the job's id."""
    g = graph({"body": joined("count"), "end": "name"}, "body body again", "body end enough")
    g["metadata"] = {"cycleEntryPoints": ["body"]}

    def count(ctx: NodeContext) -> NodeResult:
        ctx.context.set("rounds", ctx.context.get("rounds", 0) + 1)
        return NodeResult(ctx.iteration, "again" if ctx.context.get("rounds") < 5 else "enough")

    done = run(environment(blueprints=g, handlers={"count": count, "name": name}))
    assert done.status is RunStatus.COMPLETED
    assert (done.ctx["rounds"], done.ctx["end"]) == (5, "end")


def test_d12_attempts_are_made_and_are_the_same_in_every_run(environment: Make) -> None:
    """A failed attempt was acknowledged as done, and the first run changed the retries of all later ones."""
    calls: list[str] = []

    def flaky(ctx: NodeContext) -> str:
        calls.append(ctx.run_id)
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return "at last"

    env = environment(
        blueprints=graph({"a": {"uses": "flaky", "config": {"maxRetries": 3}}}), handlers={"flaky": flaky}
    )
    for _ in range(2):
        handle = env.client.start("g")
        assert handle.result(timeout=TIMEOUT)["a"] == "at last"
        assert calls.count(handle.run_id) == 3


def test_d15_a_run_keeps_the_version_it_started_with(environment: Make) -> None:
    """A worker with another version of the blueprint acknowledged the job with a warning: it was lost."""
    old = graph({"w": "wait", "z": {"uses": "say", "params": {"text": "old"}}}, "w z")
    new = graph({"w": "wait", "z": {"uses": "say", "params": {"text": "new"}}}, "w z")
    env = environment(blueprints=old, handlers={"say": lambda ctx: ctx.params["text"]})
    first = env.client.start("g")
    first.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    env.publish(new)
    second = env.client.start("g")
    second.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    for handle, text in ((first, "old"), (second, "new")):
        assert answer(env, handle.run_id, "w", b"null")[0] == b"ok"
        assert handle.result(timeout=TIMEOUT)["z"] == text


def test_d16_a_client_need_not_know_versions(environment: Make) -> None:
    """A client written like the guide, without a version, had its jobs dropped; an unknown one is refused here, at once."""
    env = environment(blueprints=graph({"a": "name"}), handlers={"name": name})
    assert env.client.start("g").result(timeout=TIMEOUT)["a"] == "a"
    with pytest.raises(BlueprintNotFoundError):
        env.client.start("g", version="0" * 24)


def test_d33_branches_may_end_hours_apart(environment: Make) -> None:
    """A join's counter lived an hour: a later branch found none."""
    g = graph(
        {"s": "name", "fast": "name", "slow": {"uses": "sleep", "params": {"duration": "5h"}}, "j": joined("name", "all")},
        "s fast", "s slow", "fast j", "slow j",
    )  # fmt: skip
    env = environment(blueprints=g, handlers={"name": name})
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    env.clock.advance(timedelta(hours=5, seconds=1))
    assert handle.result(timeout=TIMEOUT)["j"] == "j"


def test_d41_a_fallback_with_an_edge_of_its_own(environment: Make) -> None:
    """Only the failed node's edges were followed, and the run waited for the node behind the fallback's own edge."""
    g = graph(
        {"a": {"uses": "boom", "config": {"fallback": "fb"}}, "fb": "name", "z": "echo", "own": "name"}, "a z", "fb own"
    )
    done = run(environment(blueprints=g, handlers={"boom": boom, "name": name, "echo": echo}))
    assert done.status is RunStatus.COMPLETED
    assert (done.ctx["z"], done.ctx["own"]) == ("fb", "own")


def test_no_key_of_an_ended_run_is_kept_for_ever(environment: Make) -> None:
    """A hung run's state had no time to live; here retention removes whatever ended, with all its keys."""
    env = environment(blueprints=graph({"a": "boom"}), handlers={"boom": boom})
    handle = env.client.start("g")
    handle.wait(timeout=TIMEOUT)
    env.clock.advance(timedelta(days=40))
    cleaner = RetentionCleaner(env.link, env.partitions, Retention())
    while cleaner.remove_slice()[2]:
        pass
    assert list(env.link.redis.scan_iter(match="*" + handle.run_id + "*")) == []
