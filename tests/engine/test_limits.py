"""Limits of concurrency and rate: of a handler, and shared by several, over all workers."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flowcraft_sdk import NodeContext, NodeResult
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.scripts import ClaimMode, ClaimRequest
from flowcraft_server.cli.client import main
from flowcraft_server.config.load import load_config
from flowcraft_server.engine.claims import Claim, parse_claim
from flowcraft_server.testing import TestEnvironment
from tests.engine.leaks import leaked_keys

FILE = """
handlers:
  plain: limited_handlers:answer
  few: {path: "limited_handlers:answer", maxConcurrent: 2}
  slow: {path: "limited_handlers:answer", rateLimit: 10/s}
  hourly: {path: "limited_handlers:answer", limit: seldom}
limits:
  named:
    shared: {maxConcurrent: 1}
    seldom: {rate: 2/h, maxConcurrent: 5}
blueprints: {dirs: [blueprints]}
"""
BLUEPRINTS = {
    "few": "nodes: {a: {uses: few}}",
    "slow": "nodes: {a: {uses: slow}}",
    "hourly": "nodes: {a: {uses: hourly}}",
    "chain": "nodes: {a: {uses: plain}, b: {uses: few, needs: a}, c: {uses: plain, needs: b}}",
    "named": "nodes: {a: {uses: plain, config: {limit: shared, queue: io}}, b: {uses: plain, config: {limit: shared}}}",
    "items": "nodes: {a: {uses: map, inputs: list, params: {uses: few}}}",
    "dynamic": "nodes: {a: {uses: plain}}",
    "retried": "nodes: {a: {uses: few, config: {maxRetries: 2, retryDelay: 1m}}}",
}
SEAT = ClaimRequest("w", 10_000, "default,io")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("limits")
    (tmp_path / "limited_handlers.py").write_text("def answer(ctx):\n    return 1\n")
    (tmp_path / "flowcraft.yaml").write_text(FILE)
    (tmp_path / "blueprints").mkdir()
    for name, text in BLUEPRINTS.items():
        (tmp_path / "blueprints" / f"{name}.yaml").write_text(text)
    return tmp_path


class Bench:
    """An environment without workers: the test is the worker."""

    def __init__(self, env: TestEnvironment) -> None:
        self.env = env

    def keys(self, run_id: str) -> Keys:
        return self.env.partitions.for_run(run_id)

    def start(self, blueprint: str, *run_ids: str, **context: Any) -> None:
        for run_id in run_ids:
            self.env.client.start(blueprint, context, run_id=run_id)
            self.env.clock.advance(0.001)

    def claim(self, count: int = 50) -> list[Claim]:
        found = [parse_claim(each) for each in self.env.link.call(scripts.claim(self.env.keys, SEAT, count))]
        return [claim for claim in found if claim]

    def names(self, count: int = 50) -> list[str]:
        return [f"{claim.run_id}.{claim.instance_id}" for claim in self.claim(count)]

    def complete(self, claim: Claim, decisions: str = "", seat: ClaimRequest = SEAT) -> str | None:
        reply = self.env.link.call(
            scripts.complete(
                self.env.keys, seat, run_id=claim.run_id, instance_id=claim.instance_id, plan=claim.plan_hash,
                fencing_token=claim.fencing_token, state="C", action="", decisions=decisions, output=b"1",
            )
        )  # fmt: skip
        found = parse_claim(reply[2]) if reply[2] else None
        return f"{found.run_id}.{found.instance_id}" if found else None

    def fail(self, claim: Claim, verdict: str, delay_ms: int = 0) -> None:
        self.env.link.call(
            scripts.fail(
                self.env.keys, ClaimRequest("w", 10_000, "default", ClaimMode.NONE), run_id=claim.run_id,
                instance_id=claim.instance_id, fencing_token=claim.fencing_token, verdict=verdict, delay_ms=delay_ms,
                failure=b"{}",
            )
        )  # fmt: skip

    def sweep(self) -> Any:
        return self.env.link.call(
            scripts.sweep(self.env.keys, limit=100, max_crashes=3, grace_ms=1000, queues="default,io")
        )

    def waiting(self, limit: str) -> int:
        return int(self.env.link.redis.zcard(self.env.keys.limited(limit)))


@pytest.fixture
def bench(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("FLOWCRAFT_TEST_PARTITIONS", "1")
    with TestEnvironment.from_config(folder / "flowcraft.yaml", workers=0) as env:
        yield Bench(env)
        env.clock.advance(120, keep_leases=False)
        for run in env.client.list_runs(limit=None):
            env.client.get_handle(run.run_id).cancel(grace=0)
        for worker in env.workers:
            worker.drain(5)
        assert env.client.admin.examine() == []
        assert leaked_keys(env) == []
        for name in ("handler:few", "handler:slow", "shared", "seldom"):
            assert env.link.redis.zcard(env.keys.limited(name)) == 0, name
            assert env.link.redis.zcard(env.keys.slots(name)) == 0, name


class TestConcurrency:
    def test_no_more_run_at_once_and_the_next_one_comes_with_the_completion(self, bench: Bench) -> None:
        bench.start("few", "r1", "r2", "r3", "r4")
        first, second = bench.claim()
        assert (first.run_id, second.run_id) == ("r1", "r2")
        node = bench.env.client.get_handle("r3").describe().nodes["a"]
        assert (node.status, node.queue, node.blocked_by) == ("ready", "default", "the limit of handler 'few'")
        assert bench.env.client.admin.examine() == []
        limits = {limit.name: limit for limit in bench.env.client.admin.limits()}
        assert list(limits) == ["handler:few", "handler:slow", "seldom", "shared"]
        few, seldom = limits["handler:few"], limits["seldom"]
        assert (few.rate, few.max_concurrent, few.waiting, few.admitted) == (None, 2, 2, 2)
        assert few.oldest_age is not None and seldom.oldest_age is None
        assert seldom.rate == pytest.approx(2 / 3600, rel=1e-3) and seldom.max_concurrent == 5
        words = ["--url", bench.env.url, "--namespace", bench.env.namespace, "queue", "limits"]
        assert CliRunner().invoke(main, words).stdout.splitlines()[1].split()[:4] == ["handler:few", "2", "2", "2"]
        assert bench.complete(first) == "r3.a"
        assert bench.names() == []
        assert bench.complete(second) == "r4.a"

    def test_other_nodes_are_not_held_up(self, bench: Bench) -> None:
        bench.start("few", *(f"f{number}" for number in range(20)))
        bench.start("chain", "c1", "c2")
        assert bench.names() == ["f0.a", "f1.a", "c1.a", "c2.a"]
        assert bench.waiting("handler:few") == 18

    def test_a_node_in_the_middle_waits_and_is_not_handed_over(self, bench: Bench) -> None:
        bench.start("few", "f1", "f2", "f3")
        held = bench.claim()
        bench.start("chain", "c")
        (a,) = bench.claim()
        assert bench.complete(a, "t") is None
        assert bench.complete(held[0]) == "f3.a"  # which has waited longer
        assert bench.complete(held[1]) == "c.b"

    def test_slots_come_back_within_a_lease_when_a_worker_dies(self, bench: Bench) -> None:
        bench.start("few", "r1", "r2", "r3", "r4")
        assert len(bench.claim()) == 2
        bench.env.clock.advance(9, keep_leases=False)
        bench.sweep()
        assert bench.names() == []
        bench.env.clock.advance(2, keep_leases=False)
        bench.sweep()
        assert bench.names() == ["r3.a", "r4.a"]  # and those that were lost wait in their turn
        assert bench.waiting("handler:few") == 2

    def test_a_retry_that_waits_holds_no_slot(self, bench: Bench) -> None:
        bench.start("retried", "r1")
        (claim,) = bench.claim()
        bench.start("few", "r2", "r3")
        assert bench.names() == ["r2.a"]
        bench.fail(claim, "retry", 60_000)
        assert bench.names() == ["r3.a"]
        bench.env.clock.advance(61)
        bench.sweep()
        assert bench.names() == []
        assert bench.waiting("handler:few") == 1

    def test_what_is_handed_back_keeps_its_slot(self, bench: Bench) -> None:
        bench.start("few", "r1", "r2", "r3")
        first, _ = bench.claim()
        bench.env.link.call(
            scripts.release(bench.env.keys, run_id="r1", instance_id="a", fencing_token=first.fencing_token)
        )
        assert bench.names() == ["r1.a"]
        assert bench.waiting("handler:few") == 1

    def test_what_is_handed_back_to_a_paused_queue_leaves_its_slot(self, bench: Bench) -> None:
        bench.start("named", "r1")
        (a,) = bench.claim()
        bench.env.client.admin.pause_queue("io")
        bench.env.link.call(
            scripts.release(bench.env.keys, run_id="r1", instance_id="a", fencing_token=a.fencing_token)
        )
        assert bench.names() == ["r1.b"]
        bench.env.client.admin.resume_queue("io")

    def test_a_cancelled_run_leaves_its_slot_and_its_place(self, bench: Bench) -> None:
        bench.start("few", "r1", "r2", "r3", "r4")
        for run_id in ("r1", "r3"):
            bench.env.client.get_handle(run_id).cancel(grace=0)
        assert bench.names() == ["r2.a", "r4.a"]

    def test_a_limit_is_shared_by_queues_and_a_paused_one_holds_no_slot(self, bench: Bench) -> None:
        bench.env.client.admin.pause_queue("io")
        bench.start("named", "r1", "r2")
        (b,) = bench.claim()
        assert (b.run_id, b.instance_id) == ("r1", "b")
        assert bench.complete(b) == "r2.b"
        bench.env.clock.advance(11, keep_leases=False)
        bench.sweep()
        bench.env.client.admin.resume_queue("io")
        bench.sweep()
        assert bench.names() == ["r2.b"]

    def test_a_queue_that_is_paused_gives_slots_and_tokens_of_what_is_not_claimed_back(self, bench: Bench) -> None:
        bench.start("named", "r1")  # a, of queue io, is admitted
        bench.env.client.admin.pause_queue("io")
        (b,) = bench.claim()
        assert b.instance_id == "b"
        assert bench.env.client.admin.examine() == []
        bench.start("hourly", "h1")
        bench.env.client.admin.pause_queue("default")
        bench.env.client.admin.pause_queue("default")
        bench.complete(b)
        assert bench.names() == []
        for queue in ("io", "default"):
            bench.env.client.admin.resume_queue(queue)
        bench.sweep()
        assert sorted(bench.names()) == ["h1.a", "r1.a"]

    def test_items_of_a_batch_count_against_the_limit_of_their_handler(self, bench: Bench) -> None:
        bench.env.client.start("items", {"list": [1, 2, 3, 4, 5]}, run_id="r")
        bench.env.add_worker()
        bench.env.client.get_handle("r").result(timeout=60)

    def test_slots_that_are_lost_are_found_again(self, bench: Bench) -> None:
        bench.start("few", "r1")
        bench.env.link.redis.zadd(bench.env.keys.slots("handler:few"), {"gone|a": -1, "r1|b": -1})
        bench.start("few", "r2")
        assert bench.names() == ["r1.a"]
        bench.env.clock.advance(2)
        bench.sweep()
        assert bench.names() == ["r2.a"]

    def test_lost_slots_behind_many_that_are_held_are_found(self, bench: Bench) -> None:
        redis, keys = bench.env.link.redis, bench.env.keys
        redis.hset(keys.base + "limits", "handler:few", "||251")
        held = [f"held{number}" for number in range(250)]
        for run_id in held:
            redis.hset(keys.run(run_id), "n:a", "L|1|1|0|0|")
        redis.zadd(
            keys.slots("handler:few"), {**{f"{run_id}|a": -1000 - n for n, run_id in enumerate(held)}, "gone|a": -1}
        )
        bench.start("few", "r1")
        assert bench.names() == []
        for _ in range(2):
            bench.env.clock.advance(2)
            bench.sweep()
        assert bench.names() == ["r1.a"]
        assert redis.zcard(keys.slots("handler:few")) == 251
        redis.delete(*(keys.run(run_id) for run_id in held))
        redis.zrem(keys.slots("handler:few"), *(f"{run_id}|a" for run_id in held))


class TestRate:
    def test_so_many_begin_in_a_time(self, bench: Bench) -> None:
        since = bench.env.clock.now()
        bench.start("slow", *(f"r{number}" for number in range(60)))
        begun = 0
        for _ in range(30):
            begun += len(bench.claim())
            bench.env.clock.advance(0.1)
            bench.sweep()
        begun += len(bench.claim())
        allowed = 10 * (bench.env.clock.now() - since).total_seconds()  # and what was saved up
        assert 0.9 * allowed <= begun <= allowed + 11

    def test_a_slow_rate_loses_nothing_to_late_looks(self, bench: Bench) -> None:
        bench.start("hourly", "r1", "r2", "r3")
        assert bench.names() == ["r1.a"]
        bench.env.clock.advance(1790)
        bench.sweep()
        assert bench.names() == []
        bench.env.clock.advance(10)
        bench.sweep()
        assert bench.names() == ["r2.a"]
        bench.env.clock.advance(1799.5)
        bench.sweep()
        assert bench.names() == ["r3.a"]

    def test_none_pile_up_while_all_workers_are_busy(self, bench: Bench) -> None:
        bench.start("slow", *(f"r{number}" for number in range(100)))
        for _ in range(50):
            bench.env.clock.advance(0.2)
            bench.sweep()
        assert len(bench.claim(100)) == 10


def test_it_holds_over_workers(folder: Path) -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def work(ctx: NodeContext) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.005)
        with lock:
            running[0] -= 1
        return 1

    def plan(ctx: NodeContext) -> NodeResult:
        return NodeResult(1, dynamic_nodes=[{"id": f"d{number}", "uses": "few"} for number in range(6)])

    handlers = {"few": work, "plain": plan}
    with TestEnvironment.from_config(folder / "flowcraft.yaml", handlers=handlers, workers=3) as env:
        runs = [env.client.start("few", run_id=f"r{number}") for number in range(60)]
        runs += [env.client.start("items", {"list": [*range(10)]}, run_id=f"i{number}") for number in range(6)]
        runs += [env.client.start("dynamic", run_id=f"d{number}") for number in range(3)]
        for run in runs:
            run.result(timeout=30)
        assert 1 <= most[0] <= 2
        assert env.client.admin.examine() == []


@pytest.mark.parametrize(
    ("file", "blueprint", "said"),
    [
        (
            "handlers: {h: {path: 'limited_handlers:answer', limit: cmr}}",
            "",
            "flowcraft.yaml:1:56   handlers.h.limit: there is no limit 'cmr'",
        ),
        (
            "handlers: {h: 'limited_handlers:answer'}",
            "config: {limit: cmr}",
            "b.yaml:1:38   nodes.a.config.limit: there is no",
        ),
        (
            "handlers: {h: {path: 'a:b', rateLimit: fast}}",
            "",
            "handlers.h.rateLimit: expected a rate, got 'fast'; write 10/s, 100/m or 1000/h",
        ),
        (
            "handlers: {h: {path: 'a:b', rateLimit: 1/s, limit: crm}}",
            "",
            "handlers.h.limit: a node counts against one limit: give limit, or rateLimit and maxConcurrent",
        ),
        ("handlers: {h: 'limited_handlers:answer'}", "config: {limit: 'a b'}", "is no name for a limit"),
    ],
)
def test_a_limit_that_is_not_there_is_reported_with_its_line(
    folder: Path, tmp_path: Path, file: str, blueprint: str, said: str
) -> None:
    (tmp_path / "flowcraft.yaml").write_text(
        f"{file}\nlimits: {{named: {{crm: {{rate: 1/s}}}}}}\nblueprints: {{dirs: [graphs]}}\n"
    )
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "b.yaml").write_text(f"nodes: {{a: {{uses: h, {blueprint}}}}}".replace(", }", "}"))
    (tmp_path / "limited_handlers.py").write_text("")
    found = [str(diagnostic) for diagnostic in load_config(tmp_path / "flowcraft.yaml", with_handlers=False).errors]
    assert any(said in each for each in found), found
    if "cmr" in said:
        assert any("did you mean 'crm'?" in each for each in found)
