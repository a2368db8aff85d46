"""A schedule as it is published, and what is to be done about it at a moment. Times are ms since 1970, spans ms."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, Self, get_args

from flowcraft_sdk.protocol.durations import LONGEST_SPAN
from flowcraft_server.schedules.timing import SECOND_MS, Every, Timing, cron, first_after, next_after

Overlap = Literal["skip", "queue", "cancelPrevious"]

SHOWN = 5
"""How many of the next ticks are shown."""

_LONGEST_MS = round(LONGEST_SPAN * 1000)

_FIRST_WINDOW = 120_000
"""Ms before now in which the latest tick is looked for first; then in four times as many, and so on."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule.

    Attributes:
        blueprint: id of the blueprint whose runs it starts.
        expression: of cron, "" if it has a tick every `every` ms.
        zone: time zone of the expression.
        overlap: what becomes of a tick while the run of an earlier one goes on.
        catch_up: how late a tick may be started.
        jitter: by how much each start may be put off.
        input: start context of its runs.
        tags: of its runs.
        priority: of its runs: high, normal or low.
        paused: whether the file says that it starts nothing.
    """

    id: str
    blueprint: str
    expression: str = ""
    zone: str = "UTC"
    every: int = 0
    overlap: Overlap = "skip"
    catch_up: int = 3_600_000
    jitter: int = 0
    input: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    priority: str = "normal"
    paused: bool = False

    @property
    def timing(self) -> Timing:
        """Its ticks."""
        return _timing(self.expression, self.zone, self.every)

    @property
    def when(self) -> str:
        """What its ticks depend on: while this stays the same, ticks that were missed are made up for."""
        return f"every {self.every}" if self.every else f"{self.expression} {self.zone}"

    def to_json(self) -> str:
        """As it is published; without what is set anew by a command, whether it is paused."""
        words: dict[str, Any] = {
            "blueprint": self.blueprint,
            "cron": self.expression or None,
            "timezone": None if self.every else self.zone,
            "every": self.every or None,
            "overlap": self.overlap,
            "catchUp": self.catch_up,
            "jitter": self.jitter,
            "input": dict(self.input),
            "tags": list(self.tags),
            "priority": self.priority,
        }
        return json.dumps({key: value for key, value in words.items() if value is not None}, ensure_ascii=False)

    @classmethod
    def from_json(cls, schedule_id: str, text: str) -> Self:
        """The inverse of `to_json`.

        Raises:
            ValueError: it is none; a `TimingError` where this process does not know the time zone.
        """
        try:
            words = json.loads(text)
            found = cls(
                schedule_id,
                words["blueprint"],
                words.get("cron", ""),
                words.get("timezone", "UTC"),
                int(words.get("every", 0)),
                words["overlap"],
                int(words["catchUp"]),
                int(words["jitter"]),
                words["input"],
                tuple(words["tags"]),
                words.get("priority", "normal"),
            )
        except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise ValueError(f"its definition cannot be read: {error!r:.100}") from None
        wrong = next((name for name, is_right in found._fits() if not is_right), None)
        if wrong is not None:
            raise ValueError(f"its definition cannot be read: {wrong} is none that a server writes")
        if not found.timing:
            raise ValueError("its definition has no ticks")
        return found

    def _fits(self) -> Iterator[tuple[str, bool]]:
        """Whether each value is one that a file may have: what is stored may come from a backup of any origin."""
        yield "blueprint", isinstance(self.blueprint, str)
        yield "cron", isinstance(self.expression, str)
        yield "timezone", isinstance(self.zone, str)
        yield "every", 0 <= self.every <= _LONGEST_MS and self.every % SECOND_MS == 0
        yield "overlap", self.overlap in get_args(Overlap)
        yield "catchUp", 0 <= self.catch_up <= _LONGEST_MS
        yield "jitter", 0 <= self.jitter <= _LONGEST_MS
        yield "input", isinstance(self.input, dict)
        yield "tags", all(isinstance(tag, str) for tag in self.tags)
        yield "priority", self.priority in ("high", "normal", "low")

    def due_at(self, tick: int) -> int:
        """When a tick is to be started: the same for all servers, and never later than the next tick."""
        if not self.jitter:
            return tick
        following = first_after(self.timing, tick)
        most = self.jitter if following is None else min(self.jitter, following - tick)
        digest = hashlib.sha256(f"{self.id} {tick}".encode()).digest()
        return tick + int.from_bytes(digest[:8], "big") % max(1, most)

    def look(self, handled: int, now: int) -> "Look":
        """What there is to be done.

        Args:
            handled: ticks up to here have been dealt with.
            now: the time by which the deployment goes.
        """
        first = first_after(self.timing, handled)
        if first is None or self.due_at(first) > now:
            return Look(None, None, handled)
        latest = self._latest_due(max(handled, now - self.catch_up - self.jitter - 1), now)
        if latest is not None and now - self.due_at(latest) <= self.catch_up:
            return Look(latest, None if latest == first else first, latest)
        return Look(None, first, max(first, latest or 0, now - self.catch_up - self.jitter - 1))

    def following(self, handled: int) -> tuple[int | None, list[int]]:
        """When the next tick is to be started, None for never, and the next ticks."""
        ticks = next_after(self.timing, handled, SHOWN)
        return (self.due_at(ticks[0]) if ticks else None), ticks

    def run_id(self, tick: int) -> str:
        """Id of the run of a tick. No user can give a run such an id, and it lies in the partition of the schedule's own."""
        return f"{self.id}~{datetime.fromtimestamp(tick / 1000, UTC):%Y%m%dT%H%M%SZ}"

    def _latest_due(self, after: int, now: int) -> int | None:
        """The latest tick later than a moment that is due, found in few steps although there may be thousands."""
        window = _FIRST_WINDOW
        while True:
            begin = max(after, now - window)
            found = []
            for tick in self.timing.after(begin):
                if tick > now:
                    break
                found.append(tick)
            due = next((tick for tick in reversed(found) if self.due_at(tick) <= now), None)
            if due is not None or begin == after:
                return due
            window *= 4


@dataclass(frozen=True, slots=True)
class Look:
    """What there is to be done about a schedule.

    Attributes:
        tick: a tick to be started, None for none.
        missed: the first tick that is not going to be started any more, None for none.
        handled: ticks up to here are dealt with once that is done.
    """

    tick: int | None
    missed: int | None
    handled: int


@lru_cache(1000)
def _timing(expression: str, zone: str, every: int) -> Timing:
    return Every(every) if every else cron(expression, zone)
