"""Claims that were applied while their replies were lost: their nodes are handed back, and nobody else's are."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.engine.claims import Claim, parse_claim
from flowcraft_server.store.link import StoreLink, StoreUnavailable
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.background import lost_claims
from flowcraft_server.worker.background.lost_claims import SETTLED, LostClaims
from flowcraft_server.worker.in_flight import InFlightAttempts

ONE = {"id": "one", "nodes": [{"id": "a", "uses": "x"}], "edges": []}


class Held(InFlightAttempts):
    """Holds the claims that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: dict[str, Claim] = {}

    def get(self, run_id: str, instance_id: str) -> Any:
        claim = self.claims.get(run_id)
        return None if claim is None else type("Attempt", (), {"claim": claim})


def test_only_what_this_worker_has_claimed_without_knowing_is_handed_back(
    environment: Callable[..., TestEnvironment], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(lost_claims, "clock", lambda: now)
    env = environment(workers=0, handlers={"x": lambda ctx: 1}, blueprints=ONE)
    held = Held()
    lost = LostClaims(env.link, env.partitions, "w1", held)

    def claim(run_id: str, worker: str) -> Claim:
        env.client.start("one", run_id=run_id)
        call = scripts.claim(env.partitions.for_run(run_id), ClaimRequest(worker, 10_000, "default"))
        (reply,) = env.link.call(call)
        lost.note([call])
        return parse_claim(reply)

    def ready(run_id: str) -> bool:
        return env.client.get_handle(run_id).describe().nodes["a"].status == "ready"

    held.claims["known"] = claim("known", "w1")
    claim("unknown", "w1")
    claim("other", "w2")
    assert lost.look() == 0, "its reply may still come"
    now += SETTLED
    env.clock.advance(SETTLED + 0.1)
    assert lost.look() == 1
    assert [name for name in ("known", "unknown", "other") if ready(name)] == ["unknown"]
    assert env.client.get_handle("unknown").describe().nodes["a"].crashes == 0
    assert lost.look() == 0
    env.add_worker()
    env.client.get_handle("unknown").wait(timeout=10)
    env.clock.advance(11, keep_leases=False)
    for name in ("known", "other"):
        env.client.get_handle(name).wait(timeout=10)


def test_what_was_not_answered_is_noted() -> None:
    link, noted = StoreLink("redis://127.0.0.1:1/0"), []
    link.on_unanswered = noted.extend
    call = scripts.claim(Keys("n"), ClaimRequest("w1", 1000, "default"))
    with pytest.raises(StoreUnavailable):
        link.call(call)
    assert noted == [call]
    link.close()
