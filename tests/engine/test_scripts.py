"""Each Lua script by itself, through its typed wrapper."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.scripts import ClaimRequest, Keep
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.engine.claims import Claim, parse_claim
from flowcraft_server.testing import TestEnvironment

SEAT = ClaimRequest("w1", 10_000, "default,default!")
ALONE = ClaimRequest("w1", 10_000, "default", "-")


def chain(*names: str, **extra: Any) -> dict[str, Any]:
    return {
        "id": "chain",
        "nodes": [{"id": name, "uses": "x"} for name in names],
        "edges": [{"source": a, "target": b} for a, b in itertools.pairwise(names)],
        **extra,
    }


class Bench:
    """An environment without workers: the test is the worker."""

    def __init__(self, env: TestEnvironment) -> None:
        self.env = env
        self.keys = env.keys

    def call(self, call: ScriptCall) -> Any:
        return self.env.link.call(call)

    def start(self, blueprint: str = "chain", run_id: str = "r", **options: Any) -> Any:
        options = {"token": "t", "digest": "d", "context": {}, **options}
        return self.call(scripts.start(self.keys, run_id=run_id, blueprint_id=blueprint, **options))

    def claim(self, claim_request: ClaimRequest = SEAT) -> Claim | None:
        reply = self.call(scripts.claim(self.keys, claim_request))
        return parse_claim(reply[0]) if reply else None

    def complete(self, claim: Claim, claim_request: ClaimRequest = ALONE, decisions: str = "", **options: Any) -> Any:
        options = {"plan": claim.plan_hash, "state": "C", "action": "", "output": b"1", **options}
        return self.call(
            scripts.complete(
                self.keys,
                claim_request,
                run_id=claim.run_id,
                instance_id=claim.instance_id,
                fencing_token=claim.fencing_token,
                decisions=decisions,
                **options,
            )
        )

    def fail(self, claim: Claim, verdict: str, delay_ms: int = 0) -> Any:
        return self.call(
            scripts.fail(
                self.keys,
                ALONE,
                run_id=claim.run_id,
                instance_id=claim.instance_id,
                fencing_token=claim.fencing_token,
                verdict=verdict,
                delay_ms=delay_ms,
                failure=b'{"message":"boom"}',
            )
        )

    def sweep(self, max_crashes: int = 3) -> Any:
        return self.call(scripts.sweep(self.keys, limit=100, max_crashes=max_crashes, grace_ms=1000, queues="default"))

    def fields(self, run_id: str = "r") -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in self.env.link.read_hash(self.keys.run(run_id)).items()}

    def status(self, run_id: str = "r") -> str:
        return self.fields(run_id)["st"]

    def ready(self) -> list[str]:
        return [m.decode() for m in self.env.link.redis.zrange(self.keys.ready("default"), 0, -1)]


@pytest.fixture
def bench(environment: Callable[..., TestEnvironment]) -> Bench:
    wait = {"id": "wait", "nodes": [{"id": "w", "uses": "wait"}], "edges": []}
    sub = {
        "id": "sub",
        "nodes": [{"id": "s", "uses": "subflow", "params": {"blueprintId": "chain"}}],
        "edges": [],
    }
    return Bench(environment(workers=0, partitions=1, blueprints=[chain("a", "b"), wait, sub]))


class TestStart:
    def test_records_the_run_and_queues_its_first_node(self, bench: Bench) -> None:
        assert bench.start(context={"k": b"1"})[0] == b"started"
        assert bench.fields()["c:k"] == "1"
        assert bench.status() == "queued"
        assert bench.ready() == ["r|a"]

    def test_a_context_of_thousands_of_keys(self, bench: Bench) -> None:
        bench.start(context={f"k{i}": b"%d" % i for i in range(3_000)})
        fields = bench.fields()
        assert fields["c:k2999"] == "2999"
        assert (fields["live"], fields["n:a"]) == ("1", "R|1|0|0|0|default")

    @pytest.mark.parametrize("node", ["a", "größe", 'a "b"', "a\\b", "b/c"])
    def test_whatever_a_node_is_called_the_wake_up_is_json(
        self, environment: Callable[..., TestEnvironment], node: str
    ) -> None:
        bench = Bench(environment(workers=0, partitions=1, blueprints=[chain(node)]))
        bench.start()
        message = bench.env.link.redis.rpop(bench.keys.wake("default"))
        assert json.loads(message) == [f"r/{node}", "flowcraft.work", ["r", node, 0]]

    def test_the_same_token_again_is_the_same_start(self, bench: Bench) -> None:
        assert bench.start() == bench.start()
        assert bench.ready() == ["r|a"]

    def test_attaches_to_the_same_input_and_refuses_another(self, bench: Bench) -> None:
        bench.start()
        assert bench.start(token="u")[:2] == [b"attached", b"queued"]
        assert bench.start(token="u", digest="other") == [b"conflict", b"different_input", b"chain"]
        assert bench.start("wait", token="u") == [b"conflict", b"different_blueprint", b"chain"]
        assert bench.start(token="u", on_conflict="raise") == [b"conflict", b"exists", b"chain"]

    def test_unknown_blueprint_version_and_parent(self, bench: Bench) -> None:
        assert bench.start("nope") == [b"no-blueprint"]
        assert bench.start(version="nope") == [b"no-version"]
        assert bench.start(parent="nope") == [b"no-parent"]
        assert bench.fields() == {}

    def test_a_wrong_blueprint_for_a_version_is_refused(self, bench: Bench) -> None:
        plan = bench.start()[1].decode()
        assert bench.start("wait", run_id="r2", version=plan) == [b"no-version"]

    def test_scheduled_runs_begin_when_the_time_has_come(self, bench: Bench) -> None:
        now = int(bench.env.clock.now().timestamp() * 1000)
        bench.start(start_at_ms=now + 60_000)
        assert bench.status() == "scheduled"
        bench.sweep()
        assert bench.ready() == []
        bench.env.clock.advance(61)
        bench.sweep()
        assert bench.status() == "queued"
        assert bench.ready() == ["r|a"]

    def test_a_blueprint_without_nodes_is_completed_at_once(self, bench: Bench) -> None:
        bench.env.publish(Blueprint("empty", (), ()))  # the loader would refuse it
        bench.start("empty")
        assert bench.status() == "completed"


class TestClaimAndComplete:
    def test_a_claim_brings_the_input_and_a_growing_fence(self, bench: Bench) -> None:
        bench.start()
        first = bench.claim()
        assert first is not None and (first.instance_id, first.claims, first.attempt) == ("a", 1, 1)
        assert bench.claim() is None
        bench.complete(first, decisions="t", output=b'{"x":1}')
        second = bench.claim()
        assert second is not None and second.input_value == b'{"x":1}'

    def test_complete_hands_over_the_successor(self, bench: Bench) -> None:
        bench.start()
        first = bench.claim()
        assert first is not None
        reply = bench.complete(first, ClaimRequest("w1", 10_000, "default", "n"), "t")
        assert parse_claim(reply[2]).instance_id == "b"
        assert bench.ready() == []

    def test_complete_takes_the_next_run_when_it_made_none_ready(self, bench: Bench) -> None:
        bench.start()
        first = bench.claim()
        assert first is not None
        bench.complete(first, decisions="t")
        second = bench.claim()
        bench.start(run_id="r2", token="t2")
        assert second is not None
        reply = bench.complete(second, SEAT)
        assert (reply[1], parse_claim(reply[2]).run_id) == (b"completed", "r2")

    def test_a_second_finisher_is_refused(self, bench: Bench) -> None:
        bench.start()
        claim = bench.claim()
        assert claim is not None
        assert bench.complete(claim, decisions="t")[0] == b"ok"
        before = bench.fields()
        assert bench.complete(claim, decisions="t", output=b'"other"')[0] == b"already"
        assert bench.fields() == before

    def test_writes_and_deletes_become_visible_with_the_completion(self, bench: Bench) -> None:
        bench.start(context={"old": b"1"})
        claim = bench.claim()
        assert claim is not None
        bench.complete(claim, decisions="d", writes=[("new", b"2")], deletes=["old"])
        fields = bench.fields()
        assert fields["c:new"] == "2" and "c:old" not in fields
        assert fields["n:b"].startswith("S")
        assert fields["st"] == "completed"


class TestFail:
    def test_a_retry_keeps_the_node_and_counts_the_attempt(self, bench: Bench) -> None:
        bench.start()
        claim = bench.claim()
        assert claim is not None
        bench.fail(claim, "retry", 5_000)
        assert bench.claim() is None
        bench.env.clock.advance(5.1)
        bench.sweep()
        again = bench.claim()
        assert again is not None and (again.attempt, again.claims) == (2, 2)
        bench.complete(again, decisions="d")

    def test_a_final_failure_fails_the_run(self, bench: Bench) -> None:
        bench.start()
        claim = bench.claim()
        assert claim is not None
        bench.fail(claim, "final")
        assert bench.status() == "failed"
        assert json.loads(bench.fields()["f:a"])["message"] == "boom"


class TestSweep:
    def test_takes_over_after_the_lease_and_fences_the_late_finisher(self, bench: Bench) -> None:
        bench.start()
        lost = bench.claim()
        assert lost is not None
        bench.env.clock.advance(9, keep_leases=False)
        assert bench.sweep()[2] == 0
        bench.env.clock.advance(2, keep_leases=False)
        assert bench.sweep()[2] == 1
        taken = bench.claim()
        assert taken is not None and (taken.instance_id, taken.crashes, taken.attempt) == ("a", 1, 1)
        assert bench.complete(lost, decisions="t")[0] == b"stale"
        assert bench.complete(taken, decisions="d")[0] == b"ok"
        assert bench.env.link.redis.hget(bench.keys.stats, "stale") == b"1"

    def test_a_node_that_kills_its_workers_goes_to_the_dead_letters(self, bench: Bench) -> None:
        bench.start()
        for _ in range(2):
            assert bench.claim() is not None
            bench.env.clock.advance(11, keep_leases=False)
            bench.sweep(max_crashes=2)
        assert bench.status() == "failed"
        assert bench.env.link.redis.zrange(bench.keys.dead, 0, -1) == [b"r|a"]
        assert "maxCrashes" in json.loads(bench.fields()["f:a"])["message"]

    def test_wakes_a_worker_for_a_ready_node_whose_message_was_lost(self, bench: Bench) -> None:
        bench.start()
        bench.env.link.redis.delete(bench.keys.wake("default"))
        bench.sweep()
        assert bench.env.link.redis.llen(bench.keys.wake("default")) == 1

    def test_a_deadline_ends_the_run(self, bench: Bench) -> None:
        bench.start(run_timeout_ms=5_000)
        bench.env.clock.advance(5.1)
        bench.sweep()
        assert bench.status() == "timed_out"


class TestRenew:
    def test_renews_what_is_held_and_reports_what_is_lost_or_stopping(self, bench: Bench) -> None:
        bench.start()
        claim = bench.claim()
        assert claim is not None
        held = [("r", "a", claim.fencing_token)]
        bench.env.clock.advance(9, keep_leases=False)
        assert bench.call(scripts.renew(bench.keys, worker="w1", lease_ms=10_000, held=held)) == []
        bench.env.clock.advance(9, keep_leases=False)
        assert bench.sweep()[2] == 0
        bench.call(scripts.cancel(bench.keys, run_id="r", reason="", grace_ms=60_000))
        assert bench.call(scripts.renew(bench.keys, worker="w1", lease_ms=10_000, held=held)) == [
            b"r",
            b"a",
            b"stopping",
        ]
        wrong = [("r", "a", claim.claims + 1)]
        assert bench.call(scripts.renew(bench.keys, worker="w1", lease_ms=10_000, held=wrong)) == [b"r", b"a", b"lost"]
        bench.fail(claim, "cancelled")
        assert bench.status() == "cancelled"


class TestCancel:
    def test_a_queued_run_is_cancelled_at_once(self, bench: Bench) -> None:
        bench.start()
        assert bench.call(scripts.cancel(bench.keys, run_id="r", reason="why", grace_ms=1000)) == [1, b"cancelled"]
        assert bench.ready() == []
        assert json.loads(bench.fields()["cx"])["reason"] == "why"

    def test_a_running_node_has_the_grace_and_is_then_fenced(self, bench: Bench) -> None:
        bench.start()
        claim = bench.claim()
        assert claim is not None
        assert bench.call(scripts.cancel(bench.keys, run_id="r", reason="", grace_ms=1000)) == [1, b"cancelling"]
        bench.env.clock.advance(1.1)
        bench.sweep()
        assert bench.status() == "cancelled"
        assert bench.complete(claim, decisions="t")[0] == b"stale"

    def test_no_run_and_an_ended_run(self, bench: Bench) -> None:
        assert bench.call(scripts.cancel(bench.keys, run_id="nope", reason="", grace_ms=0)) == [b"missing"]
        bench.start()
        bench.call(scripts.cancel(bench.keys, run_id="r", reason="first", grace_ms=0))
        assert bench.call(scripts.cancel(bench.keys, run_id="r", reason="second", grace_ms=0)) == [0, b"cancelled"]
        assert json.loads(bench.fields()["cx"])["reason"] == "first"

    def test_children_are_cancelled_with_their_parent(self, bench: Bench) -> None:
        bench.start("sub")
        parent = bench.claim()
        assert parent is not None
        reply = bench.call(
            scripts.start_child(
                bench.keys,
                run_id="r",
                instance_id="s",
                fencing_token=parent.fencing_token,
                blueprint_id="chain",
                max_depth=16,
                context={},
            )
        )
        assert reply == [b"ok", b"r~1"]
        bench.call(scripts.cancel(bench.keys, run_id="r", reason="", grace_ms=1000))
        assert (bench.status(), bench.status("r~1")) == ("cancelled", "cancelled")


class TestStartChild:
    def test_the_child_s_end_makes_the_parent_s_node_ready(self, bench: Bench) -> None:
        bench.start("sub")
        parent = bench.claim()
        assert parent is not None
        options: dict[str, Any] = {
            "run_id": "r",
            "instance_id": "s",
            "fencing_token": parent.fencing_token,
            "context": {"k": b"1"},
        }
        call = scripts.start_child(bench.keys, blueprint_id="chain", max_depth=16, **options)
        assert bench.call(call) == [b"ok", b"r~1"]
        assert bench.call(call) == [b"already"]
        for decisions in ("t", ""):
            claim = bench.claim()
            assert claim is not None and claim.run_id == "r~1"
            bench.complete(claim, decisions=decisions)
        back = bench.claim()
        assert back is not None and back.attached == ("child", "r~1", "completed")
        bench.complete(back)
        assert bench.status() == "completed"

    def test_the_child_has_the_plan_that_its_inputs_were_checked_against(self, bench: Bench) -> None:
        before = bench.env.link.redis.hget(bench.keys.blueprints, "chain").decode()
        after = bench.env.publish(chain("a", "c"))["chain"]
        bench.start("sub")
        parent = bench.claim()
        assert parent is not None
        options: dict[str, Any] = {
            "run_id": "r",
            "instance_id": "s",
            "fencing_token": parent.fencing_token,
            "max_depth": 16,
            "context": {},
        }
        for plan in (before, "gone"):
            call = scripts.start_child(bench.keys, blueprint_id="chain", plan_hash=plan, **options)
            assert bench.call(call) == [b"other-plan"]
        assert not bench.env.link.redis.exists(bench.keys.run("r~1"))
        call = scripts.start_child(bench.keys, blueprint_id="chain", plan_hash=after, **options)
        assert bench.call(call) == [b"ok", b"r~1"]
        assert bench.env.link.redis.hget(bench.keys.run("r~1"), "plan").decode() == after
        bench.call(scripts.cancel(bench.keys, run_id="r", reason="", grace_ms=0))

    @pytest.mark.parametrize(("own", "ends_after"), [(5_000, 5.1), (0, 60.1), (90_000, 60.1)])
    def test_ends_with_its_own_time_or_its_parent_s(self, bench: Bench, own: int, ends_after: float) -> None:
        bench.start("sub", run_timeout_ms=60_000)
        parent = bench.claim()
        assert parent is not None
        options: dict[str, Any] = {
            "run_id": "r",
            "instance_id": "s",
            "fencing_token": parent.fencing_token,
            "context": {},
        }
        bench.call(scripts.start_child(bench.keys, blueprint_id="chain", max_depth=16, timeout_ms=own, **options))
        bench.env.clock.advance(ends_after - 0.2)
        bench.sweep()
        assert bench.status("r~1") == "queued"
        bench.env.clock.advance(0.2)
        bench.sweep()
        assert bench.status("r~1") == "timed_out"

    def test_refuses_an_unknown_blueprint_and_too_deep_a_nesting(self, bench: Bench) -> None:
        bench.start("sub")
        parent = bench.claim()
        assert parent is not None
        options: dict[str, Any] = {
            "run_id": "r",
            "instance_id": "s",
            "fencing_token": parent.fencing_token,
            "context": {},
        }
        assert bench.call(scripts.start_child(bench.keys, blueprint_id="nope", max_depth=16, **options)) == [
            b"no-blueprint"
        ]
        assert bench.call(scripts.start_child(bench.keys, blueprint_id="chain", max_depth=0, **options)) == [
            b"too-deep"
        ]


class TestParkAndSignal:
    def test_a_signal_is_applied_once(self, bench: Bench) -> None:
        bench.start("wait")
        claim = bench.claim()
        assert claim is not None
        park = scripts.park(bench.keys, run_id="r", instance_id="w", fencing_token=claim.fencing_token, kind="signal")
        assert bench.call(park) == [b"ok"]
        assert bench.status() == "waiting"
        answer = scripts.signal(bench.keys, run_id="r", signal_id="s1", action="yes", payload=b'{"by":"bob"}')
        assert bench.call(answer) == [b"ok", b"w"]
        assert bench.call(answer) == [b"duplicate", b"w"]
        again = scripts.signal(bench.keys, run_id="r", signal_id="s2")
        assert bench.call(again) == [b"not-waiting", b"running"]
        back = bench.claim()
        assert back is not None and back.attached == ("signal", "yes")
        bench.complete(back)
        assert bench.call(again) == [b"ended", b"completed"]
        assert bench.call(scripts.signal(bench.keys, run_id="nope", signal_id="s")) == [b"missing"]

    def test_whom_a_signal_would_reach(self, bench: Bench) -> None:
        def find(path: str = "", early: bool = False) -> Any:
            return bench.call(scripts.find_wait(bench.keys, run_id="r", instance_id=path, signal_id="s", early=early))

        assert find() == [b"missing"]
        bench.start("wait")
        plan = bench.fields()["plan"].encode()
        claim = bench.claim()
        assert claim is not None
        assert find("w") == find() == [b"not-waiting", b"running"]
        assert find("w", early=True) == [b"found", b"w", b"r", b"w", plan, None]
        park = scripts.park(
            bench.keys,
            run_id="r",
            instance_id="w",
            fencing_token=claim.fencing_token,
            kind="signal",
            details=b'{"prompt":"?"}',
        )
        bench.call(park)
        assert find() == find("w") == [b"found", b"w", b"r", b"w", plan, b'{"prompt":"?"}']
        assert find("w/x") == [b"not-waiting", b"waiting", b"w"]
        bench.call(scripts.signal(bench.keys, run_id="r", signal_id="s"))
        assert find() == [b"duplicate", b"w"]
        back = bench.claim()
        assert back is not None
        bench.complete(back)

    def test_an_early_signal_is_applied_by_the_park(self, bench: Bench) -> None:
        bench.start("wait")
        claim = bench.claim()
        assert claim is not None
        early: dict[str, Any] = {"run_id": "r", "instance_id": "w", "payload": b"[]", "early": True}
        kept = scripts.signal(bench.keys, signal_id="s", action="go", **early)
        assert bench.call(kept) == [b"kept", b"w"]
        assert bench.call(kept) == [b"duplicate", b"w"]
        assert bench.call(scripts.signal(bench.keys, signal_id="t", **early)) == [b"full", b"w", b"running"]
        park = scripts.park(
            bench.keys, run_id="r", instance_id="w", fencing_token=claim.fencing_token, kind="signal", due_ms=1000
        )
        assert bench.call(park) == [b"ok"]
        assert bench.status() == "running"
        assert (bench.fields()["v:w"], bench.env.link.redis.zcard(bench.keys.timers)) == ("[]", 0)
        back = bench.claim()
        assert back is not None and back.attached == ("signal", "go")
        bench.complete(back)

    def test_a_timer_makes_the_node_ready(self, bench: Bench) -> None:
        bench.start("wait")
        claim = bench.claim()
        assert claim is not None
        bench.call(
            scripts.park(
                bench.keys, run_id="r", instance_id="w", fencing_token=claim.fencing_token, kind="timer", due_ms=1000
            )
        )
        bench.env.clock.advance(1.1)
        bench.sweep()
        back = bench.claim()
        assert back is not None and back.attached == ("timer",)
        bench.complete(back)


def test_release_hands_a_node_back_unrun(bench: Bench) -> None:
    bench.start()
    claim = bench.claim()
    assert claim is not None
    assert bench.call(scripts.release(bench.keys, run_id="r", instance_id="a", fencing_token=claim.fencing_token)) == [
        b"ok"
    ]
    again = bench.claim()
    assert again is not None and (again.attempt, again.crashes, again.claims) == (1, 0, 2)
    bench.complete(again, decisions="d")


def test_store_items_is_refused_to_a_late_worker(bench: Bench) -> None:
    bench.start()
    claim = bench.claim()
    assert claim is not None
    options: dict[str, Any] = {
        "run_id": "r",
        "instance_id": "a",
        "total": 2,
        "limit": 1,
        "first": 0,
        "items": [b"1", b"2"],
    }
    assert bench.call(scripts.store_items(bench.keys, fencing_token=claim.fencing_token, **options)) == [b"ok"]
    assert bench.env.link.redis.hgetall(bench.keys.batch("r", "a")) == {b"i:0": b"1", b"i:1": b"2"}
    assert bench.call(scripts.store_items(bench.keys, fencing_token=claim.claims + 1, **options)) == [b"stale"]
    bench.complete(claim, decisions="d")


def test_expand_parks_the_owner_until_its_nodes_are_done(bench: Bench) -> None:
    bench.start()
    claim = bench.claim()
    assert claim is not None
    entry = '["all",["o:a"],[],[],"default",{"owner":"a"}]'
    options: dict[str, Any] = {"run_id": "r", "instance_id": "a", "action": "go", "output": b"7", "limit": 2}
    one, two = ("x", entry, b"{}"), ("y", entry, b"{}")
    assert bench.call(scripts.expand(bench.keys, fencing_token=claim.claims + 1, nodes=[one], **options)) == [b"stale"]
    assert bench.call(
        scripts.expand(bench.keys, fencing_token=claim.fencing_token, nodes=[("b", entry, b"{}")], **options)
    ) == [
        b"clash",
        b"b",
    ]
    assert bench.call(
        scripts.expand(bench.keys, fencing_token=claim.fencing_token, nodes=[one, two, one], **options)
    ) == [
        b"too-many",
        3,
    ]
    assert bench.call(scripts.expand(bench.keys, fencing_token=claim.fencing_token, nodes=[one, two], **options)) == [
        b"ok"
    ]
    assert bench.call(scripts.expand(bench.keys, fencing_token=claim.fencing_token, nodes=[one, two], **options)) == [
        b"already"
    ]
    added = [bench.claim(), bench.claim()]
    assert [each.instance_id for each in added if each] == ["x", "y"]
    assert [each.input_value for each in added if each] == [b"7", b"7"]
    assert bench.claim() is None
    for each in added:
        assert each is not None
        bench.complete(each)
    owner = bench.claim()
    assert owner is not None
    assert (owner.instance_id, owner.attached) == ("a", ("dynamic", "go"))
    bench.complete(owner, decisions="d")


def test_an_item_of_an_earlier_round_of_a_loop_is_not_taken_for_one_of_this_round(bench: Bench) -> None:
    edges = [
        {"source": "a", "target": "m"},
        {"source": "m", "target": "b"},
        {"source": "b", "target": "a", "action": "again"},
    ]
    nodes = [{"id": "a", "uses": "x"}, {"id": "m", "uses": "map", "params": {"uses": "x"}}, {"id": "b", "uses": "x"}]
    bench.env.publish({"id": "rounds", "nodes": nodes, "edges": edges})
    bench.start("rounds")

    def begin_round() -> Claim:
        for decisions in ("t", ""):
            claim = bench.claim()
            assert claim is not None
            if decisions:
                bench.complete(claim, decisions=decisions)
        where: dict[str, Any] = {"run_id": "r", "instance_id": "m", "fencing_token": claim.fencing_token}
        bench.call(scripts.store_items(bench.keys, **where, total=1, limit=1, first=0, items=[b"7"]))
        assert bench.call(scripts.park(bench.keys, **where, kind="batch")) == [b"ok"]
        item = bench.claim()
        assert item is not None
        assert item.instance_id == "m[0]"
        return item

    first = begin_round()
    bench.complete(first)
    for decisions in ("t", "t"):
        claim = bench.claim()
        assert claim is not None
        bench.complete(claim, decisions=decisions, action="again" if claim.instance_id == "b" else "")
    second = begin_round()
    assert second.claims > first.claims
    assert bench.complete(first, output=b'"late"')[0] == b"stale"
    assert bench.complete(second, output=b'"in time"')[0] == b"ok"
    assert bench.env.link.redis.hget(bench.keys.batch("r", "m"), "r:0") == b'"in time"'


@pytest.mark.parametrize("how", ["park", "start_child", "expand", "fail", "release"])
def test_a_dynamic_node_that_nobody_waits_for_any_more_begins_nothing(bench: Bench, how: str) -> None:
    bench.env.publish(chain("a", "b", id="goes-on", onFailure="continue"))
    bench.start("goes-on")
    owner = bench.claim()
    assert owner is not None
    options: dict[str, Any] = {"run_id": "r", "action": "", "output": b"7", "limit": 9}
    entry = '["all",["o:a"],[],[],"default",{"owner":"a"}]'
    nodes = [("x", entry, b"{}"), ("y", entry, b"{}")]
    bench.call(scripts.expand(bench.keys, instance_id="a", fencing_token=owner.fencing_token, nodes=nodes, **options))
    fails, late = bench.claim(), bench.claim()
    assert fails is not None
    assert late is not None
    bench.fail(fails, "final")
    assert bench.fields()["n:a"][0] == "F"
    where: dict[str, Any] = {"run_id": "r", "instance_id": late.instance_id, "fencing_token": late.fencing_token}
    calls = {
        "park": lambda: scripts.park(bench.keys, **where, kind="signal"),
        "start_child": lambda: scripts.start_child(bench.keys, **where, blueprint_id="chain", max_depth=9, context={}),
        "expand": lambda: scripts.expand(bench.keys, **{**options, **where}, nodes=[("z", entry, b"{}")]),
        "release": lambda: scripts.release(bench.keys, **where),
    }
    if how == "fail":
        bench.fail(late, "retry", 1000)
    else:
        assert bench.call(calls[how]()) == [b"ok" if how == "release" else b"stopping"]
    assert bench.fields()["n:y"][0] == "X"
    assert bench.status() == "failed"


def test_emit_adds_events_of_the_holder_only(bench: Bench) -> None:
    bench.start()
    claim = bench.claim()
    assert claim is not None
    options: dict[str, Any] = {"run_id": "r", "instance_id": "a", "events": [("g", b'[0.5,"half"]')]}
    assert bench.call(scripts.emit(bench.keys, fencing_token=claim.fencing_token, **options)) == 1
    assert bench.call(scripts.emit(bench.keys, fencing_token=claim.claims + 1, **options)) == 0
    assert bench.fields()["p:a"] == '[0.5,"half"]'
    bench.complete(claim, decisions="d")


KEPT = Keep("cancelled", 60_000, None)


def expire(bench: Bench, *keep: Keep, limit: int = 10, bytes: int | None = None) -> list[int]:
    call = scripts.expire(
        bench.keys, keep=keep, bytes=bytes, tombstone_age_ms=86_400_000, tombstone_count=3, limit=limit
    )
    return list(bench.call(call))


def test_expire_removes_a_run_with_all_its_keys(bench: Bench) -> None:
    bench.start(tags_json='["blue"]')
    bench.call(scripts.cancel(bench.keys, run_id="r", reason="", grace_ms=0))
    bench.env.clock.advance(10)
    assert expire(bench, KEPT) == [0, 0, 0]
    assert expire(bench, replace(KEPT, age_ms=5_000)) == [1, 0, 0]
    left = {
        key.decode().removeprefix(bench.keys.base)
        for key in bench.env.link.redis.scan_iter(match=bench.keys.base + "*")
    }
    assert not [name for name in left if name.startswith(("run:", "events:", "batch:", "idx:", "ended:"))]
    assert bench.env.link.redis.hget(bench.keys.stats, "bytes") == b"0"


def test_retire_puts_a_replaced_plan_aside_that_no_run_uses(bench: Bench) -> None:
    def plans() -> set[str]:
        return {plan for plan in (first, second) if bench.env.link.redis.exists(bench.keys.plan(plan))}

    first = bench.env.publish(chain("a", "b"))["chain"]
    bench.start()
    second = bench.env.publish(chain("a", "b", "c"))["chain"]
    assert bench.call(scripts.retire(bench.keys, [first, "unknown"])) == 0, "a run uses it"
    bench.call(scripts.cancel(bench.keys, run_id="r", reason="", grace_ms=0))
    bench.env.clock.advance(10)
    assert expire(bench, replace(KEPT, age_ms=5_000)) == [1, 0, 0]
    assert plans() == {first, second}, "somebody may just have read that it is current"
    bench.env.publish(chain("a"))  # the second one is put aside with it
    bench.env.clock.advance(601)
    bench.start(run_id="late", version=second)
    expire(bench)
    assert plans() == {second}, "the other one is used again"


def test_drop_letters_leaves_the_run(bench: Bench) -> None:
    bench.start()
    bench.claim()
    bench.env.clock.advance(11, keep_leases=False)
    bench.sweep(max_crashes=1)
    assert bench.env.link.redis.zcard(bench.keys.dead) == 1
    assert bench.call(scripts.delete_dead_letters(bench.keys, run_id="r", instance_id="nope")) == 0
    assert bench.call(scripts.delete_dead_letters(bench.keys, run_id="r")) == 1
    assert bench.call(scripts.delete_dead_letters(bench.keys, run_id="r")) == 0
    assert bench.status() == "failed"


def test_examine_finds_and_repairs_a_ready_node_that_is_in_no_queue(bench: Bench) -> None:
    bench.start()
    assert bench.call(scripts.examine(bench.keys, run_id="r", fix=True)) == []
    assert bench.call(scripts.examine(bench.keys, run_id="nope", fix=True)) == [b"missing", b"", 0]
    bench.env.link.redis.delete(bench.keys.ready("default"))
    assert bench.call(scripts.examine(bench.keys, run_id="r", fix=False)) == [b"ready-not-queued", b"a", 0]
    assert bench.ready() == []
    assert bench.call(scripts.examine(bench.keys, run_id="r", fix=True)) == [b"ready-not-queued", b"a", 1]
    assert bench.ready() == ["r|a"]


def test_examine_broken_puts_back_what_can_be_read_again(bench: Bench) -> None:
    bench.start()
    bench.env.link.redis.hset(bench.keys.run("r"), "n:a", "what?")
    assert bench.claim() is None
    look, mend = (scripts.examine_broken(bench.keys, fix=fix) for fix in (False, True))
    place, entry, since, problem, fixed = bench.call(look)
    assert (place, entry, fixed) == (b"ready:default", b"r|a", 0) and int(since) > 0 and b"n:a is wrong" in problem
    assert bench.call(mend)[4] == 0, "it still cannot be read"
    bench.env.link.redis.hset(bench.keys.run("r"), "n:a", "R|1|0|0|0|default")
    assert bench.call(mend)[4] == 1 and bench.call(look) == []
    assert bench.ready() == ["r|a"]


def test_examine_entries_removes_what_stands_for_nothing(bench: Bench) -> None:
    bench.start()
    bench.env.link.redis.zadd(bench.keys.ready("default"), {"gone|x": 1, "gone|y": 2})
    options: dict[str, Any] = {"name": "ready:default", "count": 2}
    look = scripts.examine_entries(bench.keys, first=0, fix=False, **options)
    assert bench.call(look) == [2, b"gone|x", 0, b"gone|y", 0]
    mend = scripts.examine_entries(bench.keys, first=0, fix=True, **options)
    assert bench.call(mend) == [0, b"gone|x", 1, b"gone|y", 1]
    assert bench.call(mend) == [-1]
    assert bench.ready() == ["r|a"]


def test_examine_piece_looks_at_some_nodes(bench: Bench) -> None:
    bench.start()
    piece = {"run_id": "r", "count": 100}
    assert bench.call(scripts.examine_piece(bench.keys, cursor=0, fix=True, **piece)) == [b"0", [b"a"], [], []]
    bench.env.link.redis.delete(bench.keys.ready("default"))
    found = bench.call(scripts.examine_piece(bench.keys, cursor=0, fix=False, **piece))
    assert found == [b"0", [b"a"], [], [b"ready-not-queued", b"a", 0]]
    assert bench.call(scripts.examine_piece(bench.keys, cursor=0, fix=True, **piece))[3] == [
        b"ready-not-queued",
        b"a",
        1,
    ]
    assert bench.ready() == ["r|a"]
    counted = {"run_id": "r", "fix": False, "mode": "counted"}
    assert bench.call(scripts.examine(bench.keys, **counted, active=1, parked=0)) == []
    assert bench.call(scripts.examine(bench.keys, **counted, active=2, parked=0)) == [b"changed", b"", 0]
    bench.env.link.redis.hset(bench.keys.run("r"), mapping={f"c:{number}": "1" for number in range(2_001)})
    assert bench.call(scripts.examine(bench.keys, run_id="r", fix=False, mode="ask")) == [b"large", b"", 0]
    state = bench.env.link.redis.hget(bench.keys.run("r"), "n:a")
    bench.env.link.redis.hset(bench.keys.run("r"), "n:a", "?")
    whole = scripts.examine_piece(bench.keys, run_id="r", cursor=0, count=100_000, fix=True)
    assert bench.call(whole) == [b"whole", [], [], []]
    bench.env.link.redis.hset(bench.keys.run("r"), "n:a", state)
