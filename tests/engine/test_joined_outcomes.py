"""Outcomes that are recorded in one call: none has anything to do with another."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.end_notice import parse_end_notice
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.engine.claims import Claim, parse_claim
from flowcraft_server.testing import TestEnvironment

SEAT = ClaimRequest("w1", 10_000, "default", "n")


def graph(name: str, edges: list[dict[str, str]], nodes: str) -> dict[str, Any]:
    return {"id": name, "nodes": [{"id": node, "uses": "x"} for node in nodes], "edges": edges}


CHAIN = graph("chain", [{"source": "a", "target": "b"}], "ab")
ROUTED = graph("routed", [{"source": "a", "target": "b", "action": "go"}, {"source": "a", "target": "c"}], "abc")
SPLIT = graph(
    "split",
    [{"source": s, "target": t} for s, t in ("ab", "ac", "bd", "cd")],
    "abcd",
)


class Worker:
    """The test is the worker: claims nodes, and hands in their outcomes in one call."""

    def __init__(self, env: TestEnvironment) -> None:
        self.env = env

    def start(self, blueprint: str, *runs: str) -> dict[str, Claim]:
        """The first node of each run, claimed, by run."""
        for run in runs:
            self.env.link.call(
                scripts.start(self.env.keys, token=run, run_id=run, blueprint_id=blueprint, digest="", context={})
            )
        return {claim.run_id: claim for claim in self.claims(len(runs))}

    def claims(self, count: int) -> list[Claim]:
        return [parse_claim(reply) for reply in self.env.link.call(scripts.claim(self.env.keys, SEAT, count))]

    def outcome(
        self, claim: Claim, decisions: str = "t", fencing_token: int | None = None, action: str = ""
    ) -> ScriptCall:
        return scripts.complete(
            self.env.keys, SEAT, run_id=claim.run_id, instance_id=claim.instance_id, fencing_token=fencing_token or claim.fencing_token, plan=claim.plan_hash,
            state="C", action=action, decisions=decisions, output=f'"{claim.run_id}"'.encode(),
        )  # fmt: skip

    def send(self, *calls: ScriptCall) -> list[Any]:
        return self.env.link.send(calls)

    def status(self, run: str) -> str:
        return self.env.link.redis.hget(self.env.keys.run(run), "st").decode()

    def leases(self) -> list[str]:
        return sorted(member.decode() for member in self.env.link.redis.zrange(self.env.keys.leases, 0, -1))


@pytest.fixture
def worker(environment: Callable[..., TestEnvironment]) -> Worker:
    return Worker(environment(workers=0, partitions=1, blueprints=[CHAIN, ROUTED, SPLIT]))


def test_each_outcome_has_its_own_reply_and_brings_its_own_successor(worker: Worker) -> None:
    held = worker.start("chain", "r1", "r2", "r3")
    replies = worker.send(*[worker.outcome(held[run]) for run in ("r3", "r1", "r2")])
    following = [parse_claim(reply[2]) for reply in replies]
    assert [(claim.run_id, claim.instance_id, claim.input_value) for claim in following] == [
        ("r3", "b", b'"r3"'), ("r1", "b", b'"r1"'), ("r2", "b", b'"r2"')
    ]  # fmt: skip
    assert worker.leases() == ["r1|b", "r2|b", "r3|b"]
    assert [reply[1] for reply in worker.send(*[worker.outcome(claim, "") for claim in following])] == [
        b"completed"
    ] * 3
    assert worker.leases() == []


def test_a_late_outcome_among_others_is_refused_alone(worker: Worker) -> None:
    held = worker.start("chain", "r1", "r2", "r3")
    late = worker.outcome(held["r2"], fencing_token=7)
    replies = worker.send(worker.outcome(held["r1"]), late, worker.outcome(held["r3"]))
    assert [reply[0] for reply in replies] == [b"ok", b"stale", b"ok"]
    assert worker.leases() == ["r1|b", "r2|a", "r3|b"]


@pytest.mark.parametrize("blueprint", ["chain", "routed"], ids=["the fast path", "the slow path"])
def test_an_outcome_that_fails_leaves_the_others_alone(worker: Worker, blueprint: str) -> None:
    """However broken a record is: what is handed in beside it is recorded, and each has its own answer."""
    held = worker.start(blueprint, "r1", "r2", "r3")
    store, broken = worker.env.link.redis, worker.env.keys.run("r2")
    store.rename(broken, broken + ":aside")
    store.set(broken, "no hash")
    decisions = "t" if blueprint == "chain" else "dt"
    replies = worker.send(*[worker.outcome(claim, decisions) for claim in held.values()])
    assert isinstance(replies[1], redis.exceptions.ResponseError) and "WRONGTYPE" in str(replies[1])
    assert [replies[0][0], replies[2][0]] == [b"ok", b"ok"]
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        worker.env.link.call(worker.outcome(held["r2"], decisions))
    store.rename(broken + ":aside", broken)
    assert worker.send(worker.outcome(held["r2"], decisions))[0][0] == b"ok", "nothing of it was written"


def test_both_ways_go_in_one_call(worker: Worker) -> None:
    straight, general = worker.start("chain", "r1", "r2"), worker.start("routed", "q1", "q2")
    outcomes = [
        worker.outcome(straight["r1"]), worker.outcome(general["q1"], "td", action="go"),
        worker.outcome(straight["r2"]), worker.outcome(general["q2"], "dt"),
    ]  # fmt: skip
    assert [parse_claim(reply[2]).instance_id for reply in worker.send(*outcomes)] == ["b", "b", "b", "c"]
    assert worker.leases() == ["q1|b", "q2|c", "r1|b", "r2|b"]


def test_branches_of_one_run_meet_in_one_call(worker: Worker) -> None:
    held = worker.start("split", "r")
    (first,) = worker.send(worker.outcome(held["r"], "tt"))
    branches = [parse_claim(first[2]), *worker.claims(5)]
    assert sorted(claim.instance_id for claim in branches) == ["b", "c"]
    replies = worker.send(*[worker.outcome(claim) for claim in branches])
    assert [reply[2] and parse_claim(reply[2]).instance_id for reply in replies] == [None, "d"]
    events = worker.env.link.redis.lrange(worker.env.keys.events("r"), 0, -1)
    noted = [(kind, instance_id) for kind, _, instance_id, *_ in (event.decode().split("|") for event in events)]
    assert noted == [("B", ""), ("s", "a"), ("c", "a"), ("s", "b"), ("s", "c"), ("c", "b"), ("c", "c"), ("s", "d")]


def test_a_follower_is_notified_of_a_call_once_and_a_waiter_of_the_end_alone(worker: Worker) -> None:
    held = worker.start("split", "r")
    listener, waiter = worker.env.link.redis.pubsub(), worker.env.link.redis.pubsub()
    listener.subscribe(worker.env.keys.channel("r"))
    waiter.subscribe(worker.env.keys.end_channel("r"))
    listener.get_message(timeout=5)
    waiter.get_message(timeout=5)
    (first,) = worker.send(worker.outcome(held["r"], "tt"))
    branches = [parse_claim(first[2]), *worker.claims(5)]
    join = parse_claim(worker.send(*[worker.outcome(claim) for claim in branches])[1][2])
    worker.send(worker.outcome(join, ""))
    message = [listener.get_message(timeout=5)["data"] for _ in range(4)]
    assert message == [b"", b"", b"", b"completed"], "the outcome, the claim, both branches together, the end"
    state, record = parse_end_notice(waiter.get_message(timeout=5)["data"].decode())
    stored = worker.env.link.redis.hgetall(worker.env.keys.run("r"))
    assert (state, record) == ("completed", {key.decode(): value.decode() for key, value in stored.items()})
    for each in (listener, waiter):
        assert each.get_message(timeout=0.01) is None
        each.close()


def test_a_server_that_has_forgotten_the_script_gets_it_again(worker: Worker) -> None:
    held = worker.start("chain", "r1", "r2")
    worker.env.link.redis.script_flush()
    replies = worker.send(*[worker.outcome(claim) for claim in held.values()])
    assert [reply[0] for reply in replies] == [b"ok", b"ok"]


def test_what_was_applied_is_reported_again_when_the_reply_was_lost(worker: Worker) -> None:
    held = worker.start("chain", "r1", "r2")
    calls = [worker.outcome(claim) for claim in held.values()]
    worker.send(*calls)
    assert [reply[0] for reply in worker.send(*calls)] == [b"already", b"already"]


def test_an_outcome_with_thousands_of_writes(worker: Worker) -> None:
    """More words than Lua puts on its stack at once."""
    held = worker.start("chain", "r1", "r2")
    writes = [(f"k{i}", b"%d" % i) for i in range(6_000)]
    big = scripts.complete(
        worker.env.keys, SEAT, run_id="r1", instance_id="a", fencing_token=1, plan=held["r1"].plan_hash, state="C", action="",
        decisions="t", output=b"1", writes=writes, values=[("0", b"2")],
    )  # fmt: skip
    assert [reply[0] for reply in worker.send(worker.outcome(held["r2"]), big)] == [b"ok", b"ok"]
    found = worker.env.link.redis.hmget(worker.env.keys.run("r1"), "c:k0", "c:k5999", "x:a>0")
    assert found == [b"0", b"5999", b"2"]


def test_a_broken_run_in_the_queue_costs_no_other_its_place(worker: Worker) -> None:
    for run in ("r1", "r2", "r3"):
        call = scripts.start(worker.env.keys, token=run, run_id=run, blueprint_id="chain", digest="", context={})
        worker.env.link.call(call)
    store, broken = worker.env.link.redis, worker.env.keys.run("r2")
    store.rename(broken, broken + ":aside")
    store.set(broken, "no hash")
    assert [claim.run_id for claim in worker.claims(3)] == ["r1", "r3"]
    assert worker.leases() == ["r1|a", "r3|a"]
    assert store.hkeys(worker.env.keys.broken) == [b"ready:default r2|a"], "it is set aside"
    store.rename(broken + ":aside", broken)
    worker.env.client.admin.examine(fix=True)
    assert [claim.run_id for claim in worker.claims(3)] == ["r2"]


def test_a_broken_queue_costs_no_outcome(worker: Worker) -> None:
    held = worker.start("chain", "r1", "r2")
    queue, split = worker.env.keys.ready("default"), worker.start("split", "s")
    worker.env.link.redis.set(queue, "no queue")
    (fails,) = worker.send(worker.outcome(split["s"], "tt"))
    assert isinstance(fails, redis.exceptions.ResponseError) and worker.leases() == ["r1|a", "r2|a", "s|a"]
    ends = [parse_claim(reply[2]) for reply in worker.send(*[worker.outcome(claim) for claim in held.values()])]
    asking = scripts.complete(
        worker.env.keys, ClaimRequest("w1", 10_000, "default"), run_id="r1", instance_id="b", fencing_token=1, plan=held["r1"].plan_hash,
        state="C", action="", decisions="", output=b"1", successor=("-",),
    )  # fmt: skip
    reported, other = worker.send(asking, worker.outcome(ends[1], ""))
    assert isinstance(reported, redis.exceptions.ResponseError), "why there is no next node"
    assert other[:2] == [b"ok", b"completed"]
    assert [worker.status(run) for run in ("r1", "r2")] == ["completed", "completed"]
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        worker.claims(1)
    worker.env.link.redis.delete(queue)
    assert worker.send(worker.outcome(split["s"], "tt"))[0][0] == b"ok", (
        "it is handed in again once the queue is mended"
    )
