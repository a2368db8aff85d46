"""Sends the calls that record outcomes, and handles the replies to them."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis
from loguru import logger

from flowcraft_sdk.errors import SerializationError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_server.engine.attempt import Attempt, ChildEnd
from flowcraft_server.engine.claims import REPLY_CLAIM
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.failures import InvalidNodeInput
from flowcraft_server.engine.plans import PlanCache
from flowcraft_server.engine.run_failures import first_failure
from flowcraft_server.engine.subflows import called_by
from flowcraft_server.store.own_connection import UnsendableError
from flowcraft_server.worker.claimed_nodes import ClaimedNodes
from flowcraft_server.worker.commit_batcher import CommitBatcher
from flowcraft_server.worker.in_flight import InFlightAttempts
from flowcraft_server.worker.memories import StoredMemories
from flowcraft_server.worker.node_tracing import NodeTracing
from flowcraft_server.worker.outcome_calls import OutcomeCalls
from flowcraft_server.worker.settings import WorkerSettings

ENDED = frozenset({b"completed", b"failed", b"cancelled", b"timed_out"})

RunNext = Callable[[Attempt], None]


class OutcomeRecorder:
    """Records outcomes through the commit batcher, and decides what follows from the reply.

    Args:
        tracing: makes the spans of runs that end; None for none.
        engine: reads what a run failed with.
        memories: what the turns join that handlers have laid beside memories.
        wake_sweeper: called with the seconds after which a recorded timer falls due, and its run.
    """

    def __init__(
        self,
        calls: OutcomeCalls,
        claimed_nodes: ClaimedNodes,
        plans: PlanCache,
        held: InFlightAttempts,
        commit_batcher: CommitBatcher,
        settings: WorkerSettings,
        wake_sweeper: Callable[[float, str], None],
        tracing: NodeTracing | None = None,
        *,
        memories: StoredMemories,
        engine: Engine,
    ) -> None:
        self._engine = engine
        self._memories = memories
        self._calls = calls
        self._claimed_nodes = claimed_nodes
        self._plans = plans
        self._held = held
        self._commit_batcher = commit_batcher
        self._settings = settings
        self._wake_sweeper = wake_sweeper
        self._tracing = tracing

    def record(self, attempt: Attempt, make: Callable[[], ScriptCall | None], run_next: RunNext | None = None) -> None:
        """Have the commit batcher record an attempt's outcome.

        Args:
            make: builds the call, in the batcher's thread; None if there is nothing to record any more.
            run_next: runs a node that the reply brings; without it, one that comes all the same is handed back.
        """
        sent: list[ScriptCall] = []

        def build() -> ScriptCall | None:
            try:
                call = make()
            except BaseException:
                self._held.remove(attempt)  # not renewed any more: another worker gets to try
                raise
            if call is not None:
                sent.append(call)
            return call

        def on_reply(reply: Any) -> None:
            following = self.on_reply(attempt, sent[0], reply)
            if following is not None:
                (run_next or self.hand_back)(following)

        self._commit_batcher.put(build, on_reply, attempt)

    def hand_back(self, attempt: Attempt) -> None:
        """Give up the lease of a node that has not finished, so that another worker takes it without waiting."""
        if self._held.try_finish(attempt):
            call = self._calls.release(attempt)
            self.record(attempt, lambda: call)

    def on_reply(self, attempt: Attempt, call: ScriptCall, reply: Any) -> Attempt | None:
        """Handle the reply to an attempt's call; returns the node to run next if there is one.

        That is the claim that the reply brings; or the attempt itself, where a subflow has to be started anew.
        """
        self._held.remove(attempt)
        if type(reply) is not list:
            if isinstance(reply, UnsendableError):
                self._fail_instead(attempt, SerializationError(f"the outcome cannot be stored: {reply}", "output"))
                return None
            if isinstance(reply, redis.exceptions.ResponseError):
                logger.error("Redis refused {} for run {} node {}: {}", call.script.name, *attempt.key, reply)
                return None
        if attempt.due is not None:  # not before it is recorded: the sweeper must find the timer
            self._wake_sweeper(attempt.due, attempt.claim.run_id)
        code = reply[0]
        if code == b"ok":
            if attempt.remembered:  # else the mark in the run says whether it has completed
                self._memories.settle(attempt, call.script.name == "complete")
            if self._tracing is not None and len(reply) > 1 and reply[1] in ENDED:
                self._tracing.run_ended(attempt.claim, reply[1].decode())
        elif code == b"stale":
            logger.warning("run {} node {}: outcome refused, the node is no longer ours", *attempt.key)
        elif code in (b"no-blueprint", b"too-deep", b"clash", b"too-many", b"taken"):
            self._fail_instead(attempt, self._refusal(attempt, code.decode(), reply))
        elif code == b"other-plan":
            # The child's blueprint was published anew since this process looked: its inputs are checked against that.
            self._plans.forget(str(called_by(attempt).blueprint_id))
            self._held.reopen(attempt)
            return attempt
        elif code in (b"rerun", b"no-draft"):  # the child is to take over from another one, or cannot after all
            attempt.former_child = reply[1].decode() if code == b"rerun" else ""
            self._held.reopen(attempt)
            return attempt
        claim = reply[REPLY_CLAIM] if len(reply) > REPLY_CLAIM else None
        following = self._claimed_nodes.open(claim) if claim else None
        if following is not None and following.claim.attached is not None and code == b"ok":
            following.child_end = _child_end(attempt, call, following)
        if code == b"ok" and len(reply) > 1 and reply[1] == b"failed":
            self._log_failed_run(attempt)
        return following

    def _log_failed_run(self, attempt: Attempt) -> None:
        """Log that a run failed, and what failed first: this attempt was its last, a `finally` node or another branch maybe.

        The reply may have brought a node: nothing is raised, and what cannot be read at once is left out.
        """
        run_id, failure = attempt.claim.run_id, None
        with suppress(Exception):
            failure, _ = first_failure(self._engine.link.read_fields_once, self._engine.run_key(run_id))
        why = "" if failure is None else f": node '{failure.node_id}': {failure.type}: {failure.message}"
        logger.bind(run=run_id, blueprint=attempt.claim.blueprint_id).error("run failed{}", why)

    def _refusal(self, attempt: Attempt, code: str, reply: Any) -> InvalidNodeInput:
        """The node's failure where a script would not start a child or add nodes."""
        detail = reply[1].decode() if code in ("clash", "taken") else ""
        what = {
            "too-deep": f"subflows nest deeper than {self._settings.max_depth} (limits.subflowDepth)",
            "no-blueprint": f"no blueprint '{called_by(attempt).blueprint_id}' is published",
            "taken": f"no id is free for the child run: '{detail}' and the ones before it are taken",
            "clash": f"the dynamic node '{detail}' has the id of another node of the run",
            "too-many": f"the run would have more than {self._settings.max_nodes} dynamic nodes (limits.dynamicNodes)",
        }[code]
        return InvalidNodeInput(f"node '{attempt.claim.instance_id}': {what}")

    def _fail_instead(self, attempt: Attempt, error: Exception) -> None:
        """Record a failure in place of an outcome that could not be recorded: the node is still held."""
        self._held.reopen(attempt)
        self.record(attempt, lambda: self._calls.for_failure(attempt, error, self._claimed_nodes.request))


def _child_end(attempt: Attempt, call: ScriptCall, following: Attempt) -> ChildEnd | None:
    """What the node that waited for a child run needs of it, if this call, of its last node, has just completed it."""
    claim = attempt.claim
    if following.claim.attached != ("child", claim.run_id, "completed") or claim.item is not None:
        return None
    output = scripts.completed_output(call)
    return None if output is None else ChildEnd(claim.plan_hash, f"o:{claim.instance_id}", output)
