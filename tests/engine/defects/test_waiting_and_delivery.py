"""Defects of waiting, delivery and reconciliation in the original (design notes 3b)."""

import threading
from datetime import timedelta
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, NodeResult, RunStatus
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.engine.claims import Claim, parse_claim
from flowcraft_server.testing import TestEnvironment
from tests.engine.defects.graphs import TIMEOUT, Make, answer, echo, graph, name, ran, says

SEAT = ClaimRequest("w1", 10_000, "default", "-")
HUMAN = graph({"w": "wait", "approve": "name", "reject": "name"}, "w approve approve", "w reject reject")


def test_d06_a_wait_waits(environment: Make) -> None:
    """The successor was queued at once and crashed on an output that was not there."""
    env = environment(blueprints=graph({"w": "wait", "z": "echo"}, "w z"), handlers={"echo": echo})
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    assert ran(handle.describe()) == {"w"}
    assert answer(env, handle.run_id, "w", b'{"by":"bob"}') == [b"ok", b"w"]
    assert handle.result(timeout=TIMEOUT)["z"] == {"by": "bob"}


def test_d26_a_wait_inside_a_subflow(environment: Make) -> None:
    """The parent went on at once, as above."""
    inner = {**graph({"w": "wait", "q": "echo"}, "w q"), "id": "inner"}
    outer = graph({"s": {"uses": "subflow", "params": {"blueprintId": "inner"}}, "z": "echo"}, "s z")
    env = environment(blueprints=[inner, outer], handlers={"echo": echo})
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    (child,) = handle.describe().children
    assert answer(env, child, "w", b'"yes"') == [b"ok", b"w"]
    assert handle.result(timeout=TIMEOUT)["z"] == "yes"


def test_d35_what_stands_behind_the_wait_in_a_subflow_runs(environment: Make) -> None:
    """The parent completed with the answer as its output, and the inner nodes behind the wait never ran."""
    inner = {**graph({"w": "wait", "q": "name"}, "w q"), "id": "inner"}
    env = environment(
        blueprints=[inner, graph({"s": {"uses": "subflow", "params": {"blueprintId": "inner"}}})],
        handlers={"name": name},
    )
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    (child,) = handle.describe().children
    answer(env, child, "w", b"null")
    assert handle.result(timeout=TIMEOUT)["s"] == "q"


def test_d07_an_hour_of_sleep_takes_an_hour(environment: Make) -> None:
    """It took 43 ms."""
    g = graph({"a": "name", "s": {"uses": "sleep", "params": {"duration": "1h"}}, "z": "echo"}, "a s", "s z")
    env = environment(blueprints=g, handlers={"name": name, "echo": echo})
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    env.clock.advance(timedelta(minutes=59))
    env.run_until_idle()
    assert handle.status() is RunStatus.WAITING
    env.clock.advance(timedelta(minutes=2))
    assert handle.result(timeout=TIMEOUT)["z"] == "a"


def test_d08_a_webhook_node_waits_for_its_answer(environment: Make) -> None:
    """Registering it threw in every adapter, and the run failed."""
    env = environment(blueprints=graph({"w": "webhook", "z": "echo"}, "w z"), handlers={"echo": echo})
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    answer(env, handle.run_id, "w", b'{"paid":true}')
    assert handle.result(timeout=TIMEOUT)["z"] == {"paid": True}


@pytest.mark.parametrize("action", ["approve", "reject"])
@pytest.mark.parametrize("payload", [b"null", b'{"note":"fine"}'], ids=["D29b without an output", "D29 with one"])
def test_d29_an_answer_with_an_action_takes_that_branch_only(environment: Make, action: str, payload: bytes) -> None:
    """Both branches ran; without an output the call threw."""
    env = environment(blueprints=HUMAN, handlers={"name": name})
    handle = env.client.start("g")
    handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
    answer(env, handle.run_id, "w", payload, action)
    assert handle.wait(timeout=TIMEOUT).status is RunStatus.COMPLETED
    assert ran(handle.describe()) == {"w", action}


class Deliveries:
    """A worker by hand, so that a test can hand in what it likes as often as it likes."""

    def __init__(self, env: TestEnvironment) -> None:
        self.env = env
        self.run_id = env.client.start("g", run_id="r").run_id

    def claim(self) -> dict[str, Claim]:
        claims = [parse_claim(reply) for reply in self.env.link.call(scripts.claim(self.env.keys, SEAT, 10))]
        return {claim.instance_id: claim for claim in claims}

    def complete(self, claim: Claim, decisions: str, action: str = "", claim_request: ClaimRequest = SEAT) -> bytes:
        call = scripts.complete(
            self.env.keys, claim_request, run_id="r", instance_id=claim.instance_id, fencing_token=claim.fencing_token, plan=claim.plan_hash, state="C",
            action=action, decisions=decisions, output=b"1",
        )  # fmt: skip
        code: bytes = self.env.link.call(call)[0]
        return code

    def lose(self) -> None:
        """Every lease runs out, and the nodes are delivered again."""
        self.env.clock.advance(11.0, keep_leases=False)
        self.env.link.call(scripts.sweep(self.env.keys, limit=100, max_crashes=9, grace_ms=0, queues="default"))


def test_d20_a_join_counts_predecessors_not_deliveries(environment: Make) -> None:
    """A predecessor that was delivered twice made a join of three run without the third."""
    g = graph({"a": "x", "b": "x", "c": "x", "j": "x"}, "a j", "b j", "c j")
    work = Deliveries(environment(blueprints=g, workers=0))
    first = work.claim()
    assert work.complete(first["a"], "t") == b"ok"
    assert work.complete(first["a"], "t") == b"already"
    assert work.complete(first["b"], "t") == b"ok"
    assert work.claim() == {}
    assert work.complete(first["c"], "t") == b"ok"
    assert set(work.claim()) == {"j"}


def test_d21_a_redelivered_router_keeps_to_its_branch(environment: Make) -> None:
    """The action was lost with the first delivery: the redelivered router took the default edges."""
    g = graph({"r": "x", "yes": "x", "no": "x"}, "r yes yes", "r no")
    work = Deliveries(environment(blueprints=g, workers=0))
    (router,) = work.claim().values()
    assert work.complete(router, "td", "yes") == b"ok"
    work.lose()
    assert work.complete(router, "dt") in (b"already", b"stale")
    assert set(work.claim()) == {"yes"}


def test_d21_a_router_that_was_killed_is_run_again_and_decides_once(environment: Make) -> None:
    """The same with a worker that dies: its late finisher is refused, whatever it says."""
    g = graph({"r": "x", "yes": "x", "no": "x"}, "r yes yes", "r no")
    work = Deliveries(environment(blueprints=g, workers=0))
    (dead,) = work.claim().values()
    work.lose()
    (alive,) = work.claim().values()
    assert work.complete(alive, "td", "yes") == b"ok"
    assert work.complete(dead, "dt") == b"stale"
    assert set(work.claim()) == {"yes"}


@pytest.mark.parametrize(("action", "not_taken"), [("interview", "reject"), ("reject", "interview")], ids=["R1", "R2"])
def test_r1_r2_nothing_starts_branches_that_were_not_taken(environment: Make, action: str, not_taken: str) -> None:
    """The reconciler started every node whose predecessors had completed, whatever their edges had decided."""
    g = graph({"r": "route", "interview": "slow", "reject": "slow", "z": "echo"}, "r interview interview", "r reject reject",
              "interview z", "reject z")  # fmt: skip
    begun, release = threading.Event(), threading.Event()

    def slow(ctx: NodeContext) -> str:
        begun.set()
        release.wait(TIMEOUT)
        return ctx.node_id

    env = environment(blueprints=g, handlers={"route": says(action), "slow": slow, "echo": echo})
    handle = env.client.start("g")
    assert begun.wait(TIMEOUT)
    for _ in range(5):
        env.link.call(scripts.sweep(env.keys, limit=100, max_crashes=9, grace_ms=0, queues="default"))
    release.set()
    assert handle.result(timeout=TIMEOUT)["z"] == action
    assert not_taken not in ran(handle.describe())


def test_r3_an_ended_run_stays_as_it_ended(environment: Make) -> None:
    """The reconciler went over finished runs for a day: an approved post's author was banned."""
    calls: list[str] = []

    def act(ctx: NodeContext) -> NodeResult:
        calls.append(ctx.node_id)
        return NodeResult(None, "approve")

    g = graph({"r": "act", "approve": "act", "ban": "act"}, "r approve approve", "r ban ban")
    env = environment(blueprints=g, handlers={"act": act})
    handle = env.client.start("g")
    before: Any = handle.wait(timeout=TIMEOUT)
    env.clock.advance(timedelta(days=2), keep_leases=False)
    for _ in range(3):
        env.link.call(scripts.sweep(env.keys, limit=100, max_crashes=9, grace_ms=0, queues="default"))
        env.link.redis.lpush(
            env.keys.wake("default"), b'["x","flowcraft.work",["%s","ban",0]]' % handle.run_id.encode()
        )
    env.run_until_idle()
    assert calls == ["r", "approve"]
    assert handle.wait(timeout=TIMEOUT).ended_at == before.ended_at
    assert handle.status() is RunStatus.COMPLETED
