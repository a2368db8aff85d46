"""Runs claimed nodes: the claim, the handler, the outcome, the script call. Shared by worker threads and the event loop."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import redis
from loguru import logger

from flowcraft_sdk.errors import SerializationError
from flowcraft_sdk.node import NodeCancelled
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.config.handler import Handler
from flowcraft_server.engine import dynamic
from flowcraft_server.engine.attempt import Attempt, AttemptState
from flowcraft_server.engine.builtins import BUILTINS, MADE_OF_OTHERS, SUBFLOW, check_iterations
from flowcraft_server.engine.claims import Claim, parse_claim
from flowcraft_server.engine.contexts import BlockingNodeContext
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.failures import HandlerNotFound, InvalidNodeInput, NodeTimeout, describe
from flowcraft_server.engine.outcome import Done, Outcome, Parked, unpack_result
from flowcraft_server.engine.plans import PlanCache
from flowcraft_server.engine.subflows import called_by
from flowcraft_server.observability.current_node import enter_node, leave_node
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.store.link import StoreUnavailable
from flowcraft_server.store.own_connection import UnsendableError
from flowcraft_server.worker.commit_batcher import CommitBatcher
from flowcraft_server.worker.execution_record import ExecutionRecord, described
from flowcraft_server.worker.forking import end_fork
from flowcraft_server.worker.in_flight import InFlightAttempts
from flowcraft_server.worker.process_state import ProcessState
from flowcraft_server.worker.settings import WorkerSettings

MOST_TOLD = 1000
SHORTEST_HAND_BACK, LONGEST_HAND_BACK = 0.5, 8.0
"""Seconds for which a node is handed back whose handler is not here: longer each time, as others look at it meanwhile."""


class Bridge(Protocol):
    """Where coroutines go."""

    def submit(self, attempt: Attempt) -> None:
        """Run an attempt's coroutine; its outcome is committed from there."""


class NodeRunner:
    """Everything of a worker process that running one node takes."""

    def __init__(
        self,
        engine: Engine,
        plans: PlanCache,
        handlers: Mapping[str, Handler],
        held: InFlightAttempts,
        commit_batcher: CommitBatcher,
        settings: WorkerSettings,
        models: Any = None,
    ) -> None:
        self.engine = engine
        self.plans = plans
        self.handlers = handlers
        self.held = held
        self.commit_batcher = commit_batcher
        self.settings = settings
        self.models = models
        self.bridge: Bridge | None = None
        self.poke_sweeper: Callable[[float], None] = lambda _seconds: None
        self.executing: ExecutionRecord | None = None
        self.process_state = ProcessState(active=settings.owns_process)
        self._redactor = Redactor(settings.secrets)
        self._direct: dict[int, Attempt] = {}
        self._told_large: set[tuple[str, str]] = set()
        self._missing: dict[tuple[str, str], tuple[float, int]] = {}
        queues = ",".join(settings.queues)
        self._claim_requests = {
            mode: ClaimRequest(settings.worker_id, settings.lease_ms, queues, mode) for mode in "qn-"
        }

    def request(self, mode: str = "-") -> ClaimRequest:
        """This worker's request for a next claim in a mode; by default none is asked for."""
        return self._claim_requests[mode]

    def receive(self, reply: Any) -> Attempt | None:
        """Hold the node that a script's reply brings; None if its plan cannot be had: then its lease runs out."""
        claim = parse_claim(reply)
        try:
            plan = self.plans.get(claim.plan_hash)
            node = plan.nodes.get(claim.node_id) or dynamic.plan_node(self.engine, claim, plan)
            attempt = self.engine.open(claim, plan, node, self.handlers.get(self._uses(node.node, claim)))
        except Exception as error:
            logger.error("run {} node {}: cannot be opened: {}", claim.run_id, claim.instance_id, error)
            return None
        self.held.add(attempt)
        return attempt

    def run(self, attempt: Attempt, request: Callable[[], ClaimRequest]) -> ScriptCall | None:
        """Run a held node; None when a coroutine was handed to the event loop, which commits by itself.

        Args:
            request: asked once the node has run, for how the next claim is to be had.
        """
        try:
            outcome = self._outcome(attempt)
        except BaseException as error:  # SystemExit and the like, too: whatever leaves a handler ends its attempt
            attempt.leftovers.append(error)
            return self.build_failure_call(attempt, error, request)
        attempt.leftovers.append(outcome)
        return None if outcome is None else self.build_outcome_call(attempt, outcome, request)

    @staticmethod
    def _uses(node: Any, claim: Claim) -> str:
        if claim.item is None:
            return str(node.uses)
        if node.params.get("call") is not None:
            return SUBFLOW
        return str(node.params.get("workerUsesKey") or node.params.get("uses"))

    def _outcome(self, attempt: Attempt) -> Outcome | None:
        claim = attempt.claim
        if attempt.stopped:  # the run was stopped before the node began
            raise NodeCancelled(f"node '{claim.instance_id}' is to stop: {attempt.stop_reason}")
        if attempt.timeout is not None:
            attempt.deadline = clock() + attempt.timeout
        self.engine.prepare(attempt)
        if claim.iterations:
            check_iterations(attempt)
        if claim.attached is not None and (made := MADE_OF_OTHERS.get(claim.attached[0])):
            return made(self.engine, attempt)
        uses = self._uses(attempt.node.node, claim)
        builtin = BUILTINS.get(uses) if claim.item is None or uses == SUBFLOW else None
        if builtin is not None:
            return builtin(self.engine, attempt, self.plans)
        if attempt.handler is None:
            return self._missing_handler(attempt)
        if attempt.handler.is_async:
            assert self.bridge is not None
            self.bridge.submit(attempt)
            return None
        model = self.llm(awaited=False, deadline=attempt.deadline)
        context = BlockingNodeContext(self.engine, attempt, self.logger, self.emit, model)
        token = enter_node(claim.run_id, claim.instance_id)
        record = self.executing
        if record is not None:
            record.begin(described(attempt))
        try:
            return Done(*unpack_result(attempt.handler.function(context)))
        finally:
            end_fork()
            if record is not None:
                record.end()
            leave_node(token)

    def _missing_handler(self, attempt: Attempt) -> Outcome:
        """During a rolling deploy another worker may have it: hand the node back for a while, then fail it."""
        claim = attempt.claim
        name = self._uses(attempt.node.node, claim)
        now = self.engine.store_seconds()
        since, times = self._missing.get(attempt.key, (now, 0))
        if now - since < self.settings.missing_handler_timeout:
            if len(self._missing) >= MOST_TOLD:  # others took them meanwhile, without notice
                self._missing.pop(next(iter(self._missing)))
            self._missing[attempt.key] = since, times + 1
            pause = min(SHORTEST_HAND_BACK * 2**times, LONGEST_HAND_BACK)
            logger.bind(run=claim.run_id, node=claim.instance_id, blueprint=claim.blueprint_id).warning(
                "no handler '{}' here: handing the node back for {:g} s; is another deployment served under this name?",
                name, pause,
            )  # fmt: skip
            attempt.due = pause
            return Parked(self._release(attempt, round(pause * 1000)))
        self._missing.pop(attempt.key, None)
        known = ", ".join(sorted(self.handlers)) or "none"
        raise HandlerNotFound(f"no worker has a handler '{name}'; known here: {known}")

    def _release(self, attempt: Attempt, delay_ms: int) -> ScriptCall:
        claim = attempt.claim
        return scripts.release(
            self.engine.keys,
            run_id=claim.run_id,
            instance_id=claim.instance_id,
            fencing_token=claim.fencing_token,
            delay_ms=delay_ms,
        )

    def build_outcome_call(
        self, attempt: Attempt, outcome: Outcome, request: Callable[[], ClaimRequest]
    ) -> ScriptCall | None:
        """The call for an outcome; None if the attempt's outcome was handed in before."""
        if isinstance(outcome, Parked):
            return outcome.call if self.held.try_finish(attempt) else None
        try:
            if outcome.added:
                call = dynamic.expand(self.engine, attempt, outcome.output, outcome.action, outcome.added)
                return call if self.held.try_finish(attempt) else None
            encoded = outcome.encoded
            if encoded is None:
                encoded = self.engine.encode_output(attempt, outcome.output)
            # Only now is a next node asked for: what foreign values do while they are encoded may never return.
            call = self.engine.completed(attempt, request(), encoded, outcome.action, caught=outcome.caught)
        except BaseException as error:  # foreign values have code of their own, which is called when they are encoded
            return self.build_failure_call(attempt, error, request)
        for what, size in attempt.large:
            self._tell_large(attempt, what, size)
        return call if self.held.try_finish(attempt) or attempt.state is AttemptState.LOST else None

    def _tell_large(self, attempt: Attempt, what: str, size: int) -> None:
        """Say of a place that its values are large, once."""
        place = (attempt.claim.blueprint_id, what)
        if place not in self._told_large and len(self._told_large) < MOST_TOLD:
            self._told_large.add(place)
            logger.bind(run=attempt.claim.run_id, node=attempt.claim.instance_id).warning(
                "{} takes {} bytes, over limits.inlineValue of {}: keep large values elsewhere and pass on where",
                what, size, self.settings.inline_value,
            )  # fmt: skip

    def build_failure_call(
        self, attempt: Attempt, error: BaseException, request: Callable[[], ClaimRequest]
    ) -> ScriptCall | None:
        """The call for an attempt that raised; None if its outcome was handed in before."""
        # Before the outcome counts as handed in: a foreign exception may have code of its own that never returns.
        failure = describe(error, self._redactor)
        if not self.held.try_finish(attempt):
            return None
        claim = attempt.claim
        if isinstance(error, StoreUnavailable) and not attempt.stopped:  # no fault of the node: it is run again
            logger.warning("run {} node {}: {}; handing it back", claim.run_id, claim.instance_id, error)
            attempt.due = 0.5
            return self._release(attempt, 500)
        stopping = attempt.stopped and attempt.stop_reason != "node-timeout"
        if stopping and isinstance(error, NodeCancelled):
            return self.engine.cancelled(attempt, request())
        asked = request()
        try:
            call = self.engine.failed(attempt, asked, failure)
        except (
            Exception
        ):  # a bug, or a setting that nothing checked: the node must fail all the same, and not run for ever
            logger.exception("run {} node {}: whether it is tried again cannot be decided", *attempt.key)
            call = self.engine.failed(attempt, asked, failure, final=True)
        told = logger.bind(run=claim.run_id, node=claim.instance_id, blueprint=claim.blueprint_id)
        if attempt.will_retry or not failure.traceback:
            told.warning("attempt {} failed: {}: {}", claim.attempt, failure.type, failure.message)
        else:  # its last line says type and message
            told.warning("attempt {} failed, the last one: {}", claim.attempt, failure.traceback.rstrip())
        return call

    def on_reply(self, attempt: Attempt, call: ScriptCall, reply: Any) -> Attempt | None:
        """Take note of the reply to an attempt's call; returns the next node if it brought one."""
        self.held.remove(attempt)
        if isinstance(reply, UnsendableError):
            self._fail_again(attempt, SerializationError(f"the outcome cannot be stored: {reply}", "output"))
            return None
        if isinstance(reply, redis.exceptions.ResponseError):
            logger.error("Redis refused {} for run {} node {}: {}", call.script.name, *attempt.key, reply)
            return None
        if attempt.due is not None:  # not before it is recorded: the sweeper must find the timer
            self.poke_sweeper(attempt.due)
        code = reply[0]
        if code == b"stale":
            logger.warning("run {} node {}: outcome refused, the node is no longer ours", *attempt.key)
        elif code in (b"no-blueprint", b"too-deep", b"clash", b"too-many", b"taken"):
            self._refused(attempt, code.decode(), reply)
        elif code == b"other-plan":
            self._start_child_anew(attempt)
        elif reply[1:2] == [b"failed"]:
            self._tell_failed(attempt)
        return self.receive(reply[2]) if len(reply) > 2 and reply[2] else None

    @staticmethod
    def _tell_failed(attempt: Attempt) -> None:
        """Say that a run failed, of which this attempt's outcome was the last."""
        claim, failure = attempt.claim, attempt.failure
        why = f": node '{claim.instance_id}': {failure.type}: {failure.message}" if failure is not None else ""
        logger.bind(run=claim.run_id, blueprint=claim.blueprint_id).error("run failed{}", why)

    def _refused(self, attempt: Attempt, code: str, reply: Any) -> None:
        """The script would not start a child or add nodes: a failure of the node, which is still held."""
        detail = reply[1].decode() if code in ("clash", "taken") else ""
        what = {
            "too-deep": f"subflows nest deeper than {self.settings.max_depth} (limits.subflowDepth)",
            "no-blueprint": f"no blueprint '{called_by(attempt).blueprint_id}' is published",
            "taken": f"no id is free for the child run: '{detail}' and the ones before it are taken",
            "clash": f"the dynamic node '{detail}' has the id of another node of the run",
            "too-many": f"the run would have more than {self.settings.max_nodes} dynamic nodes (limits.dynamicNodes)",
        }[code]
        self._fail_again(attempt, InvalidNodeInput(f"node '{attempt.claim.instance_id}': {what}"))

    def _fail_again(self, attempt: Attempt, error: Exception) -> None:
        """Record a failure in place of an outcome that could not be recorded: the node is still held."""
        self.held.reopen(attempt)
        self.commit_later(attempt, lambda: self.build_failure_call(attempt, error, self.request))

    def _start_child_anew(self, attempt: Attempt) -> None:
        """The child's blueprint was published anew since this process looked: its inputs are checked against that."""
        self.plans.forget(str(called_by(attempt).blueprint_id))
        self.held.reopen(attempt)
        self.run_and_commit(attempt)

    def commit_later(self, attempt: Attempt, make: Callable[[], ScriptCall | None]) -> None:
        """Have the commit_batcher record an attempt's outcome; a node that the reply brings is run from there."""
        sent: list[ScriptCall] = []

        def build() -> ScriptCall | None:
            try:
                call = make()
            except BaseException:
                self.held.remove(attempt)  # not renewed any more: another worker gets to try
                raise
            if call is not None:
                sent.append(call)
            return call

        def on_reply(reply: Any) -> None:
            following = self.on_reply(attempt, sent[0], reply)
            if following is not None:
                self.run_and_commit(following)

        self.commit_batcher.put(build, on_reply, attempt)

    def run_and_commit(self, attempt: Attempt) -> None:
        """Run a node that occupies no thread: a coroutine or a built-in kind, from whichever thread commits."""
        self._direct[id(attempt)] = attempt
        try:
            call = self.run(attempt, self.request)
            if call is not None:
                made = call
                self.commit_later(attempt, lambda: made)
        finally:
            self._direct.pop(id(attempt), None)

    def direct(self) -> list[Attempt]:
        """What `run_and_commit` runs right now."""
        return list(self._direct.values())

    def give_up(self, attempt: Attempt, why: str) -> None:
        """Hand back a node that has no code behind it any more, so that it is run again without waiting for its lease."""
        self.held.try_finish(attempt)
        attempt.request_stop(why)
        logger.bind(run=attempt.claim.run_id, node=attempt.claim.instance_id).warning("attempt given up: {}", why)
        call = self._release(attempt, 0)
        self.commit_later(attempt, lambda: call)

    def timed_out(self, attempt: Attempt) -> None:
        """A node took too long: fail it now, whatever its thread still does."""
        error = NodeTimeout(f"node '{attempt.claim.instance_id}' took longer than its timeout of {attempt.timeout:g} s")
        call = self.build_failure_call(
            attempt, error, self.request
        )  # before the handler is interrupted: the first counts
        attempt.request_stop("node-timeout")
        self.commit_later(attempt, lambda: call)

    def lose_lease(self, attempt: Attempt, why: str) -> None:
        """The node is no longer ours: whatever its handler still does is not waited for, and the store refuses it."""
        self.held.try_lose(attempt)
        attempt.request_stop(why)

    def lose_leases_of_run(self, run_id: str, created: int | None = None) -> None:
        """A run has ended with nodes that did not give up in time.

        Args:
            created: when the run was created, in ms: another one may have its id by now.
        """
        for attempt in self.held.all():
            if attempt.claim.run_id == run_id and created in (None, attempt.claim.run_created):
                self.lose_lease(attempt, "the grace is over")

    def hand_back(self, attempt: Attempt) -> None:
        """Give up the lease of a node that has not finished, so that another worker takes it without waiting."""
        if self.held.try_finish(attempt):
            call = self._release(attempt, 0)
            self.commit_later(attempt, lambda: call)

    def emit(self, attempt: Attempt, kind: str, rest: bytes) -> None:
        """Queue a progress or custom event of a running node; it goes out before the node's outcome."""
        if attempt.has_ended:
            return
        claim = attempt.claim
        attempt.has_emitted = True
        rest = self._redactor.clean_bytes(rest)
        call = scripts.emit(
            self.engine.keys,
            run_id=claim.run_id,
            instance_id=claim.instance_id,
            fencing_token=claim.fencing_token,
            events=[(kind, rest)],
        )
        self.commit_batcher.put(call, lambda _reply: None)

    def emit_event(self, attempt: Attempt, name: str, data: Any) -> None:
        """Add an event of the worker's own to the history of a running node."""
        self.emit(attempt, "e", name.encode() + b"|" + wire.dumps(data))

    def logger(self, attempt: Attempt) -> Any:
        """A logger that names the run and the node on each line."""
        return logger.bind(run=attempt.claim.run_id, node=attempt.claim.instance_id)

    def llm(self, *, awaited: bool, deadline: float | None = None) -> Any:
        """The language model handed to handlers, or None when the deployment configures none."""
        return None if self.models is None else self.models.for_handler(awaited=awaited, deadline=deadline)
