"""Retries, time-outs, fallbacks and what a failed node does to its run."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, NodeResult, NonRetryableError, RunFailedError, RunStatus
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

Make = Callable[..., TestEnvironment]


def echo(ctx: NodeContext) -> Any:
    return ctx.input


def boom(ctx: NodeContext) -> Any:
    raise ValueError("payment declined")


def graph(nodes: dict[str, Any], edges: list[str] = [], **extra: Any) -> dict[str, Any]:  # noqa: B006
    """A blueprint from `{id: uses}` or `{id: {...}}` and edges `a b` or `a b action`."""
    return {
        "id": "g",
        "nodes": [{"id": k, **({"uses": v} if isinstance(v, str) else v)} for k, v in nodes.items()],
        "edges": [dict(zip(("source", "target", "action"), edge.split(), strict=False)) for edge in edges],
        **extra,
    }


class TestRetries:
    def test_max_retries_is_the_total_number_of_attempts(self, environment: Make) -> None:
        calls: list[int] = []

        def flaky(ctx: NodeContext) -> str:
            calls.append(ctx.attempt)
            if ctx.attempt < 3:
                raise OSError("not yet")
            return "done"

        env = environment(
            handlers={"flaky": flaky}, blueprints=graph({"a": {"uses": "flaky", "config": {"maxRetries": 3}}})
        )
        assert env.client.execute("g", timeout=60)["a"] == "done"
        assert calls == [1, 2, 3]

    def test_the_delay_is_waited_in_redis_by_the_test_clock(self, environment: Make) -> None:
        """D13: retryDelay was ignored."""
        begun = threading.Event()

        def flaky(ctx: NodeContext) -> str:
            begun.set()
            if ctx.attempt == 1:
                raise OSError("not yet")
            return "done"

        config = {"maxRetries": 2, "retryDelay": "1h"}
        env = environment(handlers={"flaky": flaky}, blueprints=graph({"a": {"uses": "flaky", "config": config}}))
        run = env.client.start("g")
        assert begun.wait(60)
        env.run_until_idle()
        assert run.describe().nodes["a"].status == "retrying"
        env.clock.advance(3601)
        assert run.result(timeout=60)["a"] == "done"

    def test_an_error_that_is_not_retryable_is_final(self, environment: Make) -> None:
        calls: list[int] = []

        def never(ctx: NodeContext) -> None:
            calls.append(1)
            raise NonRetryableError("no such account", details={"account": 7})

        env = environment(
            handlers={"never": never}, blueprints=graph({"a": {"uses": "never", "config": {"maxRetries": 5}}})
        )
        with pytest.raises(RunFailedError) as caught:
            env.client.execute("g", timeout=10)
        assert calls == [1]
        assert caught.value.failure.details == {"account": 7}
        assert caught.value.failure.retryable is False

    def test_error_types_named_in_the_config_are_final(self, environment: Make) -> None:
        config = {"maxRetries": 3, "nonRetryable": ["ValueError"]}
        env = environment(handlers={"boom": boom}, blueprints=graph({"a": {"uses": "boom", "config": config}}))
        run = env.client.start("g")
        assert run.wait(timeout=60).nodes["a"].attempts == 1


class TestTimeouts:
    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_a_node_that_takes_too_long_fails(self, environment: Make, kind: str) -> None:
        """D14: timeout was ignored."""
        release = threading.Event()

        def blocks(ctx: NodeContext) -> None:
            release.wait(20)

        async def hangs(ctx: Any) -> None:
            import asyncio

            await asyncio.sleep(20)

        env = environment(
            handlers={"slow": blocks if kind == "sync" else hangs},
            blueprints=graph({"a": {"uses": "slow", "config": {"timeout": 60}}}),
        )
        try:
            with pytest.raises(RunFailedError, match="longer than its timeout") as caught:
                env.client.execute("g", timeout=10)
            assert caught.value.failure.type == "NodeTimeout"
        finally:
            release.set()

    def test_what_a_timed_out_function_returns_later_is_dropped(self, environment: Make) -> None:
        release, returned = threading.Event(), threading.Event()

        def slow(ctx: NodeContext) -> str:
            if ctx.attempt == 1:
                release.wait(20)
                returned.set()
                return "late"
            return "in time"

        config = {"timeout": 60, "maxRetries": 2}
        env = environment(handlers={"slow": slow}, blueprints=graph({"a": {"uses": "slow", "config": config}}))
        assert env.client.execute("g", timeout=10, run_id="r")["a"] == "in time"
        release.set()
        assert returned.wait(60)
        assert env.client.get_handle("r").result()["a"] == "in time"


class TestFailedRun:
    def test_the_failure_reaches_the_client_as_data(self, environment: Make) -> None:
        """D24: the message was nowhere to be found."""

        class Declined(Exception):
            def __init__(self, a: int, b: int, c: int) -> None:
                super().__init__(f"declined {a} {b} {c}")

        def pay(ctx: NodeContext) -> None:
            raise Declined(1, 2, 3)

        env = environment(handlers={"pay": pay}, blueprints=graph({"a": "pay"}))
        with pytest.raises(RunFailedError) as caught:
            env.client.execute("g", timeout=10)
        failure = caught.value.failure
        assert (failure.node_id, failure.message, failure.attempt) == ("a", "declined 1 2 3", 1)
        assert failure.type.endswith("Declined")
        assert "raise Declined(1, 2, 3)" in failure.traceback
        assert "raise Declined(1, 2, 3)" in str(caught.value.__cause__)

    def test_nothing_starts_after_the_first_failure(self, environment: Make) -> None:
        """D19: the rest went on after the client was notified."""
        ran: list[str] = []
        failed = threading.Event()

        def fails(ctx: NodeContext) -> None:
            failed.set()
            raise ValueError("no")

        def slow(ctx: NodeContext) -> None:
            failed.wait(5)
            while not ctx.cancelled:
                time.sleep(0.001)
            ctx.check_cancelled()

        def after(ctx: NodeContext) -> None:
            ran.append(ctx.node_id)

        env = environment(
            handlers={"fails": fails, "slow": slow, "after": after},
            blueprints=graph({"a": "fails", "b": "slow", "c": "after"}, ["b c"]),
        )
        snapshot = env.client.start("g").wait(timeout=60)
        assert snapshot.status is RunStatus.FAILED
        assert snapshot.nodes["b"].status == "cancelled"
        assert ran == []

    def test_continue_lets_other_branches_finish(self, environment: Make) -> None:
        env = environment(
            handlers={"boom": boom, "echo": echo},
            blueprints=graph(
                {"a": "boom", "b": "echo", "c": "echo", "join": "echo", "after": "echo"},
                ["a join", "b c", "c join", "join after"],
                onFailure="continue",
            ),
        )
        snapshot = env.client.start("g").wait(timeout=60)
        assert snapshot.status is RunStatus.FAILED
        states = {name: node.status.value for name, node in snapshot.nodes.items()}
        assert states == {"a": "failed", "b": "completed", "c": "completed", "join": "skipped", "after": "skipped"}

    def test_a_value_that_cannot_be_stored_fails_the_node_and_not_the_worker(self, environment: Make) -> None:
        def nan(ctx: NodeContext) -> Any:
            return {"items": [1.0, float("nan")]}

        env = environment(
            handlers={"nan": nan, "echo": echo}, blueprints=[graph({"a": "nan"}), graph({"a": "echo"}) | {"id": "ok"}]
        )
        with pytest.raises(RunFailedError, match=r"output of node 'a'\.items\[1\]"):
            env.client.execute("g", timeout=10)
        assert env.client.execute("ok", timeout=10) == {"a": None}

    def test_a_value_over_the_limit_names_node_size_and_setting(self, environment: Make) -> None:
        def big(ctx: NodeContext) -> str:
            return "x" * 2000

        env = environment(
            handlers={"big": big}, blueprints=graph({"a": "big"}), settings=WorkerSettings(max_value=1000)
        )
        with pytest.raises(RunFailedError, match=r"node 'a'.*2002 bytes.*1000.*limits\.maxValue"):
            env.client.execute("g", timeout=10)

    def test_a_missing_handler_is_named_after_the_patience(self, environment: Make) -> None:
        env = environment(
            handlers={"echo": echo},
            blueprints=graph({"a": "ecko"}),
            settings=WorkerSettings(missing_handler_timeout=0.0),
        )
        with pytest.raises(RunFailedError, match="no worker has a handler 'ecko'; known here: echo"):
            env.client.execute("g", timeout=10)


class TestFallback:
    def blueprint(self, **config: Any) -> dict[str, Any]:
        return graph(
            {
                "a": {"uses": "boom", "config": {"fallback": "fb", **config}},
                "fb": {"uses": "rescue"},
                "z": "echo",
                "own": "echo",
            },
            ["a z", "fb own"],
        )

    def test_its_output_stands_for_the_failed_node_s(self, environment: Make) -> None:
        """D41, S17: the fallback's own edges and the failed node's both fire."""
        seen: dict[str, Any] = {}

        def rescue(ctx: NodeContext) -> str:
            seen["error"] = ctx.context.get("_catch_error")
            seen["input"] = ctx.input
            return "saved"

        env = environment(
            handlers={"boom": boom, "rescue": rescue, "echo": echo}, blueprints=self.blueprint(maxRetries=2)
        )
        run = env.client.start("g")
        assert run.result(timeout=60) == {"a": None, "fb": "saved", "z": "saved", "own": "saved"}
        snapshot = run.describe()
        assert snapshot.nodes["a"].caught_by_fallback
        assert (seen["error"]["node"], seen["error"]["attempts"], seen["error"]["message"]) == (
            "a",
            2,
            "payment declined",
        )
        assert seen["error"]["type"] == "ValueError"

    def test_it_is_no_start_node(self, environment: Make) -> None:
        """D17, D18: the client queued fallbacks as start nodes."""
        ran: list[str] = []

        def rescue(ctx: NodeContext) -> None:
            ran.append("fb")

        env = environment(handlers={"boom": echo, "rescue": rescue, "echo": echo}, blueprints=self.blueprint())
        snapshot = env.client.start("g").wait(timeout=60)
        assert snapshot.status is RunStatus.COMPLETED
        assert ran == []
        assert snapshot.nodes["fb"].status == "skipped"
        assert snapshot.nodes["own"].status == "skipped"

    def test_its_action_chooses_the_failed_node_s_edges(self, environment: Make) -> None:
        def rescue(ctx: NodeContext) -> NodeResult:
            return NodeResult("r", "right")

        env = environment(
            handlers={"boom": boom, "rescue": rescue, "echo": echo},
            blueprints=graph(
                {"a": {"uses": "boom", "config": {"fallback": "fb"}}, "fb": "rescue", "l": "echo", "r": "echo"},
                ["a l left", "a r right"],
            ),
        )
        snapshot = env.client.start("g").wait(timeout=60)
        assert (snapshot.nodes["l"].status, snapshot.nodes["r"].status) == ("skipped", "completed")

    def test_one_fallback_for_two_nodes(self, environment: Make) -> None:
        env = environment(
            handlers={"boom": boom, "rescue": lambda ctx: "saved", "echo": echo},
            blueprints=graph(
                {
                    "a": {"uses": "boom", "config": {"fallback": "fb"}},
                    "b": {"uses": "boom", "config": {"fallback": "fb"}},
                    "fb": "rescue",
                    "j": {"uses": "echo", "inputs": {"a": "a", "b": "b"}},
                },
                ["a j", "b j"],
            ),
        )
        assert env.client.execute("g", timeout=60)["j"] == {"a": "saved", "b": "saved"}

    def test_an_unrelated_failure_still_fails_the_run(self, environment: Make) -> None:
        """S18: any fallback made the run 'completed'."""
        env = environment(
            handlers={"boom": boom, "rescue": lambda ctx: "saved", "echo": echo},
            blueprints=graph(
                {"a": {"uses": "boom", "config": {"fallback": "fb"}}, "fb": "rescue", "other": "boom"},
                onFailure="continue",
            ),
        )
        assert env.client.start("g").wait(timeout=60).status is RunStatus.FAILED

    def test_a_failing_fallback_fails_the_run(self, environment: Make) -> None:
        env = environment(
            handlers={"boom": boom},
            blueprints=graph({"a": {"uses": "boom", "config": {"fallback": "fb"}}, "fb": "boom"}),
        )
        snapshot = env.client.start("g").wait(timeout=60)
        assert snapshot.status is RunStatus.FAILED
        assert {f.node_id for f in snapshot.failures} == {"a", "fb"}


@pytest.mark.parametrize(
    ("handler", "kind"),
    [(lambda ctx: object(), "SerializationError"), (lambda ctx: NodeResult(1, action="nowhere"), "UnmatchedAction")],
)
def test_a_mistake_that_is_explained_has_no_traceback_of_the_servers_own(
    environment: Any, handler: Any, kind: str
) -> None:
    graph = "nodes:\n  a: {uses: h, next: {here: b}}\n  b: {uses: h}\n"
    env = environment(blueprints={"g": graph}, handlers={"h": handler}, check=False)
    (failure,) = env.client.start("g").wait(timeout=60).failures
    assert (failure.type, failure.traceback) == (kind, "")
