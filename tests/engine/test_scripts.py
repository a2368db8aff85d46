"""Each Lua script by itself, through its typed wrapper."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from flowcraft_sdk.protocol import memory_scripts, scripts
from flowcraft_sdk.protocol.script_call import ScriptCall, messages
from flowcraft_sdk.protocol.scripts import ClaimRequest, Keep
from flowcraft_sdk.protocol.streamed_text import StreamedText
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


class TestCountWork:
    def test_adds_what_was_counted_and_a_call_that_is_sent_again_once(self, bench: Bench) -> None:
        call = scripts.count_work(bench.keys, worker="w1", number=1, counts={"attempts completed x": 2})
        assert [bench.call(call), bench.call(call)] == [1, 0]
        assert (
            bench.call(scripts.count_work(bench.keys, worker="w1", number=2, counts={"attempts completed x": 3})) == 1
        )
        assert bench.env.link.redis.hgetall(bench.keys.work) == {b"attempts completed x": b"5"}
        bench.env.link.redis.delete(bench.keys.worker("w1"))

    def test_a_worker_that_was_removed_leaves_nothing_for_ever(self, bench: Bench) -> None:
        redis, record = bench.env.link.redis, bench.keys.worker("w1")
        redis.zadd(bench.keys.workers, {"w1": 1})
        bench.call(scripts.count_work(bench.keys, worker="w1", number=1, counts={"attempts completed x": 1}))
        assert redis.ttl(record) == -1, "it is listed"
        redis.zrem(bench.keys.workers, "w1")
        redis.delete(record)
        bench.call(scripts.count_work(bench.keys, worker="w1", number=2, counts={"attempts completed x": 1}))
        assert redis.ttl(record) > 0

    def test_what_is_beyond_the_bound_counts_without_its_handler(self, bench: Bench) -> None:
        bench.env.link.redis.hset(bench.keys.work, mapping={f"attempts failed {number}": 1 for number in range(20_000)})
        bench.call(
            scripts.count_work(
                bench.keys, worker="w1", number=1, counts={"attempts failed new": 2, "attempts failed 1": 1}
            )
        )
        assert bench.env.link.redis.hget(bench.keys.work, "attempts failed ") == b"2"
        assert bench.env.link.redis.hget(bench.keys.work, "attempts failed 1") == b"2"
        bench.env.link.redis.delete(bench.keys.worker("w1"))


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

    def test_brings_the_child_s_first_node_and_its_last_one_brings_the_parent_s(self, bench: Bench) -> None:
        hands_over = replace(ALONE, mode="n")
        bench.start("sub")
        parent = bench.claim()
        assert parent is not None
        call = scripts.start_child(
            bench.keys,
            hands_over,
            run_id="r",
            instance_id="s",
            fencing_token=parent.fencing_token,
            blueprint_id="chain",
            max_depth=16,
            context={"k": b"1"},
        )
        code, child, brought = bench.call(call)
        first = parse_claim(brought)
        assert (code, child, first.run_id, first.instance_id, bench.ready()) == (b"ok", b"r~1", "r~1", "a", [])
        assert (bench.status("r~1"), bench.status()) == ("running", "running")
        assert bench.call(call) == [b"already"]
        second = parse_claim(bench.complete(first, hands_over, decisions="t")[2])
        code, status, brought = bench.complete(second, hands_over)
        back = parse_claim(brought)
        assert (code, status, back.run_id, back.instance_id, bench.ready()) == (b"ok", b"completed", "r", "s", [])
        assert back.attached == ("child", "r~1", "completed")
        assert bench.complete(second, hands_over)[:2] == [b"already", b""]
        bench.complete(back)
        assert bench.status() == "completed"
        kinds = [text.decode().split("|")[0] for text in bench.env.link.redis.lrange(bench.keys.events("r"), 0, -1)]
        assert kinds == ["B", "s", "w", "u", "c", "E"]
        kinds = [text.decode().split("|")[0] for text in bench.env.link.redis.lrange(bench.keys.events("r~1"), 0, -1)]
        assert kinds == ["B", "s", "c", "s", "c", "E"]

    def test_starts_that_are_joined_have_nothing_to_do_with_each_other(self, bench: Bench) -> None:
        claims = []
        for run_id in ("r", "broken", "other"):
            bench.start("sub", run_id=run_id)
            claim = bench.claim()
            assert claim is not None
            claims.append(claim)
        bench.env.link.redis.hset(bench.keys.run("broken"), "live", "x")
        calls = [
            scripts.start_child(
                bench.keys,
                replace(ALONE, mode="n"),
                run_id=claim.run_id,
                instance_id=claim.instance_id,
                fencing_token=claim.fencing_token,
                blueprint_id="chain",
                max_depth=16,
                context={"k": b'"%s"' % claim.run_id.encode()},
            )
            for claim in claims
        ]
        assert len(messages(calls)) == 1
        first, refused, second = bench.env.link.send(calls)
        assert "BROKENRECORD" in str(refused)
        assert [first[:2], second[:2]] == [[b"ok", b"r~1"], [b"ok", b"other~1"]]
        assert [parse_claim(reply[2]).run_id for reply in (first, second)] == ["r~1", "other~1"]
        assert (bench.fields("r~1")["c:k"], bench.fields("other~1")["c:k"]) == ('"r"', '"other"')
        assert bench.env.link.send(calls)[::2] == [[b"already"], [b"already"]]
        bench.env.link.redis.hset(bench.keys.run("broken"), "live", "1")
        assert bench.call(calls[1])[:2] == [b"ok", b"broken~1"]
        for run_id in ("r", "broken", "other"):
            bench.call(scripts.cancel(bench.keys, run_id=run_id, reason="", grace_ms=0))

    def test_a_failed_child_brings_the_parent_s_node_too(self, bench: Bench) -> None:
        hands_over = replace(ALONE, mode="n")
        bench.start("sub")
        parent = bench.claim()
        assert parent is not None
        where: dict[str, Any] = {"run_id": "r", "instance_id": "s", "fencing_token": parent.fencing_token}
        bench.call(scripts.start_child(bench.keys, **where, blueprint_id="chain", max_depth=16, context={}))
        first = bench.claim()
        assert first is not None
        reply = bench.call(
            scripts.fail(
                bench.keys,
                hands_over,
                run_id=first.run_id,
                instance_id=first.instance_id,
                fencing_token=first.fencing_token,
                verdict="final",
                failure=b'{"message":"boom"}',
            )
        )
        assert (reply[1], parse_claim(reply[2]).attached) == (b"failed", ("child", "r~1", "failed"))

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


class TestMessages:
    def test_messages_are_kept_in_order_and_taken_once(self, bench: Bench) -> None:
        def send(message_id: str, node: str = "a", most: int = 2) -> Any:
            return bench.call(
                scripts.send(
                    bench.keys,
                    run_id="r",
                    instance_id=node,
                    message_id=message_id,
                    payload=b"1" + message_id.encode(),
                    most=most,
                )
            )

        def receive(taken: int) -> Any:
            assert claim is not None
            token = claim.fencing_token
            return bench.call(
                scripts.receive(bench.keys, run_id="r", instance_id="a", fencing_token=token, taken=taken)
            )

        assert send("1") == [b"missing"]
        bench.start("chain")
        assert send("1") == [b"ok", b"a"]
        assert send("1") == [b"duplicate", b"a"]
        claim = bench.claim()
        assert claim is not None
        assert receive(0) == receive(0) == [b"ok", b"1", b"11"]
        assert send("2") == [b"ok", b"a"]
        assert send("3") == [b"full", b"a", b"running"]
        assert receive(1) == receive(1) == [b"ok", b"2", b"12"], "sent twice, it takes one"
        assert receive(2) == [b"ok"]
        assert send("3") == [b"ok", b"a"]
        assert send("4", "nowhere") == [b"unknown", b"nowhere", b"running"]
        bench.complete(claim)
        assert receive(2) == [b"already"]
        assert send("5") == [b"ended", b"completed"]
        fields = bench.env.link.redis.hkeys(bench.keys.run("r"))
        assert not [name for name in fields if name.startswith((b"m:", b"mq:", b"mn"))]


class TestRecordStep:
    def test_a_step_is_recorded_once_for_the_worker_that_holds_the_node(self, bench: Bench) -> None:
        bench.start()
        claim = bench.claim()
        assert claim is not None

        def record(place: str, state: str = "d", record: bytes = b"3|[]\n111", **options: Any) -> Any:
            token = options.pop("token", claim.fencing_token)
            return scripts.record_step(
                bench.keys,
                run_id="r",
                instance_id="a",
                fencing_token=token,
                place=place,
                state=state,
                record=record,
                event=b"a|{}",
                **options,
            )

        redis, key = bench.env.link.redis, bench.keys.steps("r", "a")
        calls = [record("1"), record("1"), record("2", token="9:9"), record("3", value=b"x" * 3000)]
        assert bench.env.link.send(calls) == [[b"ok"], [b"already"], [b"stale"], [b"ok"]], "in one call"
        assert redis.hgetall(key) == {b"1": b"3|[]\n111", b"3": b"3|[]\n111"}
        assert redis.hgetall(bench.keys.step_values("r", "a")) == {b"3": b"x" * 3000}
        assert bench.env.link.send([record("4", most=2), record("5", most_bytes=8)]) == [
            [b"full", b"9"],
            [b"full", b"9"],
        ]
        failed = record("6", "f", b"0|[1]", within=("1", "3"), within_bytes=6)
        assert bench.env.link.send([failed, failed]) == [[b"ok"], [b"already"]]
        assert redis.hgetall(key) == {b"!6": b"0|[1]"} and not redis.exists(bench.keys.step_values("r", "a"))
        assert redis.hget(bench.keys.run("r"), "sz:a") == b"1|0|0|0"
        assert bench.env.link.send([record("6")]) == [[b"ok"]]
        assert redis.hkeys(key) == [b"6"], "an answer takes the place of a failure"
        letters = [event[:1] for event in redis.lrange(bench.keys.events("r"), 0, -1)]
        assert letters.count(b"p") == 3 and letters.count(b"P") == 1
        bench.complete(claim)
        assert bench.env.link.send([record("7")]) == [[b"stale"]]
        assert not redis.exists(key)
        assert redis.hget(bench.keys.run("r"), "sz:a") == b"0|0|1|3"


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


def test_expand_without_output_has_the_handler_called_again_however_its_nodes_end(bench: Bench) -> None:
    bench.start()
    claim = bench.claim()
    assert claim is not None
    entry = '["all",["o:a"],[],[],"default",{"owner":"a","resumes":1}]'
    nodes = [("x", entry, b"{}"), ("y", entry, b"{}")]
    options: dict[str, Any] = {"run_id": "r", "instance_id": "a", "action": "", "output": b"", "limit": 2}
    assert bench.call(scripts.expand(bench.keys, fencing_token=claim.fencing_token, nodes=nodes, **options)) == [b"ok"]
    fails, completes = bench.claim(), bench.claim()
    assert fails is not None
    assert completes is not None
    assert bench.fail(fails, "final")[0] == b"ok"
    assert bench.claim() is None
    bench.complete(completes, action="approve")
    run = bench.env.link.redis.hgetall(bench.keys.run("r"))
    assert (run[b"a:y"], run[b"n:x"][:1], run[b"r:a"]) == (b"approve", b"F", b'["resume"]')
    assert b"o:a" not in run
    again = bench.claim()
    assert again is not None
    assert (again.instance_id, again.attempt, again.attached) == ("a", 1, None)
    bench.complete(again, decisions="d")


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


def test_keep_lines_keeps_each_line_of_the_holder_once_and_the_latest_bytes(bench: Bench) -> None:
    bench.start()
    claim = bench.claim()
    assert claim is not None
    key = bench.keys.logs("r")

    def keep(first: int, *texts: str, token: str | int = claim.fencing_token, most: int = 1000) -> int:
        lines = [(0, "info", text.encode()) for text in texts]
        call = scripts.keep_lines(
            bench.keys,
            run_id="r",
            instance_id="a",
            label="a",
            fencing_token=token,
            first=first,
            most_bytes=most,
            lines=lines,
        )
        return int(bench.call(call))

    assert keep(0, "1", "2") == 2
    assert keep(0, "1", "2") == 0  # sent twice
    assert keep(1, "2", "3") == 1  # its reply was lost, and a line came meanwhile
    assert keep(3, "4", token=claim.claims + 1) == 0
    kept = {name.decode(): value.decode() for name, value in bench.env.link.redis.hgetall(key).items()}
    assert [kept[str(number)].split("|")[1:] for number in (1, 2, 3)] == [["a", "1", "info", str(n)] for n in (1, 2, 3)]
    assert (kept["q"].split("|")[:2], kept["a:a"]) == (["1", "4"], "1|3|3")
    assert keep(3, "4" * 80, most=100) == 1
    kept = {name.decode(): value.decode() for name, value in bench.env.link.redis.hgetall(key).items()}
    assert set(kept) == {"4", "q", "a:a"}
    assert kept["q"] == f"4|5|{len(kept['4'])}"
    bench.complete(claim, decisions="d")
    assert keep(4, "5") == 0
    assert "5" not in kept


def test_add_text_takes_text_of_the_holder_once_and_goes_with_the_run(bench: Bench) -> None:
    bench.start()
    claim = bench.claim()
    assert claim is not None
    key = bench.keys.stream("r", "a")

    def add(first: int, *texts: str, token: str = claim.fencing_token, instance_id: str = "a") -> list[bytes]:
        text = StreamedText("r", instance_id, token, 1, first, [("p", text.encode()) for text in texts])
        return list(bench.call(scripts.add_text(bench.keys, ttl_ms=60_000, most_bytes=200, streams=[text])))

    def texts() -> list[tuple[bytes, bytes]]:
        return [(id_, fields[b"t"]) for id_, fields in bench.env.link.redis.xrange(key)]

    assert add(1, "a", "b") == add(1, "a", "b") == [b"ok"]
    assert add(2, "b", "c") == [b"ok"], "what is there already is left alone"
    assert texts() == [(b"1-1", b"a"), (b"1-2", b"b"), (b"1-3", b"c")]
    assert add(4, "x", token=f"2:{claim.run_created}") == add(4, "x", token="1:1") == [b"lost"]
    assert add(1, "x", instance_id="b") == [b"lost"], "it does not run"
    assert 0 < bench.env.link.redis.pttl(key) <= 60_000
    assert add(4, *"defghi") == [b"ok"]
    assert len(texts()) < 9, "more than `most_bytes`"
    assert texts()[-1] == (b"1-9", b"i")

    long = StreamedText("r", "a", claim.fencing_token, 1, 10, [("p" * 150, b"x")] * 3)
    assert bench.call(scripts.add_text(bench.keys, ttl_ms=60_000, most_bytes=200, streams=[long])) == [b"ok"]
    assert len(texts()) < 8, "names of parts count"

    bench.call(scripts.release(bench.keys, run_id="r", instance_id="a", fencing_token=claim.fencing_token))
    again = bench.claim()
    assert again is not None
    assert add(13, "x") == [b"lost"]
    assert add(1, "n", token=again.fencing_token) == [b"ok"]
    assert texts() == [(b"2-1", b"n")], "what an earlier execution has streamed goes"

    bench.env.link.redis.unlink(key, bench.keys.streams("r"))
    bench.env.link.redis.sadd(bench.keys.streams("r"), *range(1_000))
    assert add(2, "x", token=again.fencing_token) == [b"full"], "too many nodes of the run stream"
    bench.env.link.redis.srem(bench.keys.streams("r"), 0)
    assert add(3, "x", token=again.fencing_token) == [b"ok"]
    texts_of_10_000 = [("p", b"x" * 10_000)] * 4
    many = StreamedText("r", "a", again.fencing_token, 1, 4, texts_of_10_000)
    assert bench.call(scripts.add_text(bench.keys, ttl_ms=60_000, most_bytes=256 * 1024, streams=[many])) == [b"ok"]
    assert sum(len(text) for _, text in texts()) < 40_000, "a thousand streams share what one run keeps"
    bench.call(scripts.cancel(bench.keys, run_id="r", reason="", grace_ms=0))
    assert add(8, "x", token=again.fencing_token) == [b"lost"]
    assert bench.call(scripts.delete_run(bench.keys, run_id="r", limit=10))
    assert not bench.env.link.redis.exists(key, bench.keys.streams("r"))


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
    bench.env.link.redis.zadd(bench.keys.memories, {"m/gone": 1e15})
    memories = scripts.examine_entries(bench.keys, name="memories", first=0, count=2, fix=True)
    assert bench.call(memories) == [-1, b"m/gone", 1]


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


def test_pause_keeps_a_queue_from_being_claimed_until_it_is_resumed(bench: Bench) -> None:
    bench.start()
    since, ready = bench.call(scripts.pause(bench.keys, queue="default", paused=True))
    assert since > 0 and ready == 1
    bench.env.clock.advance(1)
    assert bench.call(scripts.pause(bench.keys, queue="default", paused=True)) == [since, 1]
    assert bench.call(scripts.pause(bench.keys, queue="other", paused=True))[1] == 0
    assert bench.claim() is None
    bench.env.link.redis.delete(bench.keys.wake("default"))
    bench.sweep()
    assert not bench.env.link.redis.exists(bench.keys.wake("default"))
    assert bench.call(scripts.pause(bench.keys, queue="default", paused=False)) == [0, 1]
    if bench.env.partitions.count == 1:  # else workers are notified
        assert bench.env.link.redis.llen(bench.keys.wake("default")) == 1
    assert bench.call(scripts.pause(bench.keys, queue="other", paused=False)) == [0, 0]
    assert not bench.env.link.redis.exists(bench.keys.claiming)
    assert bench.claim() is not None


class TestSchedules:
    """A schedule `s` of blueprint `chain`; its first revision is read from Redis."""

    def publish(self, bench: Bench, *entries: tuple[str, str, str, bool], deployment: str = "host:/a") -> Any:
        return bench.call(scripts.publish_schedules(bench.keys, deployment=deployment, schedules=entries))

    def state(self, bench: Bench, name: str = "s") -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in bench.env.link.read_hash(bench.keys.schedule(name)).items()}

    def due(self, bench: Bench, name: str = "s") -> float:
        score = bench.env.link.redis.zscore(bench.keys.schedules, name)
        assert score is not None
        return score

    def tick(self, bench: Bench, tick: int, **words: Any) -> Any:
        start = {
            "id": "s", "tick": tick, "revision": int(self.state(bench)["rev"]), "overlap": "skip", "following": f"[{tick + 5}]",
            "due": tick + 7, **words,
        }  # fmt: skip
        return bench.start(run_id=f"s~{tick}Z", token=f"schedule~{tick}", schedule_json=json.dumps(start))

    @pytest.fixture
    def begun(self, bench: Bench) -> int:
        """A published schedule; the value is a moment after its publication."""
        assert self.publish(bench, ("s", "{}", "every 5", False)) == []
        assert self.due(bench) == int(self.state(bench)["handled"])
        return int(self.state(bench)["handled"]) + 10

    def test_a_tick_has_one_run_however_often_it_is_asked_for(self, bench: Bench, begun: int) -> None:
        revision = int(self.state(bench)["rev"])
        assert self.tick(bench, begun)[0] == b"started"
        assert self.tick(bench, begun, revision=revision)[:2] == [b"tick", b"changed"]
        assert self.tick(bench, begun)[:2] == [b"tick", b"changed"], "also with the state of now"
        assert self.tick(bench, begun - 1)[:2] == [b"tick", b"changed"], "ticks before it are dealt with"
        state = self.state(bench)
        assert (state["run"], state["tick"], state["handled"], state["starts"]) == (
            f"s~{begun}Z",
            *(str(begun),) * 2,
            "1",
        )
        assert (state["next"], self.due(bench)) == (f"[{begun + 5}]", begun + 7)
        bench.call(scripts.cancel(bench.keys, run_id=f"s~{begun}Z", reason="", grace_ms=0))
        keep = [Keep("cancelled", 0, 0)]
        bench.call(
            scripts.expire(bench.keys, keep=keep, bytes=None, tombstone_age_ms=10**9, tombstone_count=9, limit=9)
        )
        assert bench.fields(f"s~{begun}Z") == {}
        assert self.tick(bench, begun)[:2] == [b"tick", b"changed"], "although the run is gone"

    def test_a_tick_while_a_run_continues(self, bench: Bench, begun: int) -> None:
        self.tick(bench, begun)
        first = f"s~{begun}Z".encode()
        assert self.tick(bench, begun + 5, missed=begun + 3) == [b"tick", b"skipped", first, b"queued"]
        assert (self.state(bench)["skips"], self.state(bench)["skip"]) == (
            "2",
            f"{begun + 5}|run s~{begun}Z was going on",
        )
        assert self.tick(bench, begun + 10, overlap="queue")[1] == b"queued"
        assert self.tick(bench, begun + 15, overlap="queue")[1] == b"skipped"
        assert self.state(bench)["queued"] == str(begun + 10)
        assert self.tick(bench, begun + 20, overlap="cancelPrevious")[1] == b"queued"
        assert self.state(bench)["queued"] == str(begun + 20), "the later one takes its place"
        assert self.tick(bench, begun + 20, queued=True)[1] == b"waiting"
        bench.call(scripts.cancel(bench.keys, run_id=f"s~{begun}Z", reason="", grace_ms=0))
        assert self.tick(bench, begun + 10, queued=True)[1] == b"changed"
        assert self.tick(bench, begun + 20, queued=True)[0] == b"started"
        assert "queued" not in self.state(bench)
        assert self.state(bench)["handled"] == str(begun + 20)

    def test_a_triggered_run_counts_once_and_holds_up_the_next_tick(self, bench: Bench, begun: int) -> None:
        for _ in range(2):
            reply = bench.start(run_id="s~0t1", token="schedule~t", schedule_json='{"id": "s"}')
            assert reply[0] == b"started"
        assert (self.state(bench)["trig"], self.state(bench)["starts"]) == ("s~0t1", "1")
        assert self.tick(bench, begun)[1] == b"skipped"

    def test_what_is_gone_or_paused_starts_nothing(self, bench: Bench, begun: int) -> None:
        assert bench.call(scripts.change_schedule(bench.keys, schedule_id="s", change="pause")) == 1
        assert self.tick(bench, begun)[1] == b"changed"
        assert self.due(bench) == float("inf")
        bench.env.clock.advance(60)
        for _ in range(2):
            assert bench.call(scripts.change_schedule(bench.keys, schedule_id="s", change="resume")) == 1
        handled = int(self.state(bench)["handled"])
        assert handled >= begun + 50_000
        assert self.due(bench) == handled
        reply = bench.start(run_id="x~1Z", token="schedule~x", schedule_json='{"id": "x", "tick": 1, "revision": 1}')
        assert reply == [b"tick", b"gone"]
        assert bench.call(scripts.change_schedule(bench.keys, schedule_id="s", change="delete")) == 1
        assert bench.call(scripts.change_schedule(bench.keys, schedule_id="s", change="pause")) == 0
        assert bench.env.link.redis.zcard(bench.keys.schedules) == 0

    def test_notes(self, bench: Bench, begun: int) -> None:
        def note(what: str, tick: int = 0, text: str = "", revision: int | None = None) -> Any:
            revision = int(self.state(bench)["rev"]) if revision is None else revision
            call = scripts.note_schedule(
                bench.keys, schedule_id="s", revision=revision, what=what, tick=tick, text=text, following_json="[1]", due_ms=9,
            )  # fmt: skip
            return bench.call(call)

        before = int(self.state(bench)["rev"])
        assert note("looked") == 1
        assert (self.state(bench)["next"], self.due(bench)) == ("[1]", 9)
        assert note("failed", begun, "why | how") == 2
        assert note("failed", begun, "why | how") == 1
        assert self.state(bench)["err"].endswith(f"|{begun}|why | how")
        assert note("missed", begun, str(begun + 9)) == 1
        assert self.state(bench)["handled"] == str(begun + 9)
        assert note("looked", revision=before) == 0
        assert self.tick(bench, begun + 10)[0] == b"started"
        assert "err" not in self.state(bench)

    def test_publishing(self, bench: Bench, begun: int) -> None:
        self.tick(bench, begun)
        bench.env.clock.advance(60)
        one, two = ("s", '{"a": 1}', "every 5", False), ("t", "{}", "every 5", True)
        assert self.publish(bench, one, two) == []
        assert (self.state(bench)["handled"], self.state(bench)["def"]) == (str(begun), '{"a": 1}')
        assert self.due(bench, "t") == float("inf")
        self.publish(bench, ("s", "{}", "every 6", False), two)
        assert int(self.state(bench)["handled"]) >= begun + 50_000, "other ticks count from now on"
        assert self.publish(bench, deployment="host:/b") == []
        assert sorted(self.publish(bench, deployment="other:/a")) == [b"s", b"t"]
        assert self.state(bench) == {}


class TestRerun:
    """The old run has done `a`; the new one takes that over and begins with `b`."""

    FIELDS: ClassVar = {"n:a": b"C|0|1|0|0|0", "o:a": b"5"}
    WORK = '[["v", "a", "t", "", ""]]'

    def again(self, bench: Bench, **options: Any) -> Any:
        plan = bench.env.link.redis.hget(bench.keys.blueprints, "chain").decode()
        options = {"token": "t", "digest": "d", "work_json": self.WORK, "fields": self.FIELDS, "plan": plan, **options}
        return bench.call(scripts.rerun(bench.keys, run_id="new", blueprint_id="chain", forked_from="old", **options))

    def test_begins_behind_what_was_taken_over(self, bench: Bench) -> None:
        assert self.again(bench, run_timeout_ms=5000, tags_json='["x"]')[0] == b"started"
        fields = bench.fields("new")
        assert (fields["fork"], fields["st"], fields["live"], fields["tags"]) == ("old", "queued", "1", '["x"]')
        assert bench.ready() == ["new|b"]
        assert bench.env.link.redis.zscore(bench.keys.timers, "d|new|") is not None
        claim = bench.claim()
        assert claim is not None and (claim.instance_id, claim.input_value) == ("b", b"5")
        bench.complete(claim)
        assert bench.status("new") == "completed"
        assert bench.env.client.admin.examine() == []

    def test_may_be_sent_twice_and_attaches_to_the_same(self, bench: Bench) -> None:
        assert self.again(bench) == self.again(bench)
        assert self.again(bench, token="u")[:2] == [b"attached", b"queued"]
        assert self.again(bench, token="u", digest="e") == [b"conflict", b"different_input"]
        assert self.again(bench, token="u", on_conflict="raise") == [b"conflict", b"exists"]
        assert self.again(bench, token="u", plan="nope")[0] == b"attached"
        assert bench.ready() == ["new|b"]

    def test_a_draft_is_seen_by_none_until_the_run_is_made_of_it(self, bench: Bench) -> None:
        draft = scripts.store_draft(bench.keys, token="t", fields=self.FIELDS)
        assert bench.call(draft) == bench.call(draft) == [b"ok", 2]
        batch = scripts.store_draft(bench.keys, token="t", owner="m", fields={"r:0": b"1"})
        assert bench.call(batch) == [b"ok", 1]
        redis = bench.env.link.redis
        assert 0 < redis.pttl(bench.keys.draft("t")) <= 3_600_000 and redis.pttl(bench.keys.draft("t|m")) > 0
        assert bench.ready() == [] and list(bench.env.client.list_runs()) == []
        stored = {"fields": {"c:k": b"1"}, "owners": ["m"]}
        assert self.again(bench, drafted=3, **stored) == [b"no-draft"]
        assert self.again(bench, drafted=2, **{**stored, "owners": ["m", "n"]}) == [b"no-draft"]
        assert bench.fields("new") == {}
        assert self.again(bench, drafted=2, **stored)[0] == b"started"
        assert redis.ttl(bench.keys.run("new")) == redis.ttl(bench.keys.batch("new", "m")) == -1
        assert (bench.fields("new")["o:a"], bench.fields("new")["c:k"]) == ("5", "1")
        assert redis.hgetall(bench.keys.batch("new", "m")) == {b"r:0": b"1"}
        redis.delete(bench.keys.batch("new", "m"))

    def test_another_plan_and_another_record(self, bench: Bench) -> None:
        assert self.again(bench, plan="nope") == [b"no-version"]
        bench.env.link.redis.set(bench.keys.run("new"), "x")
        assert self.again(bench) == [b"conflict", b"broken"]
        bench.env.link.redis.delete(bench.keys.run("new"))

    def test_a_child_that_takes_over(self, bench: Bench) -> None:
        bench.start("sub")
        claim = bench.claim()
        assert claim is not None
        bench.env.link.redis.hset(bench.keys.run("r"), "fk:s", "same|1|old~1")
        plan = bench.env.link.redis.hget(bench.keys.blueprints, "chain").decode()
        where = {"run_id": "r", "instance_id": "s", "fencing_token": claim.fencing_token, "blueprint_id": "chain"}
        order = {**where, "max_depth": 16, "context": {}}
        assert bench.call(scripts.start_child(bench.keys, **order)) == [b"rerun", b"same|1|old~1"]
        draft = scripts.ChildDraft("t", 1, (), self.WORK, "old~1", self.FIELDS)
        taken_over = scripts.start_child(bench.keys, **order, plan_hash=plan, draft=draft)
        assert bench.call(taken_over) == [b"no-draft"]
        draft = replace(draft, drafted=0)
        taken_over = scripts.start_child(bench.keys, **order, plan_hash=plan, draft=draft)
        assert bench.call(taken_over) == [b"ok", b"r~1"]
        assert bench.call(taken_over) == [b"already"]
        assert bench.ready() == ["r~1|b"] and bench.fields("r~1")["fork"] == "old~1"
        assert "fk:s" not in bench.fields()


def test_delete_run_removes_an_ended_run_in_slices(bench: Bench) -> None:
    delete = scripts.delete_run(bench.keys, run_id="r", limit=1)
    assert bench.call(delete) == [b"missing"]
    bench.start("sub")
    claim = bench.claim()
    assert claim is not None
    where = {"run_id": "r", "instance_id": "s", "fencing_token": claim.fencing_token, "blueprint_id": "chain"}
    bench.call(scripts.start_child(bench.keys, **where, max_depth=16, context={}))
    assert bench.call(delete) == [b"active", b"running"]
    bench.call(scripts.cancel(bench.keys, run_id="r", reason="", grace_ms=0))
    assert bench.call(scripts.delete_run(bench.keys, run_id="r~1", limit=1)) == [b"child", b"r"]
    assert bench.call(delete) == [b"more", 1]
    assert bench.call(delete) == [b"removed", 1]
    assert bench.call(delete) == [b"missing"]
    assert bench.env.link.redis.zcard(bench.keys.gone) == 2


def test_restore_plan_overwrites_nothing_and_names_a_missing_one(bench: Bench) -> None:
    redis, keys = bench.env.link.redis, bench.keys

    def restore(plan: str, blueprint: str = "", **fields: str) -> Any:
        return bench.call(scripts.restore_plan(keys, plan=plan, blueprint_id=blueprint, fields=fields))

    assert restore("PLAN") == [b"missing", 0]
    assert restore("PLAN", doc="{}") == [b"stored", 0]
    assert redis.zscore(keys.base + "retired", "PLAN") is not None
    assert restore("PLAN", doc="other") == [b"there", 0]
    assert redis.hget(keys.plan("PLAN"), "doc") == b"{}"
    assert restore("PLAN", "chain") == [b"there", 0]  # the blueprint has a plan
    assert restore("PLAN", "restored") == [b"there", 1]
    assert redis.hget(keys.blueprints, "restored") == b"PLAN"
    assert redis.zscore(keys.base + "retired", "PLAN") is None
    redis.delete(keys.plan("PLAN"))
    redis.hdel(keys.blueprints, "restored")


def test_restore_run_makes_a_run_of_drafts_once(bench: Bench) -> None:
    redis, keys = bench.env.link.redis, bench.keys
    plan = redis.hget(keys.blueprints, "chain").decode()
    record = {
        "st": "completed",
        "bp": "chain",
        "plan": plan,
        "cr": "1000",
        "en": "2000",
        "tags": '["t"]',
        "batches": "a",
    }

    def restore(token: str = "t1", **options: Any) -> Any:
        given = {"drafted": len(record), "events": 2, "logs": 1, "owners": ["a"], "dead": {"a": 1500}, **options}
        return bench.call(scripts.restore_run(keys, token=token, run_id="kept", **given))

    def draft(token: str, owner: str, fields: dict[str, str]) -> None:
        bench.call(scripts.store_draft(keys, token=token, owner=owner, fields=fields))

    def store(token: str, **changed: str) -> None:
        draft(token, "", {**record, **changed})
        draft(token, "|events", {"1": "B|0||", "2": "E|1000||completed"})
        draft(token, "|logs", {"q": "1|1|0"})
        draft(token, "a", {"i:0": "1"})

    assert restore() == [b"no-draft"]
    store("active", st="running")
    assert restore("active") == [b"active", b"running"]
    store("plan", plan="NONE")
    assert restore("plan") == [b"no-plan", b"NONE"]
    store("t1")
    assert restore(events=3) == [b"no-draft"]
    assert restore() == [b"restored"]
    assert restore() == [b"restored"]  # sent twice
    store("t2")
    assert restore("t2") == [b"there"]
    assert redis.lrange(keys.events("kept"), 0, -1) == [b"B|0||", b"E|1000||completed"]
    assert redis.ttl(keys.run("kept")) == redis.ttl(keys.logs("kept")) == redis.ttl(keys.batch("kept", "a")) == -1
    assert redis.zscore(keys.index_tag("t"), "kept") == redis.zscore(keys.index_status("completed"), "kept") == 1000
    assert redis.zscore(keys.dead, "kept|a") == 1500
    assert int(redis.hget(keys.plans, plan)) == 1
    assert int(redis.hget(keys.run("kept"), "by")) > 300
    redis.zrem(keys.dead, "kept|a")
    for token in ("active", "plan", "t2"):
        for name in ("", "||events", "||logs", "|a"):
            redis.delete(keys.draft(token) + name)


class TestMemories:
    """A turn lies beside its memory until it is known whether its node has completed."""

    @staticmethod
    def remember(bench: Bench, run: str, turn: bytes = b"[]", messages: int = 2, **bounds: int) -> Any:
        given = {"most_messages": 4, "most_bytes": 1000, "keep_ms": 60_000, **bounds}
        call = scripts.remember(
            bench.keys, memory_id="m/k", writer=str(writer_of(run)), messages=messages, turn=turn, **given
        )
        return bench.call(call)

    @staticmethod
    def settle(bench: Bench, **runs: bool) -> Any:
        decisions = [(str(writer_of(run)), kept) for run, kept in runs.items()]
        return bench.call(scripts.settle_memory(bench.keys, memory_id="m/k", decisions=decisions))

    @staticmethod
    def kept(bench: Bench) -> tuple[list[bytes], tuple[int, ...]]:
        fields = {
            name.decode(): value for name, value in bench.env.link.redis.hgetall(bench.keys.memory("m/k")).items()
        }
        numbers = tuple(int(fields.get(name, 0)) for name in ("messages", "bytes"))
        return [turn.text for turn in memory_scripts.turns_of(fields)], numbers

    def test_a_turn_joins_once_however_often_it_is_sent(self, bench: Bench) -> None:
        assert [self.remember(bench, "r", b"one"), self.remember(bench, "r", b"one")] == [1, 0]
        assert self.kept(bench) == ([], (0, 0)) and bench.env.link.redis.zcard(bench.keys.memories) == 0
        assert [self.settle(bench, r=True), self.settle(bench, r=True)] == [1, 0]
        assert self.remember(bench, "r", b"one") == 0  # sent again, late
        assert self.settle(bench, r=True) == 0
        assert self.kept(bench) == ([b"one"], (2, 3))
        assert bench.env.link.redis.zrange(bench.keys.memories, 0, -1) == [b"m/k"]
        assert 0 < bench.env.link.redis.pttl(bench.keys.memory("m/k")) <= 60_000

    def test_the_oldest_make_room_by_number_and_by_bytes(self, bench: Bench) -> None:
        for run, turn in (("a", b"1"), ("b", b"22"), ("c", b"333")):
            self.remember(bench, run, turn)
            self.settle(bench, **{run: True})
        assert self.kept(bench) == ([b"22", b"333"], (4, 5))
        self.remember(bench, "d", b"4444", most_bytes=7)
        self.settle(bench, d=True)
        assert self.kept(bench) == ([b"333", b"4444"], (4, 7))
        self.remember(bench, "e", b"5" * 9, messages=9, most_bytes=7)  # the latest one stays, whatever it is
        self.settle(bench, e=True)
        assert self.kept(bench) == ([b"5" * 9], (9, 9))

    def test_turns_beside_are_dropped_and_bounded(self, bench: Bench) -> None:
        self.remember(bench, "a")
        self.remember(bench, "b", b"of b")
        assert self.settle(bench, a=False) == 0
        assert self.settle(bench, a=True) == 0
        assert self.settle(bench, b=True) == 1
        assert self.kept(bench)[0] == [b"of b"]
        for number in range(101):
            self.remember(bench, f"run{number}", b"%d" % number)
        assert self.settle(bench, run0=True) == 0
        assert self.settle(bench, run1=True, run100=True, unknown=True) == 2
        assert self.kept(bench)[0] == [b"1", b"100"]
        assert bench.call(scripts.delete_memory(bench.keys, memory_id="m/k")) == 1
        self.remember(bench, "last")
        self.settle(bench, last=False)
        assert not bench.env.link.redis.exists(bench.keys.memory("m/k"))

    def test_a_memory_is_over_by_the_deployments_clock(self, bench: Bench) -> None:
        self.remember(bench, "a", b"1")
        self.settle(bench, a=True)
        bench.call(scripts.advance(bench.keys, ms=60_001, keep_leases=True))
        assert self.remember(bench, "b", b"2") == 1
        assert self.settle(bench, b=True) == 1
        assert self.kept(bench)[0] == [b"2"]
        assert bench.call(scripts.delete_memory(bench.keys, memory_id="m/k")) == 1
        assert bench.call(scripts.delete_memory(bench.keys, memory_id="m/k")) == 0
        assert not bench.env.link.redis.exists(bench.keys.memory("m/k"), bench.keys.memories)

    def test_a_memory_of_a_backup_is_restored_where_there_is_none(self, bench: Bench) -> None:
        def restore(turn: bytes, expires_ms: int = 10**15) -> Any:
            numbers = {
                "first": "3",
                "next": "4",
                "messages": "2",
                "bytes": "1",
                "at": "1000",
                "expires": str(expires_ms),
            }
            fields = {**numbers, "t:3": b"2\n1000\n[]\n" + turn}
            call = scripts.restore_memory(bench.keys, memory_id="m/k", expires_ms=expires_ms, fields=fields)
            return bench.call(call)

        assert restore(b"x", 1) == 0
        assert [restore(b"x"), restore(b"y")] == [1, 0]
        assert self.kept(bench) == ([b"x"], (2, 1))

    @pytest.mark.parametrize(
        ("created", "mark", "state", "decision"),
        [
            ("9", "2:9#1", None, True), ("9", None, "L|1|2|0|5|w1", None), ("9", None, "L|1|3|0|5|w1", False),
            ("8", None, "L|1|2|0|5|w1", False), ("9", "1:9#1", "C|1|2", False), (None, None, None, False), ("9", "2:9#0", "F|1|2|0|5", False),
        ],
    )  # fmt: skip
    def test_a_runs_record_says_whether_its_node_has_completed(
        self, created: str | None, mark: str | None, state: str | None, decision: bool | None
    ) -> None:
        writer = memory_scripts.Writer("r", "a", "2:9#1")
        assert writer.decision(created, mark, state) is decision
        assert memory_scripts.Writer.read(str(writer)) == writer
        assert [memory_scripts.Writer.read(text) for text in ("", "[1,2,3]", '["a"]', "[" * 100_000)] == [None] * 4


def writer_of(run: str) -> memory_scripts.Writer:
    return memory_scripts.Writer(run, "a", "1:5#")
