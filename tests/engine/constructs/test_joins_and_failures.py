"""Joins whose branches fail, are caught, are skipped, wait or come twice."""

from datetime import timedelta
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, NodeResult, RunFailedError, RunStatus
from tests.engine.defects.graphs import TIMEOUT, Make, answer, boom, echo, graph, joined, name, ran, says

BASE = {"echo": echo, "name": name, "boom": boom}
ON = {"onFailure": "continue"}


def statuses(snapshot: Any) -> dict[str, str]:
    """Each node's status."""
    return {node_id: node.status.value for node_id, node in snapshot.nodes.items()}


def caught(uses: str, fallback: str, **config: Any) -> dict[str, Any]:
    """A node with a fallback."""
    return {"uses": uses, "config": {"fallback": fallback, **config}}


class TestContinue:
    """`onFailure: continue`."""

    def test_an_all_join_with_a_failed_branch_is_skipped_after_the_others_are_done(self, environment: Make) -> None:
        g = graph(
            {"a": "boom", "b": "name", "c": "name", "j": "name", "after": "name"}, "a j", "b c", "c j", "j after", **ON
        )
        snapshot = environment(blueprints=g, handlers=BASE).client.start("g").wait(timeout=TIMEOUT)
        assert snapshot.status is RunStatus.FAILED
        assert statuses(snapshot) == {
            "a": "failed",
            "b": "completed",
            "c": "completed",
            "j": "skipped",
            "after": "skipped",
        }

    def test_an_any_join_fires_on_the_branch_that_did_not_fail(self, environment: Make) -> None:
        g = graph({"a": "boom", "b": "wait", "j": joined("echo"), "after": "echo"}, "a j", "b j", "j after", **ON)
        env = environment(blueprints=g, handlers=BASE)
        handle = env.client.start("g")
        handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
        answer(env, handle.run_id, "b", b'"b"')
        snapshot = handle.wait(timeout=TIMEOUT)
        assert snapshot.status is RunStatus.FAILED
        assert statuses(snapshot) == {"a": "failed", "b": "completed", "j": "completed", "after": "completed"}

    def test_an_any_join_all_of_whose_branches_fail_is_skipped(self, environment: Make) -> None:
        g = graph({"a": "boom", "b": "boom", "j": joined("name"), "other": "name"}, "a j", "b j", **ON)
        snapshot = environment(blueprints=g, handlers=BASE).client.start("g").wait(timeout=TIMEOUT)
        assert statuses(snapshot) == {"a": "failed", "b": "failed", "j": "skipped", "other": "completed"}
        assert sorted(failure.node_id for failure in snapshot.failures) == ["a", "b"]

    def test_a_failed_branch_and_one_that_was_not_taken(self, environment: Make) -> None:
        """Not taken is no failure: but with a failed one beside it, the join is not met."""
        g = graph({"r": "route", "x": "boom", "y": "name", "j": "name"}, "r x x", "r y y", "x j", "y j", **ON)
        snapshot = (
            environment(blueprints=g, handlers={**BASE, "route": says("x")}).client.start("g").wait(timeout=TIMEOUT)
        )
        assert statuses(snapshot) == {"r": "completed", "x": "failed", "y": "skipped", "j": "skipped"}

    def test_a_caught_failure_does_not_hold_up_the_join(self, environment: Make) -> None:
        nodes = {
            "a": caught("boom", "fb"),
            "fb": "name",
            "b": "name",
            "j": {"uses": "echo", "inputs": {"a": "a", "b": "b"}},
        }
        handle = environment(blueprints=graph(nodes, "a j", "b j", **ON), handlers=BASE).client.start("g")
        assert handle.result(timeout=TIMEOUT)["j"]["b"] == "b"
        assert handle.status() is RunStatus.COMPLETED

    def test_a_failure_inside_a_loop_ends_the_loop_and_not_the_other_branch(self, environment: Make) -> None:
        nodes = {
            "lc": {"uses": "loop-controller", "params": {"condition": "true"}, "config": {"joinStrategy": "any"}},
            "body": "boom", "end": "name", "w": "wait", "other": "name",
        }  # fmt: skip
        env = environment(
            blueprints=graph(nodes, "lc body continue", "body lc", "lc end break", "w other", **ON), handlers=BASE
        )
        handle = env.client.start("g")
        handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
        answer(env, handle.run_id, "w", b"1")
        snapshot = handle.wait(timeout=TIMEOUT)
        assert (snapshot.status, snapshot.nodes["other"].status) == (RunStatus.FAILED, "completed")
        assert snapshot.nodes["end"].status == "skipped"

    def test_every_failure_is_recorded_the_first_one_first(self, environment: Make) -> None:
        g = graph({"a": "boom", "w": "wait", "b": "late"}, "w b", **ON)

        def late(ctx: NodeContext) -> None:
            raise KeyError("second")

        env = environment(blueprints=g, handlers={**BASE, "late": late})
        handle = env.client.start("g")
        handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
        answer(env, handle.run_id, "w", b"1")
        snapshot = handle.wait(timeout=TIMEOUT)
        assert [failure.node_id for failure in snapshot.failures] == ["a", "b"]


class TestFallbacks:
    def test_a_fallback_into_the_same_join_as_the_node_it_stands_in_for(self, environment: Make) -> None:
        """Its own edge and the failed node's are two edges of the join: it fires once, when both are decided."""
        calls: list[Any] = []

        def join(ctx: NodeContext) -> None:
            calls.append(ctx.input)

        nodes = {"a": caught("boom", "fb"), "fb": "name", "j": "join"}
        env = environment(blueprints=graph(nodes, "a j", "fb j"), handlers={**BASE, "join": join})
        env.client.start("g").result(timeout=TIMEOUT)
        assert calls == ["fb"]

    def test_the_join_fires_as_well_when_the_fallback_is_not_needed(self, environment: Make) -> None:
        nodes = {"a": caught("name", "fb"), "fb": "name", "j": "echo"}
        handle = environment(blueprints=graph(nodes, "a j", "fb j"), handlers=BASE).client.start("g")
        assert handle.result(timeout=TIMEOUT)["j"] == "a"
        assert "fb" not in ran(handle.describe())

    def test_a_fallback_of_a_fallback(self, environment: Make) -> None:
        nodes = {"a": caught("boom", "b"), "b": caught("boom", "c"), "c": "name", "z": "echo"}
        handle = environment(blueprints=graph(nodes, "a z"), handlers=BASE).client.start("g")
        assert handle.result(timeout=TIMEOUT)["z"] == "c"
        assert handle.status() is RunStatus.COMPLETED

    def test_the_last_one_s_action_counts_for_the_whole_chain(self, environment: Make) -> None:
        nodes = {"a": caught("boom", "b"), "b": caught("boom", "c"), "c": "route", "x": "echo", "y": "echo"}
        env = environment(
            blueprints=graph(nodes, "a x left", "a y right"), handlers={**BASE, "route": says("right", 5)}
        )
        handle = env.client.start("g")
        assert handle.result(timeout=TIMEOUT)["y"] == 5
        assert ran(handle.describe()) == {"a", "b", "c", "y"}

    def test_a_fallback_that_was_caught_itself_is_there_for_a_later_failure(self, environment: Make) -> None:
        """It runs once: what its own fallback returned stands for the second node as well."""
        nodes = {
            "a": caught("boom", "b"),
            "b": caught("boom", "c"),
            "c": "name",
            "w": "wait",
            "d": caught("boom", "b"),
            "z": "echo",
        }
        env = environment(blueprints=graph(nodes, "w d", "d z"), handlers=BASE)
        handle = env.client.start("g")
        handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
        env.run_until_idle()
        answer(env, handle.run_id, "w", b"1")
        assert handle.result(timeout=TIMEOUT)["z"] == "c"
        assert handle.status() is RunStatus.COMPLETED

    def test_a_chain_of_fallbacks_that_all_fail(self, environment: Make) -> None:
        nodes = {"a": caught("boom", "b"), "b": caught("boom", "c"), "c": "boom", "z": "echo"}
        handle = environment(blueprints=graph(nodes, "a z"), handlers=BASE).client.start("g")
        with pytest.raises(RunFailedError, match="payment declined"):
            handle.result(timeout=TIMEOUT)
        assert statuses(handle.describe()) == {"a": "failed", "b": "failed", "c": "failed", "z": "pending"}

    def test_a_fallback_that_waits_for_an_answer(self, environment: Make) -> None:
        nodes = {"a": caught("boom", "ask"), "ask": "wait", "yes": "name", "no": "name"}
        env = environment(blueprints=graph(nodes, "a yes yes", "a no no"), handlers=BASE)
        handle = env.client.start("g")
        handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
        answer(env, handle.run_id, "ask", b"null", "yes")
        assert handle.wait(timeout=TIMEOUT).status is RunStatus.COMPLETED
        assert ran(handle.describe()) == {"a", "ask", "yes"}

    def test_a_fallback_that_sleeps_and_one_that_is_a_subflow(self, environment: Make) -> None:
        nodes = {
            "a": caught("boom", "nap"), "nap": {"uses": "sleep", "params": {"duration": "1h"}},
            "b": caught("boom", "sub"), "sub": {"uses": "subflow", "params": {"blueprintId": "inner"}},
            "z": {"uses": "echo", "inputs": {"a": "a", "b": "b"}},
        }  # fmt: skip
        env = environment(
            blueprints=[{**graph({"i": "name"}), "id": "inner"}, graph(nodes, "a z", "b z")], handlers=BASE
        )
        handle = env.client.start("g")
        env.run_until_idle()
        handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
        env.clock.advance(timedelta(minutes=61))
        assert handle.result(timeout=TIMEOUT)["sub"] == "i"
        assert statuses(handle.describe())["z"] == "completed"

    def test_a_fallback_runs_after_all_attempts(self, environment: Make) -> None:
        attempts: list[str] = []

        def fails(ctx: NodeContext) -> None:
            attempts.append(ctx.node_id)
            raise ValueError("no")

        nodes = {"a": caught("fails", "fb", maxRetries=3), "fb": "see"}

        def see(ctx: NodeContext) -> Any:
            attempts.append(ctx.node_id)
            return ctx.context.get("_catch_error")["attempts"]

        env = environment(blueprints=graph(nodes), handlers={"fails": fails, "see": see})
        assert env.client.execute("g", timeout=TIMEOUT)["fb"] == 3
        assert attempts == ["a", "a", "a", "fb"]


class TestJoins:
    def test_actions_of_one_router_into_one_join(self, environment: Make) -> None:
        """Two edges of one router lead to the same join, one directly."""
        nodes = {"r": "route", "x": "name", "j": "echo"}
        for action, value in (("x", "x"), ("j", 7)):
            env = environment(
                blueprints=graph(nodes, "r x x", "r j j", "x j"), handlers={**BASE, "route": says(action, 7)}
            )
            assert env.client.execute("g", timeout=TIMEOUT)["j"] == value

    def test_two_edges_with_one_action_both_fire(self, environment: Make) -> None:
        env = environment(
            blueprints=graph({"r": "route", "x": "name", "y": "name", "z": "name"}, "r x go", "r y go", "r z no"),
            handlers={**BASE, "route": says("go")},
        )
        handle = env.client.start("g")
        handle.result(timeout=TIMEOUT)
        assert ran(handle.describe()) == {"r", "x", "y"}

    def test_a_diamond_of_joins_when_its_head_is_skipped(self, environment: Make) -> None:
        """Death runs through joins and everything behind them; what hangs on another branch goes on."""
        nodes = {**dict.fromkeys(("a", "b", "c", "d", "e", "z"), "name"), "r": "route"}
        g = graph(nodes, "r a left", "r e right", "a b", "a c", "b d", "c d", "d z", "e z")
        snapshot = (
            environment(blueprints=g, handlers={**BASE, "route": says("right")}).client.start("g").wait(timeout=TIMEOUT)
        )
        assert {node for node, status in statuses(snapshot).items() if status == "skipped"} == {"a", "b", "c", "d"}
        assert snapshot.nodes["z"].status == "completed"

    def test_two_edges_with_transforms_and_actions_between_two_nodes(self, environment: Make) -> None:
        g = graph({"a": "route", "z": "echo"})
        g["edges"] = [
            {"source": "a", "target": "z", "action": "x", "transform": "input + 1"},
            {"source": "a", "target": "z", "action": "y", "transform": "input + 2"},
        ]
        env = environment(blueprints=g, handlers={**BASE, "route": lambda ctx: NodeResult(10, ctx.context.get("take"))})
        assert env.client.execute("g", {"take": "x"}, timeout=TIMEOUT)["z"] == 11
        assert env.client.execute("g", {"take": "y"}, timeout=TIMEOUT)["z"] == 12

    def test_a_wide_join(self, environment: Make) -> None:
        nodes = {"s": "name", **{f"b{i}": "name" for i in range(150)}, "j": "all"}
        edges = [edge for i in range(150) for edge in (f"s b{i}", f"b{i} j")]
        nodes["j"] = {"uses": "echo", "inputs": {f"b{i}": f"b{i}" for i in range(150)}}
        env = environment(blueprints=graph(nodes, *edges), handlers=BASE)
        assert env.client.execute("g", timeout=30)["j"] == {f"b{i}": f"b{i}" for i in range(150)}
