"""What a worker thread does when it is woken: claim, run, complete, and on with the next node, for a bounded while."""

import threading
import time

import redis
from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ScriptCall
from flowcraft_server.engine.claims import Claim, parse_claim
from flowcraft_server.executor.committer import GaveUp, send_until_heard
from flowcraft_server.executor.event_loop import EventLoop
from flowcraft_server.executor.runner import NodeRunner
from flowcraft_server.store.link import StoreLink, StoreUnavailable

SLICE_NODES = 100
SLICE_SECONDS = 0.25


class WorkLoop:
    """The body of Huey's one task. Shared by all worker threads; it keeps no state between calls."""

    def __init__(
        self, runner: NodeRunner, loop: EventLoop, link: StoreLink, draining: threading.Event, stopping: threading.Event
    ) -> None:
        self._runner = runner
        self._event_loop = loop
        self._link = link
        self._draining = draining
        self._stopping = stopping

    def run(self) -> None:
        """Work until nothing is ready, a stop is asked for or the slice is over; then back to Huey."""
        try:
            self._run_slice()
        except GaveUp as error:
            logger.warning("stopping: {}", error)
        except StoreUnavailable as error:
            logger.warning("{}", error)
            self._stopping.wait(0.2)

    def _run_slice(self) -> None:
        until = time.monotonic() + SLICE_SECONDS
        claim = self._claim()
        nodes = 0
        while claim is not None:
            nodes += 1
            last = self._draining.is_set() or nodes >= SLICE_NODES or time.monotonic() > until
            call = self._runner.run(claim, "-" if last else "q")
            claim = self._commit(claim, call) if call is not None else None
            if claim is None and not last:
                claim = self._claim()
            elif last:
                if not self._draining.is_set():
                    self._leave_token()
                return

    def _commit(self, claim: Claim, call: ScriptCall) -> Claim | None:
        reply = send_until_heard(self._link, [call], self._stopping)[0]
        return self._runner.settled((claim.run_id, claim.inst), claim.fence, call, reply)

    def _claim(self) -> Claim | None:
        while not self._event_loop.has_room(0.5):
            if self._draining.is_set():
                return None
        if self._draining.is_set():
            return None
        try:
            reply = self._link.call(scripts.claim(self._runner.engine.keys, self._runner.seat()))
        except redis.exceptions.ResponseError as error:
            logger.error("Redis refused a claim: {}", error)
            self._stopping.wait(0.5)
            return None
        return parse_claim(reply[0]) if reply else None

    def _leave_token(self) -> None:
        """The slice is over, the work perhaps not: a wake-up for whoever is free, this thread included."""
        queue = self._runner.settings.queues[0]
        self._link.redis.lpush(self._runner.engine.keys.wake(queue), b'["slice","flowcraft.work",["","",0]]')
