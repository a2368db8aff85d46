"""A reply to a renewal is about the claims that were asked for, and not about those that were made meanwhile."""

from types import SimpleNamespace
from typing import Any

import pytest

from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.engine.attempt import AttemptState
from flowcraft_server.worker.background.lease_renewer import LeaseRenewer
from flowcraft_server.worker.in_flight import InFlightAttempts


class FakeAttempt(SimpleNamespace):
    @property
    def has_ended(self) -> bool:
        return self.state is not AttemptState.RUNNING


def attempt(token: int) -> Any:
    claim = SimpleNamespace(run_id="r", instance_id="n", fencing_token=token, run_created=1)
    stops: list[str] = []
    return FakeAttempt(
        key=("r", "n"),
        claim=claim,
        state=AttemptState.RUNNING,
        deadline=None,
        node=SimpleNamespace(closing=False),
        stops=stops,
        request_stop=stops.append,
    )


@pytest.mark.parametrize(("again", "lost"), [(False, True), (True, False)])
def test_a_claim_that_was_made_meanwhile_is_kept(again: bool, lost: bool) -> None:
    held = InFlightAttempts()
    first, second = attempt(1), attempt(2)
    held.add(first)

    def send(calls: list[Any]) -> list[Any]:
        if again:  # it was parked, has come back, and this process has claimed it again
            held.try_finish(first)
            held.remove(first)
            held.add(second)
        return [[b"r", b"n", b"lost"] for _ in calls]

    link: Any = SimpleNamespace(send=send, redis=SimpleNamespace(hset=lambda *_, **__: 0), call_once=lambda _call: True)
    control: Any = SimpleNamespace(held=held, lose_lease=lambda found, _why: held.try_lose(found))
    settings: Any = SimpleNamespace(worker_id="w", lease_ms=1000, heartbeat=1.0)
    liveness: Any = SimpleNamespace(lost=list)
    counters: Any = SimpleNamespace(fields=dict, attempts_given_up=0)
    renewer = LeaseRenewer(link, control, Partitions("t", 1), settings, liveness, counters, lambda: None)
    renewer.step()

    current = second if again else first
    assert (current.state is AttemptState.LOST) is lost
    assert (held.get("r", "n") is None) is lost
