"""Listing runs, blueprints and workers: pages over the indexes, never payloads."""

import json
import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

from flowcraft_sdk._operations.deployment import (
    WORKER_FRESH,
    Deployment,
    partitions_of,
    plan_document,
    server_ms,
    text,
)
from flowcraft_sdk._operations.effects import Batch, Command, Operation, Yield, command, replies_of, together
from flowcraft_sdk.errors import ConfigurationError, RunBrokenError
from flowcraft_sdk.protocol.bounds import (
    LONGEST_NAME,
    LONGEST_PATH,
    LONGEST_TAG,
    MOST_A_PAGE,
    check_count,
    check_moment,
    check_text,
    shown,
)
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions, is_child_of_node
from flowcraft_sdk.protocol.run_record import SUMMARY_FIELDS, RunRecord, moment
from flowcraft_sdk.records import STATES, BlueprintInfo, RunStatus, RunSummary, WorkerInfo

MOST_DIGITS = 15
"""Of a number in the record of a worker."""

LEAST_OF_A_PARTITION = 10
"""Runs that are read at once of each of several partitions, at least."""

SCORED_AT_ONCE = 500
"""Children of a run that are looked up at once in the indexes of all states."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs are wanted. The narrowest index is read, the rest is checked on each run.

    Attributes:
        up_to: the greatest score in an index, which is included.
        by_blueprint: whether the index of the blueprint is read, and not those of the states, where both are given.

    Raises:
        ConfigurationError: an id or a tag is none that a run could have.
    """

    blueprint_id: str | None = None
    statuses: frozenset[RunStatus] | None = None
    tag: str | None = None
    parent: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    up_to: float | None = None
    by_blueprint: bool = False

    def __post_init__(self) -> None:
        for name, value, most in (
            ("blueprint_id", self.blueprint_id, LONGEST_NAME),
            ("tag", self.tag, LONGEST_TAG),
            ("parent", self.parent, LONGEST_PATH),
        ):
            if value is not None:
                check_text(value, name, most)

    def indexes(self, keys: Keys) -> list[str]:
        """The indexes of a partition that hold every wanted run, once each."""
        statuses = self.statuses
        if self.tag is not None:
            return [keys.index_tag(self.tag)]
        if self.blueprint_id is not None and (statuses is None or self.by_blueprint):
            return [keys.index_blueprint(self.blueprint_id)]
        return [keys.index_status(status) for status in sorted(STATES if statuses is None else statuses)]

    def further_indexes(self, keys: Keys) -> list[list[str]]:
        """Those that are not read: of each list, one has every wanted run."""
        read = set(self.indexes(keys))
        further = [[keys.index_blueprint(self.blueprint_id)]] if self.blueprint_id is not None else []
        if self.statuses is not None:
            further.append([keys.index_status(status) for status in sorted(self.statuses)])
        return [indexes for indexes in further if not read.issuperset(indexes)]

    @property
    def bounds(self) -> tuple[str, str]:
        """The least and the greatest score in an index, as Redis takes them.

        Raises:
            ConfigurationError: a moment is none.
        """
        low, high = check_moment(self.after, "started_after"), check_moment(self.before, "started_before")
        if self.up_to is not None and (high is None or self.up_to < high):
            return "-inf" if low is None else str(low), repr(self.up_to)
        return "-inf" if low is None else str(low), "+inf" if high is None else f"({high}"

    @property
    def settled_by_index(self) -> bool:
        """Whether the indexes hold nothing but what is wanted."""
        given = (self.blueprint_id, self.tag, self.statuses, self.parent)
        return sum(part is not None for part in given) <= 1 and self.parent is None

    def wants(self, run: RunSummary) -> bool:
        """Whether a run passes everything that the index does not settle."""
        return (
            (self.blueprint_id is None or run.blueprint_id == self.blueprint_id)
            and (self.statuses is None or run.status in self.statuses)
            and (self.tag is None or self.tag in run.tags)
            and (self.parent is None or run.parent_run_id == self.parent)
        )


def checked_statuses(status: RunStatus | Iterable[RunStatus] | None) -> frozenset[RunStatus] | None:
    """One state or several, as a set; None for all.

    Raises:
        ConfigurationError: there is no such state.
    """
    if status is None:
        return None
    given = [status] if isinstance(status, str) or not isinstance(status, Iterable) else status
    found = set()
    for name in given:
        found.add(RunStatus(name))
        if RunStatus.UNKNOWN in found:
            known = ", ".join(state for state in RunStatus if state in STATES)
            got = "" if isinstance(name, RunStatus) else f", got {shown(name)}"  # UNKNOWN stands for any other text
            raise ConfigurationError(f"a status is one of {known}{got}")
    return frozenset(found)


def matching_runs(
    deployment: Deployment, wanted: Filter, limit: int | None, page_size: int, *, roots: bool = False
) -> Operation[list[str]]:
    """Ids of the runs that a filter names, the newest first; `roots`: without child runs that a node has started."""
    found: list[str] = []
    _ = wanted.bounds
    pages = pages_of(wanted, (yield from partitions_of(deployment)), page_size)
    while not pages.over and (limit is None or len(found) < limit):
        entries = yield from pages.next()
        runs = yield from summaries(deployment, [run_id for run_id, _ in entries])
        found += [run.run_id for run in runs if wanted.wants(run) and not (roots and is_child_of_node(run.run_id))]
    return found[:limit]


def list_runs(deployment: Deployment, wanted: Filter, limit: int | None, page_size: int) -> Operation[None]:
    """Yield summaries, the newest first, until `limit` are out."""
    given = 0
    check_count(page_size, "page_size", MOST_A_PAGE, least=1)
    if limit is not None and check_count(limit, "limit", None) == 0:
        return
    _ = wanted.bounds  # refused before anything is asked
    pages = pages_of(wanted, (yield from partitions_of(deployment)), page_size)
    while not pages.over:
        entries = yield from pages.next()
        for run in (yield from summaries(deployment, [run_id for run_id, _ in entries])):
            if wanted.wants(run):
                yield Yield(run)
                given += 1
                if given == limit:
                    return


class MergedPages:
    """Pages of run ids, the newest first, out of the indexes of all partitions. It knows a position in each."""

    def __init__(self, wanted: Filter, partitions: Partitions, size: int) -> None:
        self._parts = [(_Pages(wanted, wanted.indexes(keys)), deque[tuple[str, float]]()) for keys in partitions.all]
        self.resize(size)

    def resize(self, size: int) -> None:
        """From now on, have so many runs on a page."""
        self._size = size
        for pages, _ in self._parts:
            count = len(self._parts)
            pages.size = size if count == 1 else max(LEAST_OF_A_PARTITION, math.ceil(2 * size / count))

    @property
    def over(self) -> bool:
        """Whether there are no more."""
        return all(pages.over and not entries for pages, entries in self._parts)

    def next(self) -> Operation[list[tuple[str, float]]]:
        """The next page: ids of runs, and their scores."""
        page: list[tuple[str, float]] = []
        while len(page) < self._size and not self.over:
            empty = [(pages, entries) for pages, entries in self._parts if not entries and not pages.over]
            if not empty:  # the newest of all is the newest of one of them
                heads = (entries for _, entries in self._parts if entries)
                page.append(max(heads, key=lambda entries: (entries[0][1], entries[0][0])).popleft())
                continue
            groups = [pages.commands() for pages, _ in empty]
            answer = yield together(*groups)
            for (pages, entries), replies in zip(empty, replies_of(groups, answer), strict=True):
                entries.extend(pages.take(replies))
            if len(self._parts) == 1:  # a page is what was read at once
                page = list(entries)
                entries.clear()
                break
        return page


class _Pages:
    """Pages of run ids, the newest first, out of one or several indexes of a partition.

    A page begins where the last one ended by *time*, so runs that start meanwhile shift nothing.

    Attributes:
        size: how many runs are read at once.
        over: whether there are no more.
    """

    def __init__(self, wanted: Filter, indexes: list[str]) -> None:
        self._indexes = indexes
        self.size = 0
        self._low, self._high = wanted.bounds
        self._seen: set[str] = set()
        self.over = not self._indexes

    def commands(self) -> tuple[Command, ...]:
        """What reads the next page. All at once: a run that goes from one state to the next is in one of the two."""
        bounds = (self._high, self._low, "WITHSCORES", "LIMIT", 0, self.size + len(self._seen))
        return tuple(command("ZREVRANGEBYSCORE", index, *bounds) for index in self._indexes)

    def take(self, replies: Iterable[Any]) -> list[tuple[str, float]]:
        """The next page, from the replies to `commands`: run ids and times."""
        found, most = [scored(reply) for reply in replies], self.size + len(self._seen)
        entries = [entry for some in found for entry in some]
        if sum(map(bool, found)) > 1:
            entries.sort(key=itemgetter(1, 0), reverse=True)  # as each index is sorted
        self.over = all(len(some) < most for some in found)
        cut = entries[:most]
        if len(entries) > most:
            self.over = False
        fresh = dict(reversed([entry for entry in cut if entry[0] not in self._seen]))
        if not self.over:
            last = cut[-1][1]
            self._high = repr(last)  # all its digits, and inf: whatever score a foreign hand has given
            self._seen = {run_id for run_id, score in cut if score == last}
        return list(reversed(fresh.items()))


class _ChildPages:
    """Pages of the children of a run, the newest first. Its record names them, so that no other run is looked at."""

    def __init__(self, wanted: Filter, parent: str, keys: Keys, size: int) -> None:
        self._record, self._indexes, self._bounds = keys.run(parent), wanted.indexes(keys), wanted.bounds
        self._unread: list[tuple[str, float]] | None = None
        self.resize(size)

    def resize(self, size: int) -> None:
        """From now on, have so many runs on a page."""
        self._size = size

    @property
    def over(self) -> bool:
        """Whether there are no more."""
        return self._unread is not None and not self._unread

    def next(self) -> Operation[list[tuple[str, float]]]:
        """The next page: ids of runs, and their scores."""
        if self._unread is None:
            self._unread = yield from self._read()
        page, self._unread = self._unread[: self._size], self._unread[self._size :]
        return page

    def _read(self) -> Operation[list[tuple[str, float]]]:
        """All children that are in one of the indexes."""
        if not self._indexes or (yield command("HEXISTS", self._record, "kids")) == 0:
            return []
        names = [text(name)[2:] for name in (yield command("HKEYS", self._record)) if text(name).startswith("k:")]
        low, high = self._bounds
        most, below = float(high.lstrip("(")), high.startswith("(")
        found: dict[str, float] = {}
        for first in range(0, len(names), SCORED_AT_ONCE):
            some = names[first : first + SCORED_AT_ONCE]
            replies = yield from _scores(self._indexes, some)
            for name, score in ((name, score) for scores in replies for name, score in zip(some, scores, strict=True)):
                if score is not None and float(low) <= score <= most and not (below and score == most):
                    found[name] = float(score)
        return sorted(found.items(), key=itemgetter(1, 0), reverse=True)


def _scores(indexes: list[str], run_ids: list[str]) -> Operation[list[list[float | None]]]:
    """The scores of runs in some indexes of a partition, all read at one moment."""
    group = tuple(command("ZMSCORE", index, *run_ids) for index in indexes)
    return list((yield Batch(group, atomic=len(group) > 1)))


def pages_of(wanted: Filter, partitions: Partitions, size: int) -> "MergedPages | _ChildPages":
    """Pages of the runs that the indexes have for a filter."""
    if wanted.parent is None:
        return MergedPages(wanted, partitions, size)
    return _ChildPages(wanted, wanted.parent, partitions.for_run(wanted.parent), size)


def scored(reply: Any) -> list[tuple[str, float]]:
    """Members and scores, in whichever form redis-py gives them."""
    if reply and not isinstance(reply[0], tuple | list):
        reply = list(zip(reply[::2], reply[1::2], strict=True))
    return [
        (member.decode(errors="backslashreplace") if type(member) is bytes else text(member), float(score))
        for member, score in reply
    ]


def unreadable(run_id: str) -> RunSummary:
    """What a list shows of a run whose record cannot be read: its id, and that nothing is known of it."""
    return RunSummary(
        run_id=run_id, blueprint_id="", blueprint_version="", status=RunStatus.UNKNOWN, created_at=moment(0)
    )


def summaries(deployment: Deployment, run_ids: list[str]) -> Operation[list[RunSummary]]:
    """Summaries of runs, without those that are gone."""
    if not run_ids:
        return []
    partitions = yield from partitions_of(deployment)
    records = [partitions.for_run(run_id).run(run_id) for run_id in run_ids]
    rows = yield Batch(tuple(command("HMGET", record, *SUMMARY_FIELDS) for record in records), bearing=True)
    found = []
    for run_id, row in zip(run_ids, rows, strict=True):
        if isinstance(row, Exception):
            found.append(unreadable(run_id))
            continue
        fields = {name: text(value) for name, value in zip(SUMMARY_FIELDS, row, strict=True) if value is not None}
        if "st" in fields:  # else retention removed it while we were listing
            try:
                found.append(RunRecord(run_id, fields).summary())
            except RunBrokenError:
                found.append(unreadable(run_id))
    return found


def count_runs(deployment: Deployment, wanted: Filter, page_size: int = 500) -> Operation[int]:
    """How many runs there are; from the indexes alone where no more than one thing is asked."""
    partitions = yield from partitions_of(deployment)
    if wanted.settled_by_index:
        groups = [[command("ZCARD", index) for index in wanted.indexes(keys)] for keys in partitions.all]
        if not groups[0]:
            return 0
        counts = replies_of(groups, (yield together(*groups)))
        return sum(int(count) for group in counts for count in group)
    count = 0
    pages = pages_of(wanted, partitions, page_size)
    while not pages.over:
        run_ids = [run_id for run_id, _ in (yield from pages.next())]
        count += sum(wanted.wants(run) for run in (yield from summaries(deployment, run_ids)))
    return count


def blueprints(deployment: Deployment) -> Operation[list[BlueprintInfo]]:
    """Published blueprints by id."""
    reply = yield command("HGETALL", deployment.keys.blueprints)
    found = []
    for name, plan_hash in sorted((text(name), text(plan_hash)) for name, plan_hash in reply.items()):
        doc: Mapping[str, Any] = (yield from plan_document(deployment, plan_hash)) or {}
        found.append(
            BlueprintInfo(
                id=name,
                version=plan_hash,
                description=doc.get("description", ""),
                node_count=len(doc.get("nodes", ())),
                inputs=doc.get("inputs"),
            )
        )
    return found


def workers(deployment: Deployment) -> Operation[list[WorkerInfo]]:
    """Workers that were seen lately."""
    keys = deployment.keys
    since = (yield from server_ms(deployment)) - int(WORKER_FRESH * 1000)
    seen = scored((yield command("ZRANGEBYSCORE", keys.workers, since, "+inf", "WITHSCORES")))
    found = []
    for name, score in seen:
        raw = yield command("HGETALL", keys.worker(name))
        about = {text(key): text(value) for key, value in raw.items()}
        found.append(
            WorkerInfo(
                id=name,
                host=about.get("host", ""),
                pid=_number(about.get("pid")),
                concurrency=_number(about.get("concurrency")),
                queues=tuple(filter(None, about.get("queues", "").split(","))),
                deployment=about.get("deployment", ""),
                handlers=_names(about.get("handlers")),
                last_seen=moment(score),
            )
        )
    return found


def _number(raw: str | None) -> int:
    """A number in the record of a worker; 0 if there is none that can be read."""
    return int(raw) if raw is not None and raw.isdecimal() and len(raw) <= MOST_DIGITS else 0


def _names(raw: str | None) -> tuple[str, ...] | None:
    """A list of names as a worker has reported them; None if it has reported none that can be read."""
    try:
        names = json.loads(raw or "null")
    except (ValueError, RecursionError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None
