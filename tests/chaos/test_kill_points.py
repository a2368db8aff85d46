"""Workers that die at each step of the way of a node, and the five kill points K1 to K5 at which the original lost runs."""

from collections.abc import Callable, Iterator

import pytest

from flowcraft_sdk import RunFailedError
from tests.acceptance.server_program import eventually
from tests.chaos.deployment import Deployment, Worker
from tests.chaos.doomed import CLAIM_OF, Point
from tests.chaos.rescue import LEASE, RECOVERY, RECOVERY_APART, die_at, frozen_worker, rescued, seconds_to_end

Make = Callable[..., Deployment]

HELD = """
nodes:
  a: {uses: step, inputs: x}
  b: {uses: hold, inputs: a, needs: a}
  c: {uses: step, inputs: b, needs: b}
"""

POINTS = [
    ("chain", Point("before", "claim")),
    ("chain", Point("after", CLAIM_OF, "a")),
    ("chain", Point("before", "complete", "c")),
    ("chain", Point("after", "complete", "e")),
    ("dynamic", Point("before", "expand")),
    ("dynamic", Point("after", "expand")),
    ("dynamic", Point("after", "complete", "t2")),
    ("dynamic", Point("before", "complete", "plan")),
    ("fallback", Point("before", "fail", "a", 2)),
    ("fallback", Point("after", "fail", "a", 2)),
    ("fallback", Point("after", "complete", "b")),
    ("fallback", Point("before", "complete", "a")),
    ("fan", Point("after", "complete", "w3")),
    ("loop", Point("before", "complete", "body", 2)),
    ("loop", Point("after", "complete", "again", 3)),
    ("map", Point("after", "store_items")),
    ("map", Point("after", "park", "each")),
    ("map", Point("after", "complete", "each[7]")),
    ("parent", Point("after", "start_child")),
    ("parent", Point("after", "complete", "e")),
    ("retry", Point("before", "fail", "b")),
    ("retry", Point("after", "fail", "b", 2)),
    ("retry", Point("after", "park", "nap")),
]


@pytest.fixture(scope="module")
def survivor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Worker]]:
    """A deployment with one worker that outlives all others."""
    with Deployment(tmp_path_factory.mktemp("survivor"), lease=0.5, flows={"held": HELD}) as chaos:
        yield chaos, chaos.add_worker()


@pytest.mark.parametrize(("flow", "point"), POINTS, ids=[f"{flow}: {point}" for flow, point in POINTS])
def test_a_run_goes_on_when_its_worker_dies(survivor: tuple[Deployment, Worker], flow: str, point: Point) -> None:
    chaos, rescuer = survivor
    rescued(chaos, flow, point, rescuer)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_that_dies_while_it_renews(survivor: tuple[Deployment, Worker], when: str) -> None:
    chaos, rescuer = survivor
    rescuer.freeze()
    run_id = chaos.client.start("held", {"x": 1}).run_id
    die_at(chaos, Point(when, "renew", run_id, 2))
    chaos.go()
    rescuer.thaw()
    assert chaos.client.get_handle(run_id).result(timeout=10)["c"] == 4
    assert len(chaos.read_ledger().at(run_id, "b")) == 2
    (chaos.folder / "go").unlink()


def hold(chaos: Deployment) -> tuple[Worker, str]:
    """A worker that is at node b of a run."""
    worker = chaos.add_worker()
    run_id = chaos.client.start("held", {"x": 1}).run_id
    assert eventually(lambda: chaos.begun("b"))
    return worker, run_id


def test_k1_during_a_node(deployed: Make) -> None:
    chaos = deployed(lease=LEASE, flows={"held": HELD})
    worker, run_id = hold(chaos)
    rescuer = frozen_worker(chaos)
    died = chaos.kill(worker).at
    chaos.go()
    rescuer.thaw()
    assert seconds_to_end(chaos, run_id, died) < RECOVERY
    assert chaos.client.get_handle(run_id).result()["c"] == 4
    assert len(chaos.read_ledger().at(run_id, "b")) == 2
    assert len(chaos.read_ledger().at(run_id, "a")) == 1


def test_k2_between_an_output_and_the_successor(deployed: Make) -> None:
    assert rescued(deployed(lease=LEASE), "chain", Point("after", "complete", "b")) < RECOVERY


def test_k3_between_a_router_and_its_branch(deployed: Make) -> None:
    chaos = deployed(lease=LEASE)
    assert rescued(chaos, "router", Point("after", "complete", "choose")) < RECOVERY
    assert not any(place.node == "right" for place in chaos.read_ledger().executions)


@pytest.mark.parametrize("point", [Point("after", CLAIM_OF, "j"), Point("before", "complete", "j")], ids=str)
def test_k4_between_the_last_branch_and_the_join(deployed: Make, point: Point) -> None:
    assert rescued(deployed(lease=LEASE), "fan", point) < RECOVERY


def test_k5_twice_during_the_same_node(deployed: Make) -> None:
    chaos = deployed(lease=LEASE, max_crashes=3, flows={"held": HELD})
    worker, run_id = hold(chaos)
    chaos.kill(worker)
    second = chaos.add_worker()
    assert eventually(lambda: chaos.begun("b", 2))
    rescuer = frozen_worker(chaos)
    died = chaos.kill(second).at
    chaos.go()
    rescuer.thaw()
    assert seconds_to_end(chaos, run_id, died) < RECOVERY_APART
    assert chaos.client.get_handle(run_id).result()["c"] == 4
    # Once it ran alone, and its worker was lost; then in a process apart, which finishes it although its server is killed.
    assert chaos.client.get_handle(run_id).describe().nodes["b"].crashes in (1, 2)


def test_a_node_that_kills_its_worker_each_time_fails_and_says_so(deployed: Make) -> None:
    chaos = deployed(lease=0.5, max_crashes=3, flows={"held": HELD})
    run_id = chaos.client.start("held", {"x": 1}).run_id
    for _ in range(3):
        die_at(chaos, Point("after", CLAIM_OF, "b"))
    chaos.add_worker()
    with pytest.raises(RunFailedError, match="died or stalled 3 times"):
        chaos.client.get_handle(run_id).result(timeout=10)
    assert chaos.redis.zrange(chaos.partitions.for_run(run_id).dead, 0, -1) == [f"{run_id}|b".encode()]
    assert chaos.read_ledger().at(run_id, "b") == []


def test_in_the_middle_of_a_map_of_5000_items(deployed: Make) -> None:
    flow = "nodes:\n  each: {uses: map, inputs: list, params: {uses: step, params: {ms: 0}}}\n"
    chaos = deployed(lease=LEASE, flows={"large": flow})
    handle = chaos.client.start("large", {"list": list(range(5000))})
    rescuer = frozen_worker(chaos)
    died = die_at(chaos, Point("after", "complete", "each[2500]"), 60)
    done = len(chaos.read_ledger().executions)
    assert 2000 < done < 4000
    rescuer.thaw()
    assert handle.result(timeout=60)["each"] == list(range(1, 5001))
    completed = [
        event.node_id for event in handle.events(follow=False) if event.type in ("node_completed", "node_recovered")
    ]
    assert len(completed) == len(set(completed)) == 5001
    again = [place for place, found in chaos.read_ledger().executions.items() if len(found) > 1]
    assert len(again) < 50, "what was completed is not run again"
    assert seconds_to_end(chaos, handle.run_id, died) > 0


SAGA = """
nodes:
  a: {uses: step, inputs: x, config: {compensate: undo-a}}
  b: {uses: step, inputs: a, needs: a, config: {compensate: undo-b}}
  c: {uses: broken, needs: b}
  undo-a: {uses: step}
  undo-b: {uses: step}
finally:
  last: {uses: step, inputs: x}
"""


@pytest.mark.parametrize(
    "point",
    [
        Point("after", "fail", "c"),
        Point("after", CLAIM_OF, "undo-b"),
        Point("before", "complete", "undo-b"),
        Point("after", "complete", "undo-a"),
        Point("before", "complete", "last"),
    ],
    ids=str,
)
def test_a_saga_is_undone_once_when_its_worker_dies(survivor: tuple[Deployment, Worker], point: Point) -> None:
    chaos, rescuer = survivor
    chaos.publish({"saga": SAGA})
    rescuer.freeze()
    handle = chaos.client.start("saga", {"x": 1})
    die_at(chaos, point)
    rescuer.thaw()
    with pytest.raises(RunFailedError, match="never"):
        handle.result(timeout=20)
    recorded = [event.node_id for event in handle.events(follow=False) if event.type == "node_completed"]
    assert recorded == ["a", "b", "undo-b#2", "undo-a#1", "last"]
