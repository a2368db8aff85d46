"""A worker process: everything that runs nodes, started and stopped as one."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.partitions import PARTITIONS_FIELD, Partitions
from flowcraft_server.agents.handler import with_provided
from flowcraft_server.config.handler import Handler, routes_of
from flowcraft_server.config.lifespan import Lifespan
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.plans import PlanCache
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.store.link import StoreLink, StoreUnavailable
from flowcraft_server.store.publish import check_partitions
from flowcraft_server.worker.activity import Activity
from flowcraft_server.worker.async_executor import AsyncExecutor
from flowcraft_server.worker.attempt_control import AttemptControl
from flowcraft_server.worker.background.lease_renewer import LeaseRenewer
from flowcraft_server.worker.background.limit_sharing import LimitSharing
from flowcraft_server.worker.background.lost_claims import LostClaims
from flowcraft_server.worker.background.periodic import Periodic
from flowcraft_server.worker.background.prefetch_watchdog import PrefetchWatchdog
from flowcraft_server.worker.background.retention import RetentionCleaner
from flowcraft_server.worker.background.run_places import RunPlaces
from flowcraft_server.worker.background.scheduler import Scheduler
from flowcraft_server.worker.background.stop_listener import StopListener
from flowcraft_server.worker.background.suspects import SuspectRunner
from flowcraft_server.worker.background.sweeper import Sweeper
from flowcraft_server.worker.call_limits import CallLimits
from flowcraft_server.worker.child_runs import ChildRuns
from flowcraft_server.worker.claimed_nodes import ClaimedNodes
from flowcraft_server.worker.commit_batcher import CommitBatcher
from flowcraft_server.worker.coroutine_runner import CoroutineRunner
from flowcraft_server.worker.counters import Counters
from flowcraft_server.worker.dispatcher import Dispatcher
from flowcraft_server.worker.execution_record import ExecutionRecord
from flowcraft_server.worker.handler_contexts import HandlerContexts
from flowcraft_server.worker.home_partitions import HomePartitions
from flowcraft_server.worker.huey_app import build_consumer
from flowcraft_server.worker.in_flight import InFlightAttempts
from flowcraft_server.worker.lifespan import EnteredLifespan
from flowcraft_server.worker.liveness import DescriptorWatch, Liveness
from flowcraft_server.worker.logged_lines import LineKeeper
from flowcraft_server.worker.lost_threads import RunningFunctions, ThreadWatch, Turn
from flowcraft_server.worker.memories import StoredMemories
from flowcraft_server.worker.model_calls import ModelCalls
from flowcraft_server.worker.node_runner import NodeRunner
from flowcraft_server.worker.node_tracing import NodeTracing
from flowcraft_server.worker.outcome_calls import OutcomeCalls
from flowcraft_server.worker.outcome_recorder import OutcomeRecorder
from flowcraft_server.worker.prefetch import PrefetchBuffer
from flowcraft_server.worker.process_state import ProcessState
from flowcraft_server.worker.ready_notices import ReadyNotices
from flowcraft_server.worker.ready_partitions import ReadyPartitions
from flowcraft_server.worker.reply_cache import ReplyCache
from flowcraft_server.worker.settings import WorkerSettings
from flowcraft_server.worker.step_store import RunStepStore
from flowcraft_server.worker.thread_loop import ThreadLoop
from flowcraft_server.worker.wake_ups import LocalWakeUps, WakeUps

if TYPE_CHECKING:
    from flowcraft_server.observability.tracing import Tracing

WATCH_PAUSE = 0.1
"""Seconds between two looks at threads and event loops."""

LEASES_OF_ERRORS = 2
"""Leases for which their renewal fails with errors of the process itself, before the process is replaced."""

DRAINED_BEFORE_REPLACED = 5.0
"""Seconds that running nodes may take to finish before a process that has lost too many threads is replaced."""

LATE_CLAIMS = 1.0
"""Seconds for which a stop waits for claims that are under way, to hand them back."""


class Worker:
    """Runs nodes from the queues of a namespace until it is drained or stopped.

    Args:
        url: of the Redis that holds the runs.
        namespace: the deployment's `name`.
        handlers: by the name that nodes `use`.
        models: language models handed to handlers as `ctx.llm`, or None.
        replace_process: ends this process so that a fresh one takes its place, given the id of this worker; None if it cannot be
            replaced.
        executing: where it is written down what is executed, for the process that has started this one.
        lifespan: what the process enters before its first node, or None.
        tracing: makes spans, or None.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        handlers: Mapping[str, Handler],
        settings: WorkerSettings | None = None,
        models: Any = None,
        replace_process: Callable[[str], None] | None = None,
        executing: ExecutionRecord | None = None,
        lifespan: Lifespan | None = None,
        tracing: "Tracing | None" = None,
    ) -> None:
        self.settings = settings or WorkerSettings()
        self.counters = Counters()
        self._replace_process = replace_process
        self._executing = executing
        self._handlers = handlers  # those of the deployment
        handlers = with_provided(handlers, models, self.settings.mcp)
        self.partitions = partitions = Partitions(namespace, self.settings.partitions)
        self.keys = partitions.home
        self._draining = threading.Event()
        self._stopping = threading.Event()
        self._gave_up = False
        settings, keys, draining, stopping = self.settings, self.keys, self._draining, self._stopping
        several = partitions.count > 1
        self._link = link = StoreLink(url)
        engine = Engine(
            link,
            partitions,
            defaults=settings.defaults,
            max_value=settings.max_value,
            inline_value=settings.inline_value,
            max_depth=settings.max_depth,
            max_nodes=settings.max_nodes,
            routed=settings.routed,
            routes=routes_of(handlers),
        )
        plans = PlanCache(link, keys)

        # From a claim to the recorded outcome: each part knows those above it.
        self.held = held = InFlightAttempts()
        redactor = Redactor(settings.secrets)
        homes = (
            HomePartitions(link, partitions, settings.worker_id, settings.queues, settings.heartbeat)
            if several
            else None
        )
        self._sweeper = Sweeper(link, partitions, settings, homes)
        self._lost_claims = LostClaims(link, partitions, settings.worker_id, held)
        link.on_unanswered = self._lost_claims.note
        self._sweeper_thread = Periodic("sweeper", self._sweep, stopping)
        self._commit_batcher = CommitBatcher(link, stopping, grouped=several)
        self._activity = activity = Activity()
        node_tracing = None if tracing is None else NodeTracing(tracing, link, partitions)
        claimed_nodes = ClaimedNodes(engine, plans, handlers, held, settings, activity)
        memories = StoredMemories(link, partitions, self._commit_batcher, settings.max_value)
        calls = OutcomeCalls(engine, held, settings.inline_value, redactor, activity)
        recorder = OutcomeRecorder(
            calls, claimed_nodes, plans, held, self._commit_batcher, settings, self._wake_sweeper, node_tracing,
            memories=memories, engine=engine,
        )  # fmt: skip
        self._control = control = AttemptControl(held, calls, recorder, claimed_nodes, activity)
        self._lifespan = EnteredLifespan(lifespan)
        self._child_runs = ChildRuns(url, namespace)
        line_keeper = LineKeeper(
            partitions, settings.capture, Redactor(settings.secrets, names=settings.capture.names), self._commit_batcher
        )
        step_store = RunStepStore(link, partitions, self._commit_batcher, redactor, stopping)
        call_limits = CallLimits(link, partitions, settings.lease)
        model_calls = (
            None
            if models is None
            else ModelCalls(
                engine,
                self._commit_batcher,
                models,
                settings.tag_budgets,
                call_limits,
                ReplyCache(partitions, models, redactor),
            )
        )
        contexts = HandlerContexts(
            engine,
            self._commit_batcher,
            models,
            redactor,
            self._lifespan,
            self._child_runs,
            line_keeper,
            step_store,
            memories,
            model_calls,
            tracing,
        )
        self._executor = AsyncExecutor(control, contexts, settings, url, self.counters, executing)
        process_state = ProcessState(active=settings.owns_process)
        coroutines = CoroutineRunner(
            self._executor, engine, handlers, contexts, calls, recorder, control, claimed_nodes, process_state, draining,
            executing,
        )  # fmt: skip
        dispatcher = Dispatcher(engine, plans, handlers, contexts, calls, settings, executing, node_tracing)
        runner = NodeRunner(dispatcher, coroutines, calls, recorder, claimed_nodes)

        # The threads that run nodes.
        self._prefetch = PrefetchBuffer(partitions.for_run if several else None)
        running = RunningFunctions()
        ready_partitions, notices = None, None
        wake_ups: WakeUps | LocalWakeUps = WakeUps(link, [keys.wake(queue) for queue in settings.queues])
        if homes is not None:
            ready_partitions, wake_ups = ReadyPartitions(), LocalWakeUps()
            notices = ReadyNotices(partitions, homes, settings.queues, ready_partitions, wake_ups)
        thread_loop = ThreadLoop(
            runner, recorder, control, claimed_nodes, process_state, self._prefetch, self._commit_batcher, self._executor, link,
            partitions, draining, stopping, running, wake_ups, ready_partitions,
        )  # fmt: skip
        self._consumer = build_consumer(wake_ups, settings.threads, thread_loop.run)

        # The threads beside them.
        places = (
            running.attempts, self._executor.attempts, self._prefetch.attempts, self._commit_batcher.attempts, runner.direct,
        )  # fmt: skip
        self.liveness = Liveness(held.all, places)
        self._descriptor_watch = DescriptorWatch(self._exhausted, self._lose_descriptors)
        self._thread_watch = ThreadWatch(
            running, self.counters, self._lose_thread, self._consumer.replace, control.give_up, settings.abandoned_threads,
            self._exhausted,
        )  # fmt: skip
        self._prefetch_watchdog = PrefetchWatchdog(control, self._prefetch, self._commit_batcher, stopping)
        steps = {
            "lease renewer": LeaseRenewer(
                link, control, partitions, settings, self.liveness, self.counters, self._announce, homes, activity
            ).step,
            "stop listener": StopListener(
                url, control, partitions, stopping, self._wake_sweeper, self._wake_scheduler, self._wake_places, notices
            ).step,
            "cleaner": RetentionCleaner(link, partitions, settings.retention).step,
            "thread watch": self._watch,
            "logged lines": line_keeper.step,
        }
        steps["run limits"] = RunPlaces(link, partitions, int(settings.cancel_grace * 1000), homes).step
        steps["model calls"] = call_limits.step
        if homes is not None:
            steps["limits"] = LimitSharing(link, partitions, homes).step
        if settings.suspects != "elsewhere":
            steps["suspects"] = SuspectRunner(
                link, partitions, settings.queues, runner, claimed_nodes, held, draining
            ).step
        if settings.suspects != "only":
            steps["scheduler"] = Scheduler(link, partitions, settings).step
        self._threads = {name: Periodic(name, step, stopping) for name, step in steps.items()}
        self._threads["sweeper"] = self._sweeper_thread
        call_limits.wake = self._threads["model calls"].wake
        line_keeper.wake = self._threads["logged lines"].wake

    def start(self) -> None:
        """Begin to claim nodes. Redis must answer.

        Raises:
            WrongPartitions: the deployment has another number of partitions than `settings`.
            LifespanError: the lifespan cannot be entered.
        """
        self._link.load_scripts()
        check_partitions(self.partitions, *self._link.read_with_retry(self._read_partitions))
        self._executor.start()
        try:
            self._lifespan.enter(self._executor.loop, self._handlers.values())
            self._link.read_with_retry(self._announce)
        except BaseException:
            self._lifespan.leave()
            self._executor.close(1.0)
            raise
        self._commit_batcher.start()
        for thread in self._threads.values():
            thread.start()
        self._prefetch_watchdog.start()
        if self.settings.suspects != "only":
            self._consumer.start()

    def _sweep(self) -> float:
        self._lost_claims.look()
        return self._sweeper.step()

    def _read_partitions(self) -> tuple[Any, Any]:
        redis, home = self._link.redis, self.partitions.home
        return redis.get(home.protocol), redis.hget(home.settings, PARTITIONS_FIELD)

    def restart_dead_threads(self) -> list[str]:
        """Start threads again that died; returns what there is to log of it."""
        dead = [name for name, thread in self._threads.items() if thread.restart_if_dead()]
        if self._commit_batcher.restart_if_dead():
            dead.append("commit_batcher")
        if self._prefetch_watchdog.restart_if_dead():
            dead.append("prefetch watchdog")
        if not dead:
            return []
        self.counters.threads_replaced += len(dead)
        return [f"threads had died and were started again: {', '.join(dead)}"]

    def _watch(self) -> float:
        """Look after threads and event loops; returns the pause in seconds."""
        if self._executing is not None:
            self._executing.heartbeat()
        self._descriptor_watch.look()
        if (
            self._threads["lease renewer"].failing_for(clock()) > LEASES_OF_ERRORS * self.settings.lease
            and not self._gave_up
        ):
            self._gave_up = True
            self._exhausted(
                "no lease is renewed, for errors of this process: code of a handler may have changed its modules"
            )
        self._thread_watch.look(self._executor.retired)
        self._executor.look()
        if not self._gave_up and not self._stopping.is_set() and (why := self._lifespan.lost(self._executor.loop)):
            self._gave_up = True
            self._exhausted(why)
        if self._draining.is_set():
            return WATCH_PAUSE
        if self.settings.suspects != "only":
            self._consumer.check_worker_health()
        for finding in self.restart_dead_threads():
            logger.error(finding)
        return WATCH_PAUSE

    def _lose_thread(self, turn: Turn, running: bool) -> None:
        self._prefetch.lose_thread(counted=turn.counted, running=running)

    def wake(self) -> None:
        """Have leases and timers looked at now."""
        self._sweeper.expect(0.0)
        for thread in self._threads.values():
            thread.wake()

    def drain(self, timeout: float) -> bool:
        """Claim nothing more and let what runs finish; False when the time is up first. `stop` follows in any case."""
        until = clock() + timeout
        self._claim_no_more()
        drained = self._prefetch.wait_settled(timeout)
        return self.held.wait_empty(max(0.0, until - clock())) and drained

    def stop(self) -> None:
        """Hand back what still runs, at once, and end all threads."""
        self._claim_no_more()
        self._prefetch.wait_settled(LATE_CLAIMS)
        self._hand_back()
        self._commit_batcher.close(2.0)
        self._stopping.set()
        if self.settings.suspects != "only":
            self._consumer.end(0.5)
        self._lifespan.leave()
        self._executor.close(3.0)
        self.wake()
        for thread in self._threads.values():
            thread.join(2.0)
        self._withdraw()
        self._child_runs.close()
        self._link.close()

    def sever(self) -> None:
        """Cut the worker off from Redis without any clean-up, as a killed process would be. For tests."""
        self._link.sever()
        self._stopping.set()
        self._draining.set()
        self._consumer.end(0.0)
        self.wake()

    def _claim_no_more(self) -> None:
        """What is in prefetch, and what is still brought by claims under way, goes to other workers."""
        self._draining.set()
        self._consumer.stop_flag.set()
        for attempt in self._prefetch.close():
            self._control.hand_back(attempt)

    def _exhausted(self, why: str) -> None:
        """Have the process replaced, for it is worn out; first what it runs may finish for a while."""
        with suppress(Exception):  # it may not even be able to connect
            self._link.call_once(
                lambda: self._link.redis.hset(self.keys.worker(self.settings.worker_id), "exhausted", why)
            )
        if self._replace_process is None:
            logger.error("{}; start this process again", why)
            return
        logger.error("{}; a fresh process takes the place of this one", why)
        with suppress(Exception):  # whatever is broken in it, it is replaced; its leases run out
            self._claim_no_more()
            if self.settings.abandoned_threads:
                self.held.wait_empty(DRAINED_BEFORE_REPLACED)
            self._hand_back()
            self._commit_batcher.close(1.0)
        self._replace_process(self.settings.worker_id)

    def _lose_descriptors(self, why: str) -> None:
        """Have the process replaced at once, and its nodes given up by what takes its place.

        Its numbers may be others' by now, so nothing is sent.
        """
        if self._replace_process is None:
            logger.error("{}; start this process again", why)
            return
        logger.error("{}; a fresh process takes the place of this one, and what it ran is given up", why)
        self._replace_process(self.settings.worker_id)

    def _hand_back(self) -> None:
        """Give up the leases of nodes that did not finish, so that another worker takes them without waiting."""
        for attempt in self.held.all():
            if not self.held.try_finish(attempt):
                continue
            claim = attempt.claim
            attempt.request_stop("shutdown")
            keys = self.partitions.for_run(claim.run_id)
            call = scripts.release(
                keys, run_id=claim.run_id, instance_id=claim.instance_id, fencing_token=claim.fencing_token
            )
            logger.info("run {} node {}: handed back at shutdown", claim.run_id, claim.instance_id)
            self._commit_batcher.put(lambda call=call: call, lambda _reply: None)  # type: ignore[misc]

    def _wake_sweeper(self, seconds: float, run_id: str) -> None:
        """Have the sweeper look at what falls due in so many seconds."""
        self._sweeper.expect(seconds, run_id)
        self._sweeper_thread.wake()

    def _wake_scheduler(self) -> None:
        """Have it seen now that a schedule has changed."""
        scheduler = self._threads.get("scheduler")
        if scheduler is not None:
            scheduler.wake()

    def _wake_places(self) -> None:
        """Have it seen now that a run asks for a place, or gives one back."""
        self._threads["run limits"].wake()

    def _announce(self) -> None:
        worker = self.settings.worker_id
        # First its place in the list: a worker that is in there and silent for a day is removed with its record.
        for keys in self.partitions.all:
            self._link.call_with_retry(scripts.renew(keys, worker=worker, lease_ms=self.settings.lease_ms, held=()))
        self._link.redis.hset(
            self.keys.worker(worker),
            mapping={
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "started": int(time.time() * 1000),
                "concurrency": self.settings.threads,
                "queues": ",".join(self.settings.queues),
                "suspects": self.settings.suspects,
                "deployment": self.settings.deployment,
                "handlers": json.dumps(sorted(self._handlers)),
            },
        )
        self._link.redis.persist(self.keys.worker(worker))  # see count_work.lua

    def _withdraw(self) -> None:
        try:
            counted = self._activity.flush(self.keys, self.settings.worker_id)
            if counted is not None:
                self._link.call_once(lambda: self._link.send([counted]))
            for keys in self.partitions.all:
                self._link.redis.zrem(keys.workers, self.settings.worker_id)
            self._link.redis.delete(self.keys.worker(self.settings.worker_id))
        except (StoreUnavailable, OSError, Exception) as error:
            logger.debug("could not sign off: {}", error)
