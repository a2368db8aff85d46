"""Pages of runs and of nodes that wait, each with a cursor behind which the next page begins."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from flowcraft_sdk._operations.deployment import Deployment, partitions_of, record, text
from flowcraft_sdk._operations.effects import Batch, Operation, command, replies_of, together
from flowcraft_sdk._operations.list_runs import Filter, pages_of, summaries
from flowcraft_sdk.errors import ConfigurationError, RunBrokenError, RunNotFoundError
from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.bounds import LONGEST_PATH, MOST_LISTED, check_count, check_text, shown
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.run_record import UNREADABLE, moment
from flowcraft_sdk.records import RunPage, RunStatus, RunSummary, WaitingNode, WaitingPage

MOST_LOOKED_AT = 5_000
"""Runs that are looked at for a page; with a filter that few of them pass the page is short, and its cursor continues it."""

READ_AT_ONCE = 1_000
LEAST_READ = 50
LONGEST_SEARCH = 200
WAITING_KINDS = ("signal", "webhook")

_CURSOR = re.compile(r"(-?[0-9]{1,16}(?:\.[0-9]{1,9})?),(.+)", re.DOTALL)
Position = tuple[float, str]
"""Score in an index, and the id of a run: the order of all lists, the newest first."""


def run_page(
    deployment: Deployment, wanted: Filter, search: str | None, limit: int, cursor: str | None
) -> Operation[RunPage]:
    """A page of runs."""
    check_count(limit, "limit", MOST_LISTED, least=1)
    if search is not None:
        check_text(search, "search", LONGEST_SEARCH)
    before = _position(cursor)
    _ = wanted.bounds  # refused before anything is asked
    partitions = yield from partitions_of(deployment)
    if wanted.tag is None and wanted.blueprint_id is not None and wanted.statuses is not None:
        wanted = replace(wanted, by_blueprint=(yield from _blueprint_has_fewer(partitions, wanted)))
    items: list[RunSummary] = []
    looked_at, last = 0, before
    most = max(limit, READ_AT_ONCE)
    piece = limit + 1 if search is None else most
    pages = pages_of(wanted if before is None else replace(wanted, up_to=before[0]), partitions, piece)
    while not pages.over:
        entries = _behind((yield from pages.next()), before)
        run_ids = [run_id for run_id, _ in entries]
        if entries and not wanted.settled_by_index:
            run_ids = yield from _in_further_indexes(partitions, run_ids, wanted)
        if entries and search is not None:
            run_ids = yield from _matching(deployment, partitions, run_ids, search, (entries[-1][1], entries[0][1]))
        passing: dict[str, RunSummary] = {}
        some = max(limit, LEAST_READ)
        for first in range(0, len(run_ids), some):  # records are read last, of as many runs as a page has
            found = yield from summaries(deployment, run_ids[first : first + some])
            passing |= {run.run_id: run for run in found if wanted.wants(run)}
            if len(items) + len(passing) >= limit:
                break
        for index, (run_id, score) in enumerate(entries):
            last = (score, run_id)
            if run_id in passing:
                items.append(passing[run_id])
            if len(items) == limit:
                more = index + 1 < len(entries) or not pages.over
                return RunPage(items=tuple(items), next_cursor=_cursor_of(last) if more else None)
        looked_at += len(entries)
        if looked_at >= MOST_LOOKED_AT and not pages.over and last is not None:
            return RunPage(items=tuple(items), next_cursor=_cursor_of(last))
        piece = min(2 * piece, most)  # few of them pass
        pages.resize(piece)
    return RunPage(items=tuple(items), next_cursor=None)


def _blueprint_has_fewer(partitions: Partitions, wanted: Filter) -> Operation[bool]:
    """Whether fewer runs are of the wanted blueprint than in the wanted states."""
    assert wanted.blueprint_id is not None
    groups = [
        [command("ZCARD", index) for index in (keys.index_blueprint(wanted.blueprint_id), *wanted.indexes(keys))]
        for keys in partitions.all
    ]
    counts = replies_of(groups, (yield together(*groups)))
    return sum(int(each[0]) for each in counts) < sum(int(count) for each in counts for count in each[1:])


def _in_further_indexes(partitions: Partitions, run_ids: list[str], wanted: Filter) -> Operation[list[str]]:
    """Those of some runs that the indexes have which were not read to find them: their records need not be read."""
    for number in range(len(wanted.further_indexes(partitions.home))):

        def indexes_of(keys: Keys, at: int = number) -> list[str]:
            return wanted.further_indexes(keys)[at]

        listed = yield from _listed(partitions, run_ids, indexes_of)
        run_ids = [run_id for run_id in run_ids if run_id in listed]
    return run_ids


def _listed(
    partitions: Partitions, run_ids: Sequence[str], indexes_of: Callable[[Keys], list[str]]
) -> Operation[set[str]]:
    """Those of some runs that are in one of the indexes of their partition; a run that goes from one to the next is in one."""
    parts: dict[str, tuple[Keys, list[str]]] = {}
    for run_id in run_ids:
        keys = partitions.for_run(run_id)
        parts.setdefault(keys.base, (keys, []))[1].append(run_id)
    if not parts:
        return set()
    groups = [[command("ZMSCORE", index, *some) for index in indexes_of(keys)] for keys, some in parts.values()]
    replies = replies_of(groups, (yield together(*groups)))
    return {
        run_id
        for (_, some), scores in zip(parts.values(), replies, strict=True)
        for of_index in scores
        for run_id, score in zip(some, of_index, strict=True)
        if score is not None
    }


def waiting_page(deployment: Deployment, limit: int, cursor: str | None) -> Operation[WaitingPage]:
    """A page of the nodes that wait for a signal. It ends behind the run with which it has `limit` of them."""
    check_count(limit, "limit", MOST_LISTED, least=1)
    before = _position(cursor)
    partitions = yield from partitions_of(deployment)
    wanted = Filter(statuses=frozenset({RunStatus.WAITING, RunStatus.RUNNING}))
    items: list[WaitingNode] = []
    looked_at = 0
    piece = limit + 1
    pages = pages_of(wanted if before is None else replace(wanted, up_to=before[0]), partitions, piece)
    while not pages.over:
        entries = _behind((yield from pages.next()), before)
        reads = tuple(command("HGET", partitions.for_run(run_id).run(run_id), "park") for run_id, _ in entries)
        parked = (yield Batch(reads, bearing=True)) if reads else []
        for (run_id, score), count in zip(entries, parked, strict=True):
            if count is None or isinstance(count, Exception):
                continue
            items += yield from _waiting_in(deployment, run_id)
            if len(items) >= limit:
                return WaitingPage(items=tuple(items), next_cursor=_cursor_of((score, run_id)))
        looked_at += len(entries)
        if looked_at >= MOST_LOOKED_AT and not pages.over and entries:
            run_id, score = entries[-1]
            return WaitingPage(items=tuple(items), next_cursor=_cursor_of((score, run_id)))
        piece = min(2 * piece, max(limit, READ_AT_ONCE))  # few of them wait
        pages.resize(piece)
    return WaitingPage(items=tuple(items), next_cursor=None)


def _waiting_in(deployment: Deployment, run_id: str) -> Operation[list[WaitingNode]]:
    try:
        snapshot = (yield from record(deployment, run_id)).snapshot()
    except (RunNotFoundError, RunBrokenError):
        return []
    points = [point for point in snapshot.waiting if point.kind in WAITING_KINDS]
    if not points:
        return []
    keys = (yield from partitions_of(deployment)).for_run(run_id)
    ends = yield Batch(tuple(command("ZSCORE", keys.timers, f"W|{run_id}|{point.node_id}") for point in points))
    return [
        WaitingNode(
            **point.model_dump(exclude={"expires_at"}),
            expires_at=None if end is None else moment(float(end)),
            blueprint_id=snapshot.blueprint_id,
            tags=snapshot.tags,
        )
        for point, end in zip(points, ends, strict=True)
    ]


def _matching(
    deployment: Deployment, partitions: Partitions, run_ids: list[str], search: str, span: tuple[float, float]
) -> Operation[list[str]]:
    """The runs whose id begins with a text, or that have failed and whose first failure has it in its type or message.

    Args:
        span: the least and the greatest of their scores.
    """
    words = search.casefold()
    found = {run_id for run_id in run_ids if run_id.casefold().startswith(words)}
    others = [run_id for run_id in run_ids if run_id not in found]
    failed = list((yield from _failed(partitions, others, span)))
    firsts = yield from _fields(deployment, [(run_id, "f1") for run_id in failed])
    places = [(run_id, f"f:{first}") for run_id, first in zip(failed, firsts, strict=True) if first is not None]
    failures = yield from _fields(deployment, places)
    for (run_id, _), raw in zip(places, failures, strict=True):
        try:
            failure = wire.loads(raw or "{}")
            texts = f"{failure.get('type', '')}\n{failure.get('message', '')}"
        except UNREADABLE:
            continue
        if words in texts.casefold():
            found.add(run_id)
    return [run_id for run_id in run_ids if run_id in found]


def _failed(partitions: Partitions, run_ids: list[str], span: tuple[float, float]) -> Operation[set[str]]:
    """Those of some runs that have failed. Where few have in their time, these are read: cheaper than asking for each run."""
    low, high = map(repr, span)
    some = list({keys.base: keys for keys in map(partitions.for_run, run_ids)}.values())
    most = len(run_ids)
    reads = [
        command("ZREVRANGEBYSCORE", keys.index_status(RunStatus.FAILED), high, low, "LIMIT", 0, most + 1)
        for keys in some
    ]
    replies = (yield Batch(tuple(reads))) if reads else []
    if any(len(reply) > most for reply in replies):
        return (yield from _listed(partitions, run_ids, lambda keys: [keys.index_status(RunStatus.FAILED)]))
    found = {text(run_id) for reply in replies for run_id in reply}
    return found.intersection(run_ids)


def _fields(deployment: Deployment, places: Sequence[tuple[str, str]]) -> Operation[list[str | None]]:
    """Fields of runs' hashes, each by run and name."""
    if not places:
        return []
    partitions = yield from partitions_of(deployment)
    reads = tuple(command("HGET", partitions.for_run(run_id).run(run_id), name) for run_id, name in places)
    replies = yield Batch(reads, bearing=True)
    return [None if reply is None or isinstance(reply, Exception) else text(reply) for reply in replies]


def _behind(entries: list[tuple[str, float]], before: Position | None) -> list[tuple[str, float]]:
    return entries if before is None else [(run_id, score) for run_id, score in entries if (score, run_id) < before]


def _cursor_of(position: Position) -> str:
    score, run_id = position
    return f"{int(score) if score.is_integer() else score!r},{run_id}"


def _position(cursor: str | None) -> Position | None:
    """The place in the list that a cursor stands for.

    Raises:
        ConfigurationError: it is none that a page had.
    """
    if cursor is None:
        return None
    found = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) and len(cursor) <= LONGEST_PATH + 40 else None
    if found is None or not math.isfinite(float(found[1])):
        raise ConfigurationError(f"cursor is the next_cursor of a page, got {shown(cursor)}")
    return float(found[1]), found[2]
