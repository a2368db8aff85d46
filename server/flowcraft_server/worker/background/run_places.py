"""Limits of concurrent runs: passes on which runs ask for a place and which give theirs back, and begins those that have one."""

from collections.abc import Iterable, Sequence
from typing import Any

from loguru import logger
from redis.exceptions import ResponseError

from flowcraft_sdk._operations.run_places import phrase_of_limit
from flowcraft_sdk._transport.redis_errors import condition_of
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.place_scripts import PlaceEntry
from flowcraft_sdk.records import RunStatus
from flowcraft_server.store.link import StoreLink, text_of
from flowcraft_server.worker.home_partitions import HomePartitions

PAUSE = 1.0
"""Seconds between two looks, in case a notification is lost."""

UNUSED_PAUSE = 5.0
"""The same in a deployment that limits no runs, and in workers that others come before."""

AT_ONCE = 100
"""Runs that one look deals with, in each partition."""

ASKED_AGAIN = 60_000
"""Ms after which it is asked again for a run that waits, in case what counts runs was lost."""

REFUSED_AGAIN = 10_000
"""The same for one that Redis refuses: something else has written under a key of its limit. The others go on."""

REVIEW_PAUSE = 1.0
ENDED = frozenset(status.value for status in RunStatus if status.is_terminal)

UNSEEN = 10_000
"""Ms for which an entry may stand for no run that continues: its start, or its end, may be under way."""


class RunPlaces:
    """Every process has one; doing it twice changes nothing.

    Which runs hold a place, and which wait for one, is kept in the first partition; the runs lie in others. What a process was
    about when it died stands in `unplaced`, `left` or `admitted` still, and the next one does it.
    """

    def __init__(
        self, link: StoreLink, partitions: Partitions, cancel_grace_ms: int, homes: HomePartitions | None
    ) -> None:
        self._link = link
        self._partitions = partitions
        self._home = partitions.home
        self._cancel_grace_ms = cancel_grace_ms
        self._homes = homes
        self._cursor = 0
        self._review_at = 0.0

    def step(self) -> float:
        """Deal with what there is; returns the pause in seconds."""
        home, every = self._home, self._partitions.all
        limited, waiting, (seconds, micros), offset = self._link.read_all(
            [("EXISTS", home.run_limits, home.places), ("ZCARD", home.admitted), ("TIME",), ("GET", home.clock)]
        )
        now = int(seconds) * 1000 + int(micros) // 1000 + int(offset or 0)
        replies = self._link.read_each(
            [
                read
                for keys in every
                for read in (
                    ("ZRANGEBYSCORE", keys.left, "-inf", now, "LIMIT", 0, AT_ONCE),
                    ("ZRANGEBYSCORE", keys.unplaced, "-inf", now, "LIMIT", 0, AT_ONCE),
                )
            ]
        )
        found = [[] if isinstance(reply, Exception) else _entries(reply) for reply in replies]
        # Runs may wait although nothing is limited any more, and nothing was counted yet.
        if not limited and not waiting and not any(found):
            return UNUSED_PAUSE
        done = self._give_back(dict(zip(every, found[::2], strict=True)), now)
        # Of several partitions each is read at another moment: only runs are asked for before which no run can have been missed.
        unplaced = [(keys, entry) for keys, each in zip(every, found[1::2], strict=True) for entry in each]
        asking = sorted(
            ((k, e) for k, e in unplaced if int(e.created) < now),
            key=lambda pair: (int(pair[1].created), pair[1].run_id),
        )
        done += self._ask(asking, now)
        if clock() >= self._review_at:
            self._review_at = clock() + REVIEW_PAUSE
            self._link.call(scripts.review_places(home, count=AT_ONCE))
            self._look_over(now)
        done += self._begin(_entries(self._link.redis.zrange(home.admitted, 0, AT_ONCE - 1)))
        if done:
            return 0.0
        early = [int(entry.created) - now for _, entry in unplaced if int(entry.created) >= now]
        if early:  # by a clock that was set back they may be early for long
            return min(PAUSE, max(1, min(early)) / 1000)
        return UNUSED_PAUSE if self._homes is not None and self._homes.rank(home) > 1 else PAUSE

    def _give_back(self, left: dict[Keys, list[PlaceEntry]], now: int) -> int:
        """Take runs that have ended out, and only then forget that they are to be."""
        entries = [entry for each in left.values() for entry in each]
        if not entries:
            return 0
        refused = self._leave(entries)
        for keys, each in left.items():
            later = {str(entry): now + REFUSED_AGAIN for entry in each if entry in refused}
            over = [str(entry) for entry in each if entry not in refused]
            if later:
                self._link.redis.zadd(keys.left, later, xx=True)
            if over:
                self._link.redis.zrem(keys.unplaced, *over)
                self._link.redis.zrem(keys.left, *over)
        return len(entries)

    def _leave(self, entries: Sequence[PlaceEntry]) -> set[PlaceEntry]:
        """Take runs out; returns those that Redis refuses to, as something else has written under a key of theirs."""
        try:
            self._link.call(scripts.leave_place(self._home, entries))
            return set()
        except ResponseError as error:
            if condition_of(error) is not None:  # of Redis as a whole
                raise
            replies = self._link.send([scripts.leave_place(self._home, [entry]) for entry in entries])
        refused = {entry for entry, reply in zip(entries, replies, strict=True) if isinstance(reply, Exception)}
        if refused:
            logger.error("{} runs cannot give their places back: {}", len(refused), _first_error(replies))
        return refused

    def _ask(self, asking: Sequence[tuple[Keys, PlaceEntry]], now: int) -> int:
        """Ask for a place for each run that has none, the oldest one first; what is to be cancelled for it is."""
        if not asking:
            return 0
        rows = self._link.read_each(
            [("HMGET", keys.run(entry.run_id), "cr", "pl", "st", "bp", "key") for keys, entry in asking]
        )
        calls, whose = [], []
        for (keys, entry), row in zip(asking, rows, strict=True):
            created, place, status, blueprint, key = [None] * 5 if isinstance(row, Exception) else map(_text, row)
            if created != entry.created or place != "w" or status in ENDED or blueprint is None:
                self._link.redis.zrem(keys.unplaced, str(entry))
                continue
            calls.append(scripts.ask_place(self._home, entry, blueprint_id=blueprint, key=key or ""))
            whose.append((keys, entry))
        replies = self._link.send(calls) if calls else []
        granted = []
        for (keys, entry), reply in zip(whose, replies, strict=True):
            if isinstance(reply, Exception):
                if condition_of(reply) is not None:
                    raise reply
                logger.error("run {} cannot ask for its place: {}", entry.run_id, reply)
                self._link.redis.zadd(keys.unplaced, {str(entry): now + REFUSED_AGAIN}, xx=True)
                continue
            code, *rest = reply
            if code == b"granted":
                granted.append(entry)
            elif code == b"full":
                limit, most = text_of(rest[0]), int(rest[1])
                self._cancel(entry, f"it is one too many: {phrase_of_limit(limit, most)}", 0)
            else:
                self._link.redis.zadd(keys.unplaced, {str(entry): now + ASKED_AGAIN}, xx=True)
                for before in map(PlaceEntry.read, map(text_of, rest[2:])):
                    self._cancel(before, f"run {entry.run_id} takes its place", self._cancel_grace_ms)
        self._begin(granted)
        return len(asking)

    def _begin(self, entries: Sequence[PlaceEntry]) -> int:
        """Begin runs that have a place. One that has ended, or was deleted, gives it back."""
        if not entries:
            return 0
        for_run = self._partitions.for_run
        replies = self._link.send([scripts.take_place(for_run(entry.run_id), entry) for entry in entries])
        over = []
        for entry, reply in zip(entries, replies, strict=True):
            if isinstance(reply, Exception):
                logger.error("run {} has a place, but cannot begin: {}", entry.run_id, reply)
                over.append(entry)
            elif reply == b"over":
                over.append(entry)
        if over:
            self._leave(over)
        self._link.redis.zrem(self._home.admitted, *map(str, entries))
        return len(entries)

    def _cancel(self, entry: PlaceEntry, reason: str, grace_ms: int) -> None:
        keys = self._partitions.for_run(entry.run_id)
        if _text(self._link.redis.hget(keys.run(entry.run_id), "cr")) == entry.created:
            self._link.call(scripts.cancel(keys, run_id=entry.run_id, reason=reason, grace_ms=grace_ms))

    def _look_over(self, now: int) -> None:
        """Take out what stands for no run that continues: its record was deleted, or Redis came back without its end."""
        reply: Any = self._link.redis.hscan(self._home.places, self._cursor, count=AT_ONCE)
        self._cursor, found = int(reply[0]), reply[1]
        old = [
            PlaceEntry.read(text_of(name))
            for name, value in found.items()
            if int(text_of(value).split("|", 2)[1]) < now - UNSEEN
        ]
        if not old:
            return
        for_run = self._partitions.for_run
        rows = self._link.read_each([("HMGET", for_run(each.run_id).run(each.run_id), "cr", "st") for each in old])
        over = [
            entry
            for entry, row in zip(old, rows, strict=True)
            if not isinstance(row, Exception) and (_text(row[0]) != entry.created or _text(row[1]) in ENDED)
        ]
        if over:
            self._leave(over)


def _entries(members: Iterable[Any]) -> list[PlaceEntry]:
    return [PlaceEntry.read(text_of(member)) for member in members]


def _first_error(replies: Iterable[Any]) -> Exception:
    return next(reply for reply in replies if isinstance(reply, Exception))


def _text(value: Any) -> str | None:
    return None if value is None else text_of(value)
