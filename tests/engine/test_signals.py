"""Signals: from a client to a node that waits, on the real engine."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import (
    AsyncClient,
    Client,
    ConfigurationError,
    DynamicNode,
    Handle,
    InvalidInputError,
    NodeResult,
    NodeStatus,
    NotWaitingError,
    PayloadTooLargeError,
    RunNotFoundError,
    RunStateError,
    RunStatus,
    SerializationError,
)
from flowcraft_sdk._transport.connector import ClientSettings
from flowcraft_server.testing import TestEnvironment

Environments = Callable[..., TestEnvironment]

ASK = """
nodes:
  before: {uses: gate}
  ask:
    uses: wait
    needs: before
    params:
      prompt: Publish it?
      actions: [approved, refused]
      schema: {type: object, required: [by], properties: {by: {type: string}}}
      timeout: 1h
      onTimeout: refused
    next: {approved: publish, refused: drop}
  publish: {uses: echo}
  drop: {uses: echo}
"""
TWO = "nodes:\n  left: {uses: wait}\n  right: {uses: webhook}\n  done: {uses: echo, needs: [left, right]}\n"
INNER = "nodes:\n  wait: {uses: wait}\n  after: {uses: echo, inputs: wait, needs: wait}\n"
OUTER = "nodes:\n  sub: {call: inner, inputs: {}}\n  end: {uses: echo, inputs: sub, needs: sub}\n"
TOP = "nodes:\n  mid: {call: outer, inputs: {}}\n  end: {uses: echo, inputs: mid, needs: mid}\n"
ROUND = """
nodes:
  ask: {uses: wait}
  again: {uses: echo, inputs: ask, needs: ask}
edges:
  - {source: again, target: ask, condition: result.output < 3}
"""
HELD = """
nodes:
  ask: {uses: wait}
  hold: {uses: gate, needs: ask}
edges:
  - {source: hold, target: ask, condition: ask < 2}
"""
BLUEPRINTS = {"ask": ASK, "two": TWO, "inner": INNER, "outer": OUTER, "top": TOP, "round": ROUND, "held": HELD}


class Gate:
    """A handler that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()

    def __call__(self, ctx: Any) -> str:
        self.reached.set()
        self.open.wait(10)
        return "through"


@pytest.fixture
def gate() -> Gate:
    gate = Gate()
    gate.open.set()
    return gate


@pytest.fixture
def env(environment: Environments, gate: Gate) -> TestEnvironment:
    return environment(blueprints=BLUEPRINTS, handlers={"echo": lambda ctx: ctx.input, "gate": lambda ctx: gate(ctx)})


def waiting(env: TestEnvironment, blueprint: str) -> Handle[Any]:
    """A run that waits, and nothing else."""
    run = env.client.start(blueprint)
    assert run.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    return run


class TestAnswers:
    def test_payload_and_action_are_the_nodes_outcome(self, env: TestEnvironment) -> None:
        run = waiting(env, "ask")
        run.signal("ask", {"by": "Bob"}, action="approved")
        result = run.result(timeout=60)
        assert (result["ask"], result["publish"]) == ({"by": "Bob"}, {"by": "Bob"})
        assert "drop" not in result
        assert [event.data for event in run.events() if event.type == "signal_received"] == [{"action": "approved"}]

    def test_the_only_node_that_waits_needs_no_name(self, env: TestEnvironment) -> None:
        run = waiting(env, "ask")
        run.signal(payload={"by": "Bob"}, action="refused")
        assert run.result(timeout=60)["drop"] == {"by": "Bob"}

    def test_a_webhook_node_is_answered_in_the_same_way(self, env: TestEnvironment) -> None:
        run = waiting(env, "two")
        run.signal("right", 1)
        run.signal("left", 2)
        assert run.result(timeout=60)["right"] == 1

    def test_from_a_coroutine(self, env: TestEnvironment) -> None:
        async def answer(run_id: str) -> Any:
            async with AsyncClient(env.url, namespace=env.namespace) as client:
                handle = client.get_handle(run_id)
                with pytest.raises(InvalidInputError):
                    await handle.signal("ask", {}, action="approved")
                await handle.signal("ask", {"by": "Ann"}, action="approved", signal_id="one")
                await handle.signal("ask", {"by": "Ann"}, action="approved", signal_id="one")
                return await handle.result(timeout=60)

        assert asyncio.run(answer(waiting(env, "ask").run_id))["publish"] == {"by": "Ann"}

    def test_what_describe_says_of_a_wait(self, env: TestEnvironment) -> None:
        run = waiting(env, "ask")
        (point,) = run.describe().waiting
        assert (point.node_id, point.kind, point.run_id, point.prompt) == ("ask", "signal", run.run_id, "Publish it?")
        assert point.actions == ["approved", "refused"]
        assert point.payload_schema["required"] == ["by"]
        assert point.expires_at is not None
        assert 3590 < (point.expires_at - point.since).total_seconds() < 3610
        run.cancel()

    def test_a_time_out_that_was_not_needed_is_gone(self, env: TestEnvironment) -> None:
        run = waiting(env, "ask")
        run.signal("ask", {"by": "Bob"}, action="approved")
        assert run.result(timeout=60)["publish"] == {"by": "Bob"}
        assert env.link.redis.zcard(env.keys.timers) == 0

    def test_each_round_of_a_loop_has_its_own_answer(self, env: TestEnvironment) -> None:
        run = waiting(env, "round")
        for number in (1, 2, 3):
            run.wait_for(RunStatus.WAITING, timeout=60)
            run.signal("ask", number, signal_id=f"answer {number}")
            env.run_until_idle()
        assert run.result(timeout=60)["again"] == 3


class TestOnce:
    def test_the_same_signal_again_changes_nothing(self, env: TestEnvironment) -> None:
        run = waiting(env, "two")
        for _ in range(3):
            run.signal("left", 1, signal_id="a")
        run.signal("right", 2, signal_id="b")
        assert run.result(timeout=60)["left"] == 1
        run.signal("left", 1, signal_id="a")  # of an ended run, too: it was applied
        assert len([event for event in run.events() if event.type == "signal_received"]) == 2

    def test_a_second_answer_is_refused(self, env: TestEnvironment) -> None:
        run = waiting(env, "two")
        run.signal("left", 1)
        with pytest.raises(NotWaitingError) as caught:
            run.signal("left", 2)
        assert (caught.value.node_id, caught.value.waiting) == ("left", ("right",))
        run.signal("right")
        assert run.result(timeout=60)["left"] == 1

    def test_many_answers_at_once_are_one(self, env: TestEnvironment) -> None:
        run = waiting(env, "two")
        refused: list[NotWaitingError] = []

        def answer(number: int) -> None:
            try:
                env.client.get_handle(run.run_id).signal("left", number)
            except NotWaitingError as error:
                refused.append(error)

        threads = [threading.Thread(target=answer, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 7
        run.signal("right")
        assert run.wait(timeout=60).status is RunStatus.COMPLETED


class TestRefusals:
    def test_nobody_waits(self, env: TestEnvironment) -> None:
        run = waiting(env, "two")
        with pytest.raises(NotWaitingError, match="several nodes wait, say which: left, right") as caught:
            run.signal()
        assert (caught.value.node_id, caught.value.waiting, caught.value.status) == (None, ("left", "right"), "waiting")
        with pytest.raises(NotWaitingError, match="node 'done' does not wait for a signal; waiting: left, right"):
            run.signal("done")
        with pytest.raises(NotWaitingError, match="node 'lfet' does not wait"):
            run.signal("lfet")
        run.cancel()

    def test_runs_that_have_ended_and_runs_that_are_not_there(self, env: TestEnvironment) -> None:
        run = waiting(env, "two")
        run.cancel()
        with pytest.raises(RunStateError, match="has ended") as caught:
            run.signal("left")
        assert (caught.value.status, caught.value.code) == ("cancelled", "run_state")
        assert not isinstance(caught.value, NotWaitingError)
        with pytest.raises(RunNotFoundError):
            env.client.get_handle("nope").signal()

    @pytest.mark.parametrize(
        ("payload", "action", "message"),
        [
            ({"by": "Bob"}, "postponed", 'action: expected "approved" or "refused", got "postponed"'),
            ({"by": "Bob"}, None, 'action: expected "approved" or "refused", got none'),
            ({"by": 7}, "approved", "payload.by: expected string, got 7"),
            (None, "approved", "payload: expected object, got null"),
        ],
    )
    def test_an_answer_that_the_node_cannot_take(
        self, env: TestEnvironment, payload: Any, action: str | None, message: str
    ) -> None:
        run = waiting(env, "ask")
        for node in ("ask", None):
            with pytest.raises(InvalidInputError) as caught:
                run.signal(node, payload, action=action, signal_id="s")
            assert str(caught.value).endswith(f"cannot take this answer: {message}")
        assert run.status() is RunStatus.WAITING
        run.signal("ask", {"by": "Bob"}, action="approved", signal_id="s")
        assert run.result(timeout=60)["publish"] == {"by": "Bob"}

    def test_what_cannot_be_stored_or_is_none(self, env: TestEnvironment) -> None:
        run = waiting(env, "two")
        with pytest.raises(SerializationError, match=r"payload\.x"):
            run.signal("left", {"x": object()})
        small = Client(env.url, namespace=env.namespace, settings=ClientSettings(max_value=10))
        with small, pytest.raises(PayloadTooLargeError):
            small.get_handle(run.run_id).signal("left", "x" * 20)
        for options in ({"action": ""}, {"signal_id": ""}, {"signal_id": "x" * 201}, {"signal_id": "a\nb"}):
            with pytest.raises(ConfigurationError):
                run.signal("left", **options)
        run.cancel()


class TestEarly:
    def test_a_signal_that_comes_first_is_kept(self, env: TestEnvironment, gate: Gate) -> None:
        gate.open.clear()
        run = env.client.start("ask")
        assert gate.reached.wait(60)
        with pytest.raises(NotWaitingError, match="no node waits for a signal"):
            run.signal("ask", {"by": "Bob"}, action="approved")
        run.signal("ask", {"by": "Bob"}, action="approved", signal_id="s", buffer=True)
        run.signal("ask", {"by": "Bob"}, action="approved", signal_id="s", buffer=True)
        with pytest.raises(NotWaitingError, match="a signal is kept for node 'ask' already"):
            run.signal("ask", {"by": "Eve"}, action="refused", buffer=True)
        assert run.status() is RunStatus.RUNNING
        gate.open.set()
        assert run.result(timeout=60)["publish"] == {"by": "Bob"}
        fields = env.link.redis.hkeys(env.keys.run(run.run_id))
        assert not [name for name in fields if name.startswith((b"ep:", b"ea:"))]

    def test_it_is_looked_over_as_any_other(self, env: TestEnvironment, gate: Gate) -> None:
        gate.open.clear()
        run = env.client.start("ask")
        with pytest.raises(InvalidInputError, match='expected "'):
            run.signal("ask", {"by": "Bob"}, action="maybe", buffer=True)
        with pytest.raises(InvalidInputError, match="payload: expected object, got 7"):
            run.signal("ask", 7, action="approved", buffer=True)
        with pytest.raises(NotWaitingError, match="never waits for a signal, it uses 'echo'"):
            run.signal("publish", 7, buffer=True)
        with pytest.raises(NotWaitingError):
            run.signal("nobody", 7, buffer=True)
        with pytest.raises(ConfigurationError, match="needs node_id"):
            run.signal(buffer=True)
        run.cancel(grace=0)
        gate.open.set()

    def test_for_a_node_that_waits_it_is_an_answer(self, env: TestEnvironment) -> None:
        run = waiting(env, "two")
        run.signal("left", 1, buffer=True)
        run.signal("right", 2, buffer=True)
        with pytest.raises(RunStateError):
            assert run.wait(timeout=10).status is RunStatus.COMPLETED
            run.signal("left", 3, buffer=True)

    def test_a_node_that_is_done_waits_never_again(self, env: TestEnvironment) -> None:
        run = waiting(env, "two")
        run.signal("left", 1)
        env.run_until_idle()
        with pytest.raises(NotWaitingError):
            run.signal("left", 2, buffer=True)
        run.cancel()

    def test_a_node_that_is_done_may_wait_again_in_a_loop(self, env: TestEnvironment, gate: Gate) -> None:
        gate.open.clear()
        run = waiting(env, "held")
        run.signal("ask", 1)
        assert gate.reached.wait(60)
        assert run.describe().nodes["ask"].status is NodeStatus.COMPLETED
        run.signal("ask", 2, buffer=True)
        gate.open.set()
        assert run.result(timeout=60)["ask"] == 2

    def test_in_a_loop_it_is_for_the_next_round(self, env: TestEnvironment) -> None:
        run = waiting(env, "round")
        run.signal("ask", 1)
        run.wait_for(RunStatus.WAITING, timeout=60)
        env.run_until_idle()
        run.signal("ask", 2)
        run.signal("ask", 3, buffer=True)
        assert run.result(timeout=60)["again"] == 3


def test_a_dynamic_node_may_wait_too(environment: Environments) -> None:
    def plan(ctx: Any) -> NodeResult:
        wait = DynamicNode(id="ask", uses="wait", params={"actions": ["go"], "prompt": "?"})
        return NodeResult("planned", dynamic_nodes=[wait])

    env = environment(blueprints={"d": "nodes: {a: {uses: plan}}"}, handlers={"plan": plan})
    run = waiting(env, "d")
    assert [(point.node_id, point.prompt) for point in run.describe().waiting] == [("ask", "?")]
    with pytest.raises(InvalidInputError, match='expected "go"'):
        run.signal("ask", 1, action="stop")
    run.signal("ask", 1, action="go")
    assert run.result(timeout=60)["ask"] == 1


class TestSubflows:
    def test_the_parent_shows_and_reaches_what_waits_below(self, env: TestEnvironment) -> None:
        run = waiting(env, "top")
        points = run.describe().waiting
        assert [(point.node_id, point.kind) for point in points] == [
            ("mid", "subflow"), ("mid/sub", "subflow"), ("mid/sub/wait", "signal"),
        ]  # fmt: skip
        assert points[2].run_id == points[1].child_run_id
        run.signal(payload="yes")
        assert run.result(timeout=60)["end"] == "yes"

    @pytest.mark.parametrize("path", ["mid/sub/wait", None])
    def test_by_the_way_or_by_the_child_itself(self, env: TestEnvironment, path: str | None) -> None:
        run = waiting(env, "top")
        if path is None:
            child = run.describe().waiting[2].run_id
            env.client.get_handle(child).signal("wait", 5)
        else:
            run.signal(path, 5)
        assert run.result(timeout=60)["end"] == 5

    def test_once_whichever_way_it_is_named(self, env: TestEnvironment) -> None:
        run = waiting(env, "outer")
        child = run.describe().waiting[1].run_id
        with pytest.raises(ConfigurationError, match="a text, got 5"):
            run.signal("sub/wait", action=5)  # type: ignore[arg-type]
        env.client.get_handle(child).signal("wait", 5, signal_id="s")
        run.signal(payload=6, node_id="sub/wait", signal_id="s")
        assert run.result(timeout=60)["sub"] == 5

    def test_ways_that_lead_nowhere(self, env: TestEnvironment) -> None:
        run = waiting(env, "top")
        for path in ("mid/wait", "mid/sub", "mid/sub/wait/x", "sub/wait", "/", "mid/", "/wait"):
            with pytest.raises(NotWaitingError, match="waiting: mid/sub/wait"):
                run.signal(path)
        run.cancel()
        assert run.wait(timeout=60).nodes["mid"].status is NodeStatus.CANCELLED
