"""What a worker thread does when it is woken: take a node, run it, hand in what came of it, and on, for a bounded while."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import redis
from loguru import logger

from flowcraft_sdk._transport.redis_errors import condition_of
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.claims import REPLY_READY
from flowcraft_server.store.link import StoreLink, StoreUnavailable
from flowcraft_server.worker.async_executor import AsyncExecutor
from flowcraft_server.worker.attempt_control import AttemptControl
from flowcraft_server.worker.claimed_nodes import ClaimedNodes
from flowcraft_server.worker.commit_batcher import MOST_OF_A_THREAD, CommitBatcher, GaveUp
from flowcraft_server.worker.lost_threads import RunningFunctions, Turn
from flowcraft_server.worker.node_runner import NodeRunner
from flowcraft_server.worker.outcome_recorder import OutcomeRecorder
from flowcraft_server.worker.prefetch import MANY, NONE, PrefetchBuffer
from flowcraft_server.worker.process_state import ProcessState
from flowcraft_server.worker.ready_partitions import LEAST_SHARE, ReadyPartitions, Share
from flowcraft_server.worker.wake_ups import TASK, LocalWakeUps, WakeUps, warn_foreign

SLICE_SECONDS = 0.25
STAND_BY_SECONDS = 0.05

CLAIMING = ("complete", "fail", "start_child")
TASK_BYTES = TASK.encode()


class ThreadLoop:
    """The body of Huey's one task, shared by all worker threads.

    The threads share one prefetch of claimed nodes and one queue of finished steps. A thread sends what is finished, its
    own and the others', when it has no quick node left to run; the replies bring the next nodes.
    """

    def __init__(
        self,
        runner: NodeRunner,
        recorder: OutcomeRecorder,
        control: AttemptControl,
        claimed_nodes: ClaimedNodes,
        process_state: ProcessState,
        prefetch: PrefetchBuffer,
        commit_batcher: CommitBatcher,
        executor: AsyncExecutor,
        link: StoreLink,
        partitions: Partitions,
        draining: threading.Event,
        stopping: threading.Event,
        running: RunningFunctions,
        wake_ups: WakeUps | LocalWakeUps,
        ready_partitions: ReadyPartitions | None = None,
    ) -> None:
        self._runner = runner
        self._recorder = recorder
        self._control = control
        self._claimed_nodes = claimed_nodes
        self._process_state = process_state
        self._prefetch = prefetch
        self._commit_batcher = commit_batcher
        self._running = running
        self._wake_ups = wake_ups
        self._executor = executor
        self._link = link
        self._partitions = partitions
        self._keys = partitions.home
        self._ready_partitions = ready_partitions
        self._draining = draining
        self._stopping = stopping
        self._ready = 0
        self._last_warning = ""

    def run(self) -> None:
        """Work until nothing is ready, a stop is asked for or the slice is over; then back to Huey."""
        turn = Turn(clock() + SLICE_SECONDS)
        self._prefetch.enter()
        self._running.enter(turn)
        try:
            self._work(turn)
        except GaveUp as error:
            logger.warning("stopping: {}", error)
        except StoreUnavailable as error:
            self._warn(str(error))
            self._stopping.wait(0.2)
        except (
            BaseException
        ):  # an asynchronous exception, or an error of our own: the thread goes back to Huey all the same
            logger.exception("a worker thread met an error outside of a node; it is still running")
        finally:
            self._running.leave(turn)
            if not turn.abandoned and turn.counted:
                self._prefetch.leave()

    def _work(self, turn: Turn) -> None:
        finished = self._commit_batcher.finished
        while not self._draining.is_set() and not turn.abandoned:
            now = clock()
            if now > turn.until:  # what is in prefetch is there for the next turn, or for another thread
                if finished:
                    self._commit_batcher.flush()
                return self._leave_token()
            attempt = self._prefetch.take(now) if len(finished) < MOST_OF_A_THREAD else None
            if attempt is not None:
                self._run(attempt, turn)
            elif finished:
                self._flush()
            elif turn.ready == 0 if self._ready_partitions is None else not self._ready_partitions:
                if not self._sleep(turn):
                    return None
            elif (wanted := self._prefetch.wanted()) > 0:
                if not self._claim(wanted):
                    return None
            else:
                self._prefetch.wait(STAND_BY_SECONDS)
        if finished:
            self._commit_batcher.flush()
        return None

    def _sleep(self, turn: Turn) -> bool:
        """Sleep until woken, for the rest of the slice; then Huey does. False if the thread was not woken."""
        self._prefetch.leave()
        turn.counted = False
        try:
            message = self._wake_ups.wait(max(0.001, turn.until - clock()))
        except redis.exceptions.ResponseError:  # Huey's sleep meets it, too, and reports it
            return False
        finally:
            self._prefetch.enter()
            turn.counted = True
        if message is None:
            return False
        if TASK_BYTES not in message:
            warn_foreign(message[:80])
        turn.ready = None
        return True

    def _run(self, attempt: Attempt, turn: Turn) -> None:
        uses = attempt.node.node.uses
        quick = self._prefetch.is_quick(uses)
        if self._commit_batcher.finished and not quick:
            self._flush()  # nothing finished waits behind a node that may be slow
        self._prefetch.beginning(uses)
        if finished := self._commit_batcher.finished:
            self._prefetch.leave_unattended(len(finished))
        elif self._prefetch:
            self._prefetch.leave_unattended()
        mode = NONE

        def next_claim() -> ClaimRequest:
            nonlocal mode
            # Of what has emitted events another thread handles the reply; this one may be gone when it brings a node.
            if mode is NONE and not (attempt.has_emitted or self._draining.is_set() or clock() > turn.until):
                elsewhere = self._ready_partitions is not None and self._ready_partitions.turn_is_over(
                    self._partitions.for_run(attempt.claim.run_id)
                )
                mode = self._prefetch.claim_mode(attempt.brings_another, elsewhere=elsewhere)
            return self._claimed_nodes.request(mode)

        begin = clock()
        turn.attempt = attempt
        call = None
        try:
            call = self._runner.run(attempt, next_claim)
        except BaseException:
            logger.exception("run {} node {}: no outcome could be made", *attempt.key)
            self._control.give_up(attempt, "no outcome could be made")
        seconds = clock() - begin
        asked = mode is not NONE
        if asked and (call is None or call.script.name not in CLAIMING or call.args[scripts.MODE] != mode):
            self._prefetch.put([], 1)
            asked = False
        if call is not None:
            # An outcome follows the attempt's events on their lane, as they must be there first.
            send = self._commit_batcher.put if attempt.has_emitted else self._commit_batcher.add
            send(call, self._reply_handler(attempt, call, turn if asked else None), attempt)
        # Only now, as destructors of foreign objects are code like a handler's: it may never return, and then this thread
        # is replaced, and another one sends the outcome.
        attempt.leftovers = None
        if call is not None or attempt.has_ended:  # else a coroutine of it runs
            attempt.input = None
        if not quick:
            self._process_state.restore(uses)
        if self._running.finish(turn):
            self._prefetch.took(uses, seconds)

    def _reply_handler(self, attempt: Attempt, call: ScriptCall, turn: Turn | None) -> Callable[[Any], None]:
        """Handles the reply to a finished node's call; with a `turn`, it was to bring a next node."""

        def on_reply(reply: Any) -> None:
            following = None
            try:
                following = self._recorder.on_reply(attempt, call, reply)
            finally:
                if turn is not None or following is not None:
                    self._put([] if following is None else [following], 0 if turn is None else 1)
            if turn is not None and isinstance(reply, list) and len(reply) > REPLY_READY:
                self._ready = turn.ready = int(reply[REPLY_READY])
                if self._ready_partitions is not None:
                    self._ready_partitions.counted(self._partitions.for_run(attempt.claim.run_id), turn.ready)

        return on_reply

    def _flush(self) -> None:
        """Send what is finished; with it, a claim for more if the queue has more than the finished nodes bring."""
        if self._ready_partitions is not None:
            self._add_claims(self._ready_partitions)
        more = 0 if self._ready_partitions is not None else min(self._prefetch.wanted(), self._ready)
        if more > 0 and self._executor.has_room(0.0) and self._prefetch.ask(more):
            self._ready = 0
            call = scripts.claim(self._keys, self._claimed_nodes.request(), more)
            self._commit_batcher.add(call, lambda reply: self._stock(reply, more))
        self._prefetch.share()
        self._process_state.restore_now_and_then()
        self._commit_batcher.flush()

    def _add_claims(self, ready: ReadyPartitions) -> None:
        """With what is finished, claim more from the partitions whose turn it is."""
        wanted = self._prefetch.wanted()
        together = self._prefetch.holds_many
        if together and wanted < LEAST_SHARE and len(self._prefetch) >= MANY:
            return  # single nodes of many partitions would have to be recorded in as many calls
        if wanted <= 0 or not ready or not self._executor.has_room(0.0):
            return
        for share in ready.shares(wanted, together=together):
            if self._prefetch.ask(share.asked):
                call = scripts.claim(share.keys, self._claimed_nodes.request(), share.asked)
                self._commit_batcher.add(call, lambda reply, share=share: self._stock_share(ready, share, reply))  # type: ignore[misc]

    def _stock_share(self, ready: ReadyPartitions, share: Share, reply: Any) -> None:
        try:
            self._stock(reply, share.asked)
        finally:
            ready.claimed(share, len(reply) if isinstance(reply, list) else 0)

    def _stock(self, reply: Any, asked: int) -> None:
        """Stock what a claim brought."""
        attempts: list[Attempt] = []
        try:
            claims = reply if isinstance(reply, list) else []
            attempts = [attempt for claim in claims if (attempt := self._claimed_nodes.open(claim)) is not None]
        finally:
            self._put(attempts, asked)

    def _put(self, attempts: list[Attempt], asked: int) -> None:
        """Put claimed nodes into the buffer; those that come after the worker was asked to stop are handed back."""
        if not self._prefetch.put(attempts, asked):
            for attempt in attempts:
                self._control.hand_back(attempt)
            self._prefetch.put([], asked)

    def _claim(self, wanted: int) -> bool:
        """Claim nodes from the queue; False when there is none."""
        while not self._executor.has_room(0.5):
            if self._draining.is_set():
                return False
        if self._ready_partitions is not None:
            return self._claim_shares(self._ready_partitions, wanted)
        if not self._prefetch.ask(wanted):
            return False
        reply: Any = None
        try:
            reply = self._link.call(scripts.claim(self._keys, self._claimed_nodes.request(), wanted))
            self._last_warning = ""
        except redis.exceptions.ResponseError as error:
            condition = condition_of(error)
            self._warn(f"Redis refuses a claim: {error if condition is None else condition.advice}")
            self._stopping.wait(0.5)
        finally:
            self._stock(reply, wanted)
        found = len(reply or ())
        self._ready = 1 if found == wanted else 0
        return found > 0

    def _claim_shares(self, ready: ReadyPartitions, wanted: int) -> bool:
        """Claim nodes from the partitions whose turn it is, in one pipeline; False when there is none."""
        wanted_of = ready.shares(wanted, together=self._prefetch.holds_many)
        shares = [share for share in wanted_of if self._prefetch.ask(share.asked)]
        replies: list[Any] = [None] * len(shares)
        try:
            if shares:
                replies = self._link.send(
                    [scripts.claim(share.keys, self._claimed_nodes.request(), share.asked) for share in shares]
                )
                self._last_warning = ""
        finally:
            self._stock_all(shares, replies)
        refusal = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if refusal is not None:
            condition = condition_of(refusal)
            self._warn(f"Redis refuses a claim: {refusal if condition is None else condition.advice}")
            self._stopping.wait(0.5)
        found = 0
        for share, reply in zip(shares, replies, strict=True):
            if isinstance(reply, list):
                ready.claimed(share, len(reply))
                found += len(reply)
        if found and ready and isinstance(self._wake_ups, LocalWakeUps):
            self._wake_ups.pass_on()
        return bool(found) or bool(shares and ready)

    def _stock_all(self, shares: list[Share], replies: list[Any]) -> None:
        """Stock what each partition gave; one that cannot be stocked keeps no other from it."""
        with ExitStack() as stack:
            for share, reply in zip(shares, replies, strict=True):
                stack.callback(self._stock, reply, share.asked)

    def _warn(self, what: str) -> None:
        """Log what is wrong, once until it changes."""
        if what != self._last_warning:
            self._last_warning = what
            logger.warning("{}; trying again", what)

    def _leave_token(self) -> None:
        """The slice is over, the work perhaps not: a wake-up for any free thread, this one included."""
        self._wake_ups.leave()
