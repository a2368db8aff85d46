"""Nodes that are parked until there is room for their model calls: when that may be done, and how they are made ready again."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.store.link import StoreLink

WORTH_PARKING = 1.0
"""Seconds. A call that is going to wait for longer has its node parked, if that is possible."""

SHORTEST_ALARM, LONGEST_ALARM = 60.0, 3600.0
"""Seconds after which a parked node is run again in any case: what is noted of those that wait may be lost with its Redis."""

STILL_RUNNING = 0.05
"""Seconds after which a node is looked at again that is about to be parked."""

TRIED_FOR = 5.0
"""Seconds for which that is done: as long as its place is held, see parked_calls.lua."""

MOST_AT_ONCE = 200


class NodeParked(BaseException):
    """Leaves a handler whose node is parked; no `Exception`, as no handler has to deal with it."""


@dataclass(frozen=True, slots=True)
class ParkedFor:
    """What a node is parked for.

    Attributes:
        name: `PROVIDER/MODEL`.
        wait: seconds for which it is expected to wait.
    """

    name: str
    wait: float

    @property
    def alarm(self) -> float:
        """Seconds after which it is run again in any case."""
        return min(max(SHORTEST_ALARM, 2 * self.wait), LONGEST_ALARM)


class AttemptParking:
    """The model calls of an attempt that wait for room, and whether its node may be parked for them.

    A parked node is run again from the beginning of its handler, and what it has recorded answers it. So it is parked only if its
    handler declares that it may be (`parks`), and while each step that is under way is a model call that has not been made.
    """

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.node = "|".join(attempt.key)
        self.waiting: dict[str, float] = {}
        spec = None if attempt.handler is None else attempt.handler.spec
        self._parks = spec is not None and spec.parks
        self._lock = threading.Lock()

    @property
    def is_possible(self) -> bool:
        """Whether its handler may be run again from its beginning."""
        return self._parks and not self.attempt.stopped

    def add(self, call_id: str) -> None:
        """A call waits."""
        with self._lock:
            self.waiting[call_id] = 0.0

    def remove(self, call_id: str) -> None:
        """It waits no longer."""
        with self._lock:
            self.waiting.pop(call_id, None)

    def expect(self, name: str, waits: Iterable[tuple[str, float]]) -> tuple[str, ...]:
        """Take note of how long calls are going to wait; returns those that wait no longer, as the node is parked for them."""
        with self._lock:
            longest = 0.0
            for call_id, wait in waits:
                if call_id in self.waiting:
                    self.waiting[call_id], longest = wait, max(longest, wait)
            steps = self.attempt.steps
            if steps is None or not self.is_possible or not self.waiting:
                return ()
            if min(self.waiting.values()) <= WORTH_PARKING or not steps.try_suspend(len(self.waiting)):
                return ()
            self.attempt.parked = ParkedFor(name, longest)
            parked = tuple(self.waiting)
            self.waiting.clear()
            return parked


@dataclass(slots=True)
class Unparker:
    """Makes nodes ready that have a place among the calls of their provider."""

    link: StoreLink
    partitions: Partitions
    _pending: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, name: str, nodes: Iterable[str]) -> None:
        """Nodes, `RUN|INSTANCE`, for which places of the limit `name` are held."""
        until = clock() + TRIED_FOR
        self._pending.setdefault(name, {}).update((node, until) for node in nodes)

    def has(self, name: str) -> bool:
        """Whether nodes of a limit are still to be made ready."""
        return bool(self._pending.get(name))

    def step(self, name: str) -> list[tuple[str, int]]:
        """Make them ready; returns those of which that is known, with 1, and those that wait no more, with 0."""
        pending = self._pending.get(name)
        if not pending:
            return []
        nodes, calls = list(pending)[:MOST_AT_ONCE], []
        for node in nodes:
            run_id, _, instance_id = node.partition("|")
            calls.append(scripts.unpark(self.partitions.for_run(run_id), run_id=run_id, instance_id=instance_id))
        found = []
        for node, reply in zip(nodes, self.link.send(calls), strict=True):
            if isinstance(reply, Exception):
                logger.error("node {} is parked and cannot be made ready: {}", node, reply)
            elif reply[0] == b"running":
                if clock() < pending[node]:  # it is about to be parked, else it has come by itself
                    continue
            else:
                found.append((node, 0 if reply[0] == b"gone" else 1))
            del pending[node]
        return found
