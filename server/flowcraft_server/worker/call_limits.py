"""Limits of model calls over all processes: a thread asks Redis which calls of this process may be made, many at a time."""

import asyncio
import json
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.llm.call_gate import LONGEST_RETRY_AFTER, CallLimit, Passage, falls_back
from flowcraft_server.llm.errors import LLMRateLimited
from flowcraft_server.llm.rate_headers import Learned, learned_from, until_reset
from flowcraft_server.store.link import StoreLink, StoreUnavailable
from flowcraft_server.worker.parking import STILL_RUNNING, AttemptParking, NodeParked, Unparker

IDLE_PAUSE = 3600.0
LOOK_PAUSE = 1.0
"""Seconds between two looks whether nodes are parked that no process looks after."""

PARKED_PAUSE = 0.25
"""Seconds between two looks of the process that looks after parked nodes, at most."""

MOST_ASKED = 200
"""Calls whose wait is asked for at once."""

FAILED_PAUSE = 0.2
MOST_AT_ONCE = 200
"""New calls, ended calls and parked nodes that a call of the script reports: Redis does nothing else meanwhile."""

LONGEST_WAIT = 60.0
"""Seconds for which a provider may want no calls while calls wait for it; beyond that they fail."""


@dataclass(slots=True, eq=False)
class _Call:
    id: str
    run: str
    tokens: int
    loop: asyncio.AbstractEventLoop
    admitted: "asyncio.Future[None]"
    parking: AttemptParking | None = None
    falls_back: bool = False
    is_sent: bool = False
    admitted_at: int = 0
    began: float = 0.0

    @property
    def node(self) -> str:
        """`RUN|INSTANCE` of a node that may be parked; empty for one that may not."""
        return self.parking.node if self.parking is not None and self.parking.is_possible else ""


@dataclass(slots=True)
class _Pace:
    """What this process knows of a model's limit; `limit` is None where it has made no call itself."""

    limit: CallLimit | None
    waiting: dict[str, _Call] = field(default_factory=dict)
    under_way: dict[str, _Call] = field(default_factory=dict)
    ended: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    parks: list[tuple[str, str, int]] = field(default_factory=list)
    learned: dict[str, Learned] = field(default_factory=dict)
    parked: int = 0
    block_ms: int | None = None
    refused_at: int | None = None
    due: float = 0.0


class CallLimits:
    """Admits the model calls of this process. Thread-safe.

    Args:
        partitions: in the first of them all limits of model calls lie.
        lease: seconds after which the places of a process that is gone are free again.

    Attributes:
        wake: has `step` called soon.
    """

    def __init__(self, link: StoreLink, partitions: Partitions, lease: float) -> None:
        self._link = link
        self._home = partitions.home
        self._unparker = Unparker(link, partitions)
        self._seen: dict[str, float] = {}
        self._next_look = 0.0
        self._lease = lease
        self._process = secrets.token_hex(6)
        self._lock = threading.Lock()
        self._paces: dict[str, _Pace] = {}
        self.wake: Callable[[], None] = lambda: None

    def gate(self, run_id: str, parking: AttemptParking | None = None) -> "RunGate":
        """What the calls of a run go through.

        Args:
            parking: of the attempt that makes them, if it may be parked.
        """
        return RunGate(self, run_id, parking)

    def step(self) -> float:
        """Ask for what waits, and report what has ended; returns the pause in seconds."""
        pause = self._look_around()
        for name in list(self._paces):
            pace = self._paces[name]
            if pace.due > clock() and not self._has_news(pace):
                pause = min(pause, pace.due - clock())
                continue
            try:
                pause = min(pause, self._exchange(name, pace))
            except StoreUnavailable:
                pause = min(pause, FAILED_PAUSE)
            except Exception as error:
                logger.error("limits of the model calls of {}: {}", name, error)
                pause = min(pause, FAILED_PAUSE * 5)
        return max(pause, 0.001)

    def ask(
        self, name: str, run_id: str, limit: CallLimit, tokens: int, parking: AttemptParking | None = None
    ) -> _Call:
        """Have a call wait for its turn."""
        loop = asyncio.get_running_loop()
        call = _Call(secrets.token_hex(6), run_id, tokens, loop, loop.create_future(), parking, falls_back.get())
        with self._lock:
            pace = self._paces.setdefault(name, _Pace(limit))
            pace.limit = limit
            pace.waiting[call.id] = call
        if parking is not None:
            parking.add(call.id)
        self.wake()
        return call

    def leave(self, name: str, call: _Call, passage: Passage) -> None:
        """A call has ended, or does not wait any more."""
        pace = self._paces[name]
        used = call.tokens if passage.tokens is None else passage.tokens
        if call.parking is not None:
            call.parking.remove(call.id)
        with self._lock:
            known = pace.waiting.pop(call.id, None) or pace.under_way.pop(call.id, None)
            if known is not None:
                took = round((clock() - call.began) * 1000) if call.began else 0
                pace.ended.append((call.id, call.tokens, used if passage.answered else 0, int(passage.answered), took))
            block = _wanted_pause(passage)
            if block is not None:
                pace.block_ms = max(pace.block_ms or 0, round(block * 1000))
            pace.learned.update(learned_from(passage.headers))
            if passage.refused:
                pace.refused_at = max(pace.refused_at or 0, call.admitted_at)
        self.wake()

    @staticmethod
    def _has_news(pace: _Pace) -> bool:
        if pace.ended or pace.parks or pace.block_ms is not None or pace.refused_at is not None:
            return True
        return any(not call.is_sent for call in list(pace.waiting.values()))

    def _look_around(self) -> float:
        """Look after parked nodes that no process looks after; returns the pause in seconds."""
        if clock() < self._next_look:
            return self._next_look - clock()
        self._next_look = clock() + LOOK_PAUSE
        try:
            (found,) = self._link.read_all([("ZRANGE", self._home.parking, 0, -1, "WITHSCORES")])
        except StoreUnavailable:
            return FAILED_PAUSE
        seen = {name.decode(): float(at) for name, at in zip(found[::2], found[1::2], strict=True)}
        for name, at in seen.items():
            if self._seen.get(name) == at:  # no process has looked since
                with self._lock:
                    self._paces.setdefault(name, _Pace(None)).parked = 1
                    self._paces[name].due = 0.0
        self._seen = seen
        return LOOK_PAUSE

    def _exchange(self, name: str, pace: _Pace) -> float:
        woken = self._unparker.step(name)
        with self._lock:
            new = [call for call in pace.waiting.values() if not call.is_sent][:MOST_AT_ONCE]
            ended, parks = pace.ended[:MOST_AT_ONCE], pace.parks[:MOST_AT_ONCE]
            block_ms, refused_at = pace.block_ms, pace.refused_at
            held = list(pace.under_way)
            asking = [call for call in pace.waiting.values() if call.is_sent and call.node]
            asking = [*(call for call in new if call.node), *asking][:MOST_ASKED]
            anything = pace.waiting or held or ended or parks or pace.parked or woken
            if not (anything or block_ms is not None or refused_at is not None):
                pace.due = clock() + IDLE_PAUSE
                return IDLE_PAUSE
            limit = pace.limit or CallLimit()
            learned, pace.learned = pace.learned, {}
        reply = self._link.call(
            scripts.admit_calls(
                self._home,
                name=name,
                process=self._process,
                lease_ms=round(self._lease * 1000),
                between_requests=None if limit.requests is None else 1000 / limit.requests,
                between_tokens=None if limit.tokens is None else 1000 / limit.tokens,
                concurrent=limit.concurrent,
                block_ms=block_ms,
                backs_off=refused_at is not None and block_ms is None,
                admitted_at=refused_at or 0,
                waiting=[(call.id, call.run, call.tokens, call.node) for call in new],
                ended=ended,
                held=held,
                parks=parks,
                woken=woken,
                asks=[call.id for call in asking],
                as_noted=pace.limit is None,
                learned={kind: (each.between, each.left, each.most) for kind, each in learned.items()},
            )
        )
        now, closed_ms, again_ms, parked, since, wakes, waits, *admitted = reply
        self._unparker.add(name, json.loads(wakes))
        with self._lock:
            del pace.ended[: len(ended)]
            del pace.parks[: len(parks)]
            if pace.block_ms == block_ms:
                pace.block_ms = None
            if pace.refused_at == refused_at:
                pace.refused_at = None
            for call in new:
                call.is_sent = True
            self._admit(pace, int(now), [found.decode() for found in admitted])
            if int(closed_ms) > LONGEST_WAIT * 1000:
                for waiter in list(pace.waiting.values()):
                    # What has begun to wait since the call was sent is answered by the next one.
                    if waiter.is_sent and (waiter.falls_back or not waiter.node):
                        _resolve(waiter, _Closed(int(closed_ms) / 1000))
                        waiter.parking = None
            self._park(name, pace, dict(zip([call.id for call in asking], json.loads(waits) or (), strict=True)))
            pause = self._pause(pace, int(again_ms), int(parked), int(since))
        if self._unparker.has(name):
            pause = min(pause, 0.0 if len(json.loads(wakes)) else STILL_RUNNING)
            pace.parked = max(pace.parked, 1)
        pace.due = clock() + pause
        return pause

    @staticmethod
    def _admit(pace: _Pace, now: int, admitted: Sequence[str]) -> None:
        for call_id in admitted:
            waiter = pace.waiting.pop(call_id, None)
            if waiter is not None:
                waiter.admitted_at, waiter.began = now, clock()
                pace.under_way[call_id] = waiter
                if waiter.parking is not None:
                    waiter.parking.remove(call_id)
                _resolve(waiter, None)
            elif call_id not in pace.under_way and all(call_id != each[0] for each in pace.ended):
                pace.ended.append((call_id, 0, 0, 0, 0))  # it did not wait for the answer

    def _park(self, name: str, pace: _Pace, waits: Mapping[str, float]) -> None:
        """Have nodes parked whose calls are going to wait for long."""
        by_attempt: dict[AttemptParking, list[tuple[str, float]]] = {}
        for call_id, wait in waits.items():
            call = pace.waiting.get(call_id)
            if call is not None and call.parking is not None:
                by_attempt.setdefault(call.parking, []).append((call_id, wait / 1000))
        for parking, found in by_attempt.items():
            for call_id in parking.expect(name, found):
                for each in self._paces.values():  # its calls may be of several models
                    parked = each.waiting.pop(call_id, None)
                    if parked is not None:
                        each.parks.append((parked.id, parking.node, parked.tokens))
                        _resolve(parked, NodeParked())

    def _pause(self, pace: _Pace, again_ms: int, parked: int, since: int) -> float:
        """Seconds until the next look."""
        if self._has_news(pace):
            return 0.0
        renewal = self._lease / 3 if pace.under_way or pace.waiting else IDLE_PAUSE
        pause = min(renewal, again_ms / 1000) if pace.waiting else renewal
        # One process looks after parked nodes; another one that makes no calls itself leaves that to it.
        others_look = 0 <= since < PARKED_PAUSE * 1000 and not pace.waiting and not pace.under_way
        pace.parked = 0 if others_look else parked
        return min(pause, again_ms / 1000, PARKED_PAUSE) if pace.parked else pause


class RunGate:
    """Lets the calls of a run through; limits are fair between runs."""

    def __init__(self, limits: CallLimits, run_id: str, parking: AttemptParking | None = None) -> None:
        self._limits = limits
        self._run_id = run_id
        self._parking = parking

    @property
    def waits(self) -> bool:
        """See `CallGate.waits`."""
        return True

    @property
    def parks(self) -> bool:
        """See `CallGate.parks`."""
        return self._parking is not None and self._parking.is_possible and not falls_back.get()

    @asynccontextmanager
    async def passage(self, provider: str, model: str, limit: CallLimit, tokens: int) -> AsyncIterator[Passage]:
        """See `CallGate.passage`."""
        name, passage = f"{provider}/{model}"[:300], Passage()
        if self._parking is not None and self._parking.attempt.parked is not None:
            raise NodeParked()
        call = self._limits.ask(name, self._run_id, limit, tokens, self._parking)
        try:
            try:
                await call.admitted
            except _Closed as closed:
                raise LLMRateLimited(
                    f"llm.providers.{provider}: it wants no calls of {model} for {closed.seconds:.0f}s; none is made",
                    provider=provider,
                    status=429,
                    retry_after=closed.seconds,
                ) from None
            yield passage
        finally:
            self._limits.leave(name, call, passage)


class _Closed(Exception):
    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def _resolve(call: _Call, instead: BaseException | None) -> None:
    """Let a call be made, or have it end by an exception."""

    def settle() -> None:
        if call.admitted.done():
            return
        if instead is None:
            call.admitted.set_result(None)
        else:
            call.admitted.set_exception(instead)

    try:
        call.loop.call_soon_threadsafe(settle)
    except RuntimeError:  # its loop is closed, and the call with it
        return


def _wanted_pause(passage: Passage) -> float | None:
    """Seconds for which the provider wants no further calls, by its answer; None if it does not say so."""
    if passage.retry_after is not None:
        return min(passage.retry_after, LONGEST_RETRY_AFTER)
    return min(until_reset(passage.headers), LONGEST_RETRY_AFTER) or None
