"""A deployment of 16 partitions on one Redis: runs lie apart, and everything finds them all the same."""

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import ConfigurationError, NodeContext
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

Make = Callable[..., TestEnvironment]
CHAIN = {
    "id": "chain",
    "nodes": [{"id": "a", "uses": "echo"}, {"id": "b", "uses": "echo"}],
    "edges": [{"source": "a", "target": "b"}],
}
ONE = {"id": "one", "nodes": [{"id": "a", "uses": "echo"}]}
PARENT = {"id": "parent", "nodes": [{"id": "sub", "uses": "subflow", "params": {"blueprintId": "chain"}}]}
TAG = re.compile(r"\{(test-[0-9a-f]+\.\d+)\}")


def echo(ctx: NodeContext) -> Any:
    return ctx.input


@pytest.fixture
def split(environment: Make) -> Make:
    """Environments of 16 partitions."""
    return lambda **options: environment(
        **{"partitions": 16, "handlers": {"echo": echo}, "blueprints": [CHAIN, ONE, PARENT], **options}
    )


def ids_in(env: TestEnvironment, number: int, count: int, prefix: str = "r") -> list[str]:
    """Some run ids of one partition."""
    keys, found, tried = env.partitions.all[number], [], 0
    while len(found) < count:
        tried += 1
        if env.partitions.for_run(f"{prefix}{tried}") is keys:
            found.append(f"{prefix}{tried}")
    return found


def test_runs_lie_in_the_partitions_of_their_ids_and_end(split: Make) -> None:
    env = split()
    runs = [env.client.start("chain", run_id=f"r{number}") for number in range(60)]
    for run in env.client.as_completed(runs, timeout=20):
        run.result(timeout=60)
    for run in runs:
        assert env.link.redis.exists(env.partitions.for_run(run.run_id).run(run.run_id))
    assert env.client.count_runs() == env.client.count_runs(status="completed") == 60
    used = {env.partitions.for_run(run.run_id).partition for run in runs}
    assert len(used) > 8


def test_a_child_lies_beside_its_parent(split: Make) -> None:
    env = split()
    run = env.client.start("parent", run_id="order")
    run.result(timeout=60)
    (child,) = env.client.list_runs(parent="order")
    assert env.partitions.for_run(child.run_id) is env.partitions.for_run("order")
    assert env.client.get_handle(child.run_id).status() == "completed"


def test_lists_are_merged_the_newest_first(split: Make) -> None:
    env = split(workers=0)
    ids = []
    for number in range(45):
        ids.append(env.client.start("one", run_id=f"r{number}", tags=["t"]).run_id)
        env.clock.advance(1)
    ids.reverse()
    for page_size in (1, 7, 100):
        assert [run.run_id for run in env.client.list_runs(page_size=page_size, limit=None)] == ids
        assert [run.run_id for run in env.client.list_runs(tag="t", page_size=page_size, limit=20)] == ids[:20]
    assert [run.run_id for run in env.client.list_runs(blueprint_id="one", limit=3)] == ids[:3]
    assert env.client.count_runs(tag="t") == 45
    assert env.client.count_runs(blueprint_id="one", status="queued") == 45


def test_what_was_ready_before_a_worker_came_is_found(split: Make) -> None:
    env = split(workers=0)
    runs = [env.client.start("one", run_id=f"r{number}") for number in range(40)]
    env.add_worker()
    for run in runs:
        run.result(timeout=60)


def test_workers_help_out_in_a_partition_that_has_more_than_its_own_can_do(split: Make) -> None:
    barrier = threading.Barrier(5)

    def together(ctx: NodeContext) -> None:
        barrier.wait(20)

    env = split(workers=5, settings=WorkerSettings(threads=1), handlers={"echo": together})
    for worker in env.workers:  # before they know of each other each of them is at home everywhere
        worker.wake()
    runs = [env.client.start("one", run_id=run_id) for run_id in ids_in(env, 3, 5)]
    for run in runs:
        run.result(timeout=60)
    assert len({run.attempts()[0].worker for run in runs}) == 5


def test_one_busy_partition_does_not_hold_up_the_others(split: Make) -> None:
    order: list[str] = []

    def note(ctx: NodeContext) -> None:
        order.append(ctx.run_id)
        time.sleep(0.002)

    env = split(workers=0, handlers={"echo": note}, settings=WorkerSettings(threads=1))
    many, (lone,) = ids_in(env, 3, 60), ids_in(env, 4, 1)
    runs = [env.client.start("one", run_id=run_id) for run_id in [*many, lone]]
    env.add_worker()
    for run in runs:
        run.result(timeout=60)
    assert order.index(lone) < 30


def test_timers_signals_and_stops_reach_every_partition(split: Make) -> None:
    waiting = {"id": "waiting", "nodes": [{"id": "w", "uses": "wait"}]}
    sleeping = {"id": "sleeping", "nodes": [{"id": "s", "uses": "sleep", "params": {"duration": "1h"}}]}
    env = split(blueprints=[waiting, sleeping])
    waits = [env.client.start("waiting", run_id=f"w{number}") for number in range(20)]
    stops = [env.client.start("waiting", run_id=f"c{number}") for number in range(20)]
    sleeps = [env.client.start("sleeping", run_id=f"s{number}") for number in range(20)]
    for run in (*waits, *stops, *sleeps):
        run.wait_for("waiting", timeout=60)
    for run in waits:
        run.signal("w", payload=1)
    for run in stops:
        run.cancel("no need")
    env.clock.advance("1h")
    for run in (*waits, *sleeps):
        run.result(timeout=60)
    assert {run.wait(timeout=60).status for run in stops} == {"cancelled"}


def test_a_run_below_another_one_has_an_id_of_its_partition(split: Make) -> None:
    env = split()
    env.client.start("one", run_id="order").result(timeout=60)
    beside = env.client.start("one", parent="order")
    named = env.client.start("one", parent=beside, run_id="order~invoice")
    for run in (beside, named):
        assert env.partitions.for_run(run.run_id) is env.partitions.for_run("order")
        run.result(timeout=60)
    with pytest.raises(ConfigurationError, match=r"the id of a run with a parent is order~NAME, got 'invoice'"):
        env.client.start("one", parent="order", run_id="invoice")


def test_no_command_touches_two_partitions(split: Make) -> None:
    env = split(workers=2)
    seen: list[str] = []
    listening, enough = threading.Event(), threading.Event()

    def listen() -> None:
        with env.link.redis.monitor() as monitor:
            listening.set()
            for entry in monitor.listen():
                seen.append(entry["command"])
                if enough.is_set():
                    return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert listening.wait(60)
    runs = [env.client.start("parent", run_id=f"p{number}") for number in range(20)]
    runs += [env.client.start("chain", run_id=f"c{number}", tags=["t"]) for number in range(20)]
    for run in runs:
        run.result(timeout=60)
    assert len(list(env.client.list_runs(limit=None))) == 60
    env.client.count_runs(tag="t")
    env.client.admin.dead_letters()
    assert env.client.admin.examine() == []
    env.publish([ONE])
    enough.set()
    env.client.ping()
    thread.join(10)
    at_once = ("SUBSCRIBE", "UNSUBSCRIBE", "PUBSUB")  # channels of several partitions share a connection
    ours = [command for command in seen if env.namespace in command and not command.upper().startswith(at_once)]
    assert len(ours) > 200
    assert [command for command in ours if len({tag for tag in TAG.findall(command) if env.namespace in tag}) > 1] == []


def test_a_lost_worker_is_held_against_the_only_node_that_it_held_in_all_partitions(split: Make) -> None:
    env = split(workers=0, settings=WorkerSettings(max_crashes=1))

    def claim(run_id: str, worker: str) -> None:
        env.client.start("one", run_id=run_id)
        assert env.link.call(scripts.claim(env.partitions.for_run(run_id), ClaimRequest(worker, 10_000, "default")))

    (alone,), (first,), (second,) = ids_in(env, 2, 1), ids_in(env, 5, 1), ids_in(env, 9, 1)
    claim(alone, "w1")
    claim(first, "w2")
    claim(second, "w2")
    env.add_worker()
    env.clock.advance(11.0, keep_leases=False)
    for run_id in (first, second):
        assert env.client.get_handle(run_id).wait(timeout=20).status == "completed", "each had company, elsewhere"
    assert env.client.get_handle(alone).wait(timeout=20).status == "failed"
    assert [letter.run_id for letter in env.client.admin.dead_letters()] == [alone]
