"""Asking for nodes, and opening the ones that a claim brings."""

from collections.abc import Mapping
from typing import Any

from loguru import logger

from flowcraft_sdk.protocol.scripts import ClaimMode, ClaimRequest
from flowcraft_server.config.handler import Handler
from flowcraft_server.engine import dynamic
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.claims import Claim, parse_claim
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.plans import PlanCache
from flowcraft_server.engine.subflows import SUBFLOW
from flowcraft_server.worker.in_flight import InFlightAttempts
from flowcraft_server.worker.settings import WorkerSettings


def kind_of(node: Any, claim: Claim) -> str:
    """What runs a claimed node: the name of a handler or of a built-in kind. For an item that is what its batch declares."""
    if claim.item is None:
        return str(node.uses)
    if node.params.get("call") is not None:
        return SUBFLOW
    return str(node.params.get("workerUsesKey") or node.params.get("uses"))


class ClaimedNodes:
    """Makes this worker's claim requests, and attempts of what the scripts reply to them."""

    def __init__(
        self,
        engine: Engine,
        plans: PlanCache,
        handlers: Mapping[str, Handler],
        held: InFlightAttempts,
        settings: WorkerSettings,
    ) -> None:
        self._engine = engine
        self._plans = plans
        self._handlers = handlers
        self._held = held
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
            attempt = self._engine.open(claim, plan, node, self._handlers.get(kind_of(node.node, claim)))
        except Exception as error:
            logger.error("run {} node {}: cannot be opened: {}", claim.run_id, claim.instance_id, error)
            return None
        self._held.add(attempt)
        return attempt
