"""After the loss of a worker its nodes are separated: fewer and fewer together, at last alone, and only what was alone is blamed."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import AsyncNodeContext, NodeContext
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.engine.claims import Claim, parse_claim
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

Make = Callable[..., TestEnvironment]
ONE = {"id": "one", "nodes": [{"id": "a", "uses": "x"}], "edges": []}
TIMEOUT = 20.0


class Store:
    """The scripts about workers, called by hand."""

    def __init__(self, env: TestEnvironment) -> None:
        self.env = env
        self.keys = env.keys

    def start(self, count: int) -> list[str]:
        return [self.env.client.start("one", run_id=f"r{number}").run_id for number in range(count)]

    def claim(self, count: int, worker: str = "w1") -> list[Claim]:
        reply = self.env.link.call(scripts.claim(self.keys, ClaimRequest(worker, 10_000, "default"), count))
        return [parse_claim(each) for each in reply]

    def claim_suspects(self, worker: str) -> list[Claim]:
        reply = self.env.link.call(scripts.claim_suspects(self.keys, ClaimRequest(worker, 10_000, "default")))
        return [parse_claim(each) for each in reply]

    def lose(self, worker: str, executed: list[Claim] | None, max_crashes: int = 3, count: int = 100) -> int:
        evidence = (
            None if executed is None else [(each.run_id, each.instance_id, each.fencing_token) for each in executed]
        )
        first = lost = 0
        while first >= 0:
            first, found = self.env.link.call(
                scripts.lose_worker(
                    self.keys, worker=worker, first=first, count=count, max_crashes=max_crashes, executed=evidence
                )
            )
            lost += found
        return lost

    def expire(self, max_crashes: int = 3) -> None:
        self.env.clock.advance(11, keep_leases=False)
        self.env.link.call(
            scripts.sweep(self.keys, limit=1000, max_crashes=max_crashes, grace_ms=1000, queues="default")
        )

    def complete(self, claims: list[Claim]) -> None:
        for claim in claims:
            claim_request = ClaimRequest("any", 10_000, "default", "-")
            call = scripts.complete(
                self.keys, claim_request, run_id=claim.run_id, instance_id=claim.instance_id, fencing_token=claim.fencing_token, plan=claim.plan_hash, state="C",
                action="", decisions="", output=b"1",
            )  # fmt: skip
            assert self.env.link.call(call)[0] == b"ok"

    def suspects(self) -> set[str]:
        return {
            each.decode().partition("|")[0] for each in self.env.link.redis.zrange(self.keys.suspects("default"), 0, -1)
        }

    def crashes(self, run_id: str) -> int:
        return self.env.client.get_handle(run_id).describe().nodes["a"].crashes

    def dead(self) -> list[str]:
        return [letter.run_id for letter in self.env.client.admin.dead_letters()]


@pytest.fixture
def store(environment: Make) -> Store:
    return Store(environment(workers=0, handlers={"x": lambda ctx: 1}, blueprints=ONE))


def test_what_was_executed_is_suspected_and_the_others_are_run_as_before(store: Store) -> None:
    runs = store.start(10)
    claims = store.claim(10)
    assert store.lose("w1", executed=claims[3:5]) == 10
    assert store.suspects() == {claim.run_id for claim in claims[3:5]}
    again = store.claim(100, "w2")
    assert {claim.run_id for claim in again} == set(runs) - store.suspects()
    assert [store.crashes(run) for run in runs] == [0] * 10
    first, second = store.claim_suspects("s1"), store.claim_suspects("s2")
    assert [len(first), len(second)] == [1, 1]
    store.complete([*again, *first, *second])
    assert store.dead() == []


def test_whether_a_worker_holds_nodes_is_asked_of_each_partition(store: Store) -> None:
    def held_by(worker: str) -> object:
        return store.env.link.call(scripts.held_by(store.keys, worker))

    store.start(3)
    assert held_by("w1") == 0
    claims = store.claim(2)
    assert (held_by("w1"), held_by("w2")) == (1, 0)
    store.lose("w1", executed=claims[:1])
    assert held_by("w1") == 1, "those it held elsewhere had company, though nothing is held here any more"


def test_only_what_ends_its_worker_alone_is_blamed(store: Store) -> None:
    (bad, *_) = store.start(3)
    claims = store.claim(3)
    store.lose("w1", executed=claims)
    for number in range(3):
        while (group := store.claim_suspects(f"s{number}"))[0].run_id != bad:
            store.complete(group)
        assert store.crashes(bad) == number
        store.lose(f"s{number}", executed=group)
    assert store.dead() == [bad]
    assert store.env.client.get_handle(bad).status() == "failed"
    while group := store.claim_suspects("s9"):
        store.complete(group)


def test_without_evidence_groups_get_smaller_until_each_is_alone(store: Store) -> None:
    runs = store.start(80)
    for _ in range(2):  # the first loss is no reason to run them apart: it may have been a deployment
        assert len(store.claim(80)) == 80
        store.expire()
    assert store.claim(80) == []
    sizes = []
    for number in range(4):
        group = store.claim_suspects(f"s{number}")
        sizes.append(len(group))
        store.expire()
    assert sizes[0] == 32
    while group := store.claim_suspects("s"):
        store.complete(group)
    assert store.dead() == []
    assert {store.env.client.get_handle(run).status().value for run in runs} == {"completed"}


def test_a_group_holds_no_more_than_its_most_suspected_member_allows(store: Store) -> None:
    store.start(20)
    claims = store.claim(20)
    for claim, points in zip(claims, [3] * 8 + [5] * 8 + [7] * 4, strict=True):
        store.env.link.redis.hset(store.keys.run(claim.run_id), f"q:{claim.instance_id}", points)
    store.expire()
    sizes = []
    while group := store.claim_suspects("s"):
        sizes.append(len(group))
        store.complete(group)
    assert sum(sizes) == 20
    assert max(sizes) <= 12
    assert sizes.count(1) >= 8  # of those that have been suspected most, each is alone


def test_a_node_that_its_worker_ran_alone_is_blamed_at_once(store: Store) -> None:
    (run,) = store.start(1)
    store.claim(1)
    store.expire()
    assert store.crashes(run) == 1
    store.claim(1, "w2")  # as before: it may have been a deployment
    store.expire()
    assert store.crashes(run) == 2
    store.complete(store.claim_suspects("s1"))


def test_any_number_of_losses_of_its_neighbours_blames_no_node(store: Store) -> None:
    long, *_ = store.start(4)
    for number in range(12):
        claims = store.claim(4, f"w{number}") or store.claim_suspects(f"w{number}")
        others = [claim for claim in claims if claim.run_id != long]
        if others:
            store.lose(f"w{number}", executed=others[:1])
        else:
            store.complete(claims)
    assert store.crashes(long) == 0
    while group := store.claim(4) or store.claim_suspects("s"):
        store.complete(group)


def test_what_is_handed_back_is_no_suspect(store: Store) -> None:
    store.start(3)
    for claim in store.claim(3):
        store.env.link.call(
            scripts.release(
                store.keys, run_id=claim.run_id, instance_id=claim.instance_id, fencing_token=claim.fencing_token
            )
        )
    assert store.suspects() == set()
    store.complete(store.claim(3))


def test_a_worker_is_given_up_in_slices_and_twice_is_once(store: Store) -> None:
    store.start(25)
    mine, others = store.claim(15, "w1"), store.claim(10, "w2")
    assert store.lose("w1", executed=[], count=4) == 15
    assert store.lose("w1", executed=[], count=4) == 0
    store.complete(others)
    again = store.claim(100, "w3")
    assert {claim.run_id for claim in again} == {claim.run_id for claim in mine}
    store.complete(again)


def test_the_evidence_is_of_one_claim(store: Store) -> None:
    store.start(2)
    claims = store.claim(2)
    stale = [claims[0]._replace(fencing_token="99")]
    store.lose("w1", executed=stale)
    assert store.suspects() == set()
    store.complete(store.claim(2))


@pytest.mark.parametrize("is_async", [False, True])
def test_a_worker_runs_suspects_while_it_holds_nothing_else(environment: Make, is_async: bool) -> None:
    let_go, began = threading.Event(), threading.Event()
    together: list[int] = []
    running: set[str] = set()

    def note(ctx: Any) -> None:
        running.add(ctx.run_id)
        together.append(len(running))

    def function(ctx: NodeContext) -> str:
        began.set()
        let_go.wait(TIMEOUT)
        note(ctx)
        running.discard(ctx.run_id)
        return "done"

    async def coroutine(ctx: AsyncNodeContext) -> str:
        began.set()
        while not let_go.is_set():
            await asyncio.sleep(0.005)
        note(ctx)
        await asyncio.sleep(0.01)
        running.discard(ctx.run_id)
        return "done"

    env = environment(
        handlers={"x": coroutine if is_async else function}, blueprints=ONE, settings=WorkerSettings(threads=3)
    )
    runs = [env.client.start("one") for _ in range(3)]
    assert began.wait(TIMEOUT)
    store = Store(env)
    worker = env.workers[0]
    while len(worker.held) < 3:
        threading.Event().wait(0.002)
    executed = [attempt.claim for attempt in worker.held.all()]
    env.kill_worker(worker)
    store.lose(worker.settings.worker_id, executed=executed)
    let_go.set()
    together.clear()
    running.clear()
    env.add_worker()
    for run in runs:
        assert run.result(timeout=TIMEOUT) == {"a": "done"}
    assert store.dead() == []
