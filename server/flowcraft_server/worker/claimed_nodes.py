"""Asking for nodes, and opening the ones that a claim brings."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimMode, ClaimRequest
from flowcraft_server.config.handler import Handler
from flowcraft_server.engine import dynamic
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.claims import Claim, parse_claim
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.plans import PlanCache, PlanTooNew
from flowcraft_server.engine.subflows import SUBFLOW
from flowcraft_server.store.link import StoreUnavailable
from flowcraft_server.worker.activity import Activity
from flowcraft_server.worker.in_flight import InFlightAttempts
from flowcraft_server.worker.settings import WorkerSettings


def kind_of(node: Any, claim: Claim) -> str:
    """What runs a claimed node: the name of a handler or of a built-in kind. For an item that is what its batch declares."""
    if claim.item is None:
        return str(node.uses)
    if node.params.get("call") is not None:
        return SUBFLOW
    return str(node.params.get("workerUsesKey") or node.params.get("uses"))


TOO_NEW_PAUSE = 2.0
"""Seconds for which a node is left to workers of a newer release."""


class ClaimedNodes:
    """Makes this worker's claim requests, and attempts of what the scripts reply to them."""

    def __init__(
        self,
        engine: Engine,
        plans: PlanCache,
        handlers: Mapping[str, Handler],
        held: InFlightAttempts,
        settings: WorkerSettings,
        activity: Activity,
    ) -> None:
        self._engine = engine
        self._plans = plans
        self._handlers = handlers
        self._held = held
        self._activity = activity
        queues = ",".join(settings.queues)
        self._requests = {mode: ClaimRequest(settings.worker_id, settings.lease_ms, queues, mode) for mode in ClaimMode}

    def request(self, mode: ClaimMode = ClaimMode.NONE) -> ClaimRequest:
        """This worker's request for a next claim; by default none is asked for."""
        return self._requests[mode]

    def open(self, reply: Any) -> Attempt | None:
        """Hold the node that a script's reply brings; None if its plan cannot be had: then its lease runs out."""
        claim = parse_claim(reply)
        try:
            plan = self._plans.get(claim.plan_hash)
            node = plan.nodes.get(claim.node_id) or dynamic.plan_node(self._engine, claim, plan)
            handler = self._handlers.get(kind_of(node.node, claim))
            attempt = self._engine.open(claim, plan, node, handler)
        except PlanTooNew as error:
            logger.warning(
                "run {} node {}: {}; handing it back for {:g} s", claim.run_id, claim.instance_id, error, TOO_NEW_PAUSE
            )
            self._hand_back(claim)
            return None
        except Exception as error:
            logger.error("run {} node {}: cannot be opened: {}", claim.run_id, claim.instance_id, error)
            return None
        self._held.add(attempt)
        if handler is not None:
            self._activity.delayed(handler.name, claim.delay)
        return attempt

    def _hand_back(self, claim: Claim) -> None:
        """Give a node back that this worker does not know how to run; it counts as no attempt and no crash."""
        call = scripts.release(
            self._engine.partitions.for_run(claim.run_id),
            run_id=claim.run_id,
            instance_id=claim.instance_id,
            fencing_token=claim.fencing_token,
            delay_ms=int(TOO_NEW_PAUSE * 1000),
        )
        with suppress(StoreUnavailable):  # else its lease runs out
            self._engine.link.call(call)
