"""A client whose connection breaks after Redis has applied what it asked for: what it sends again is applied once."""

import random
from collections.abc import Callable, Iterator

import pytest

from flowcraft_sdk import Client
from tests.acceptance.server_program import eventually
from tests.chaos.deployment import NAMESPACE, Deployment
from tests.chaos.flows import FLOWS, context
from tests.chaos.proxy import LossyProxy
from tests.chaos.test_replies import seed
from tests.chaos.verdict import judge

Make = Callable[..., Deployment]
__all__ = ["seed"]

ROUNDS = 12
GATES = f"""
nodes:
  again: {{uses: loop-controller, params: {{condition: "(body ?? 0) < {ROUNDS}"}}}}
  gate: {{uses: wait}}
  body: {{uses: collect, inputs: gate, needs: gate, next: again}}
  end: {{uses: collect, inputs: body}}
edges:
  - again -[continue]-> gate
  - again -[break]-> end
"""
HELD = "nodes:\n  a: {uses: hold, inputs: x}\n  b: {uses: step, inputs: a, needs: a}\n"


@pytest.fixture
def lossy(deployed: Make, seed: int) -> Iterator[tuple[Deployment, Client, LossyProxy]]:
    """A deployment with a worker, and a client that loses the replies it is asked to."""
    chaos = deployed(lease=1.0, flows={"gates": GATES, "held": HELD})
    chaos.add_worker()
    with (
        LossyProxy(chaos.store.url.removeprefix("unix://"), seed, 0.0) as proxy,
        Client(proxy.url, namespace=NAMESPACE) as client,
    ):
        client.ping()
        yield chaos, client, proxy


def test_each_run_is_started_once(lossy: tuple[Deployment, Client, LossyProxy], seed: int) -> None:
    chaos, client, proxy = lossy
    chance = random.Random(seed)
    runs = {}
    for flow in sorted(FLOWS) * 6:
        x = chance.randrange(1000)
        proxy.lose(0, 1)  # of the look at the blueprint the first time, of the start itself from then on
        handle = client.start(flow, context(flow, x))
        assert not handle.attached, "a start that is sent again finds no other run than its own"
        runs[handle.run_id] = (flow, x)
    assert proxy.lost == len(runs)
    for run_id in runs:
        proxy.lose(0, 1)
        assert client.get_handle(run_id).wait(timeout=40).status == "completed"
    verdict = judge(chaos, runs, 1.0)
    assert verdict.is_clean(), verdict.faults()
    children = sum(flow == "parent" for flow, _ in runs.values())
    assert chaos.client.count_runs() == len(runs) + children


def test_each_signal_is_applied_once(lossy: tuple[Deployment, Client, LossyProxy]) -> None:
    """A signal that was applied twice would be kept for the next round, and be in the way of that round's own."""
    chaos, client, proxy = lossy
    handle = client.start("gates", {})
    for number in range(1, ROUNDS + 1):
        proxy.lose(number % 2, 1)  # of the look at who waits, or of the signal itself
        handle.signal("gate", number, buffer=True)
        assert eventually(lambda expected=number: chaos.begun("body", expected))  # type: ignore[misc]
    assert handle.result(timeout=20)["taken"] == [*range(1, ROUNDS + 1), ROUNDS]
    signals = [event for event in handle.events(follow=False) if event.type == "signal_received"]
    assert len(signals) == ROUNDS
    assert proxy.lost == ROUNDS


def test_a_cancel_is_one_request(lossy: tuple[Deployment, Client, LossyProxy]) -> None:
    chaos, client, proxy = lossy
    handles = [client.start("held", {"x": number}) for number in range(3)]
    assert eventually(lambda: chaos.begun("a", 3))
    for handle in handles * 2:
        proxy.lose(0, 1)
        assert handle.cancel("enough", grace=60)
    for handle in handles:
        requests = [event.type for event in handle.events(follow=False) if event.type == "cancel_requested"]
        assert len(requests) == 1
        assert handle.cancel("at once", grace=0)
        assert handle.wait(timeout=20).status == "cancelled"
        assert not handle.cancel("late")
    assert proxy.lost == 2 * len(handles)
