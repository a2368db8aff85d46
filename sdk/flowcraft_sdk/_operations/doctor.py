"""The doctor: finds stuck runs and left-over entries in the store, explains them, and repairs what is safe to repair.

Each look is one script, so nothing is taken for broken that is only on its way; a run with many nodes is looked at in pieces.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flowcraft_sdk._operations.causes import examine_waits
from flowcraft_sdk._operations.deployment import Deployment, partitions_of, text
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk._operations.list_runs import workers
from flowcraft_sdk._operations.missing_handlers import missing_handlers
from flowcraft_sdk._operations.queues import paused_in
from flowcraft_sdk._operations.tombstones import missing as missing_run
from flowcraft_sdk.errors import RunBrokenError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.bounds import LONGEST_PATH, check_text
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.run_record import moment
from flowcraft_sdk.records import STATES, Defect
from flowcraft_sdk.records.counts import counted

ENTRIES_AT_ONCE = 500

FIELDS_AT_ONCE = 250
"""Fields of a large record that one script looks at."""

PASSES = 3
"""How often a large run is looked over in pieces before it is looked over at once, as it changes all the time."""

ABOUT_RUNS = {
    "not-in-index": ("it is missing in the index {subject}: lists or retention overlook it", "puts it into the index"),
    "parent-missing": ("its parent run {subject} is gone, nothing waits for it", "makes it a run of its own"),
    "child-not-listed": ("its parent run {subject} does not know of it", "adds it to the parent"),
    "plan-missing": ("its plan {subject} is no longer in Redis: it cannot go on", "fails a live run with PlanMissing"),
    "live-count": ("its counter of active nodes says {subject}: it would end too early or never", "counts again"),
    "park-count": ("its counter of parked nodes says {subject}: its status may be wrong", "counts again"),
    "ready-not-queued": ("node '{subject}' is ready, but in no queue: no worker finds it", "queues it"),
    "running-without-lease": (
        "node '{subject}' is running, but has no lease: it would not be noticed if its worker died",
        "gives it a lease, so that it is taken over unless its worker renews it",
    ),
    "worker-silent": (
        "node '{subject}' is held by a worker that was not seen for a minute: no code runs for it",
        "shortens its lease, so that it is taken over unless its worker renews it",
    ),
    "timer-missing": ("'{subject}' waits for a timer that is not there: it never falls due", "sets the timer"),
    "batch-unheard": ("node '{subject}' waits for items that are all done", "lets it go on"),
    "child-missing": ("node '{subject}' waits for a child run that is gone", "fails the node"),
    "child-unheard": ("node '{subject}' waits for a child run that has ended", "hands it the child's outcome"),
    "steps-left": ("node '{subject}' has ended, and its recorded steps are still there", "removes them"),
    "record-broken": (
        "what lies in Redis under its key is no record of a run ({subject}): find out what wrote it, and delete it",
        "",
    ),
    "field-broken": (
        "the field {subject} of its record holds what no server writes there",
        "puts in what can be derived; a node whose state is lost fails with RecordBroken",
    ),
    "place-unasked": ("it waits for a place among the concurrent runs, and nothing asks for one", "has one asked for"),
    "nothing-live": (
        "nothing in it is live, but it has not ended",
        "ends it, as failed with Stalled if a node was never decided",
    ),
}
ENTRY = "entry-without-subject"
SET_ASIDE = "set-aside"
UNSERVED = "queue-unserved"
PAUSED = "queue-paused"
HANDLER_MISSING = "handler-missing"
READY = "ready:"


def examine(deployment: Deployment, run_id: str | None, fix: bool) -> Operation[list[Defect]]:
    """Look at one run, or at everything that is live and at all entries.

    Raises:
        RunNotFoundError: there is no such run.
    """
    if run_id is not None:
        check_text(run_id, "a run id", LONGEST_PATH)
        partitions = yield from partitions_of(deployment)
        keys = partitions.for_run(run_id)
        found = _defects_of(run_id, (yield from _look(keys, run_id, fix)))
        if found is None:
            yield from missing_run(keys.gone, run_id)
        names = [name for name in (yield from _sorted_sets(keys)) if name.startswith(READY)]
        found = (found or []) + (yield from _examine_queues(deployment, dict.fromkeys(partitions.all, names), run_id))
        found += yield from _examine_handlers(deployment, run_id)
        try:
            return found + (yield from examine_waits(deployment, run_id))
        except RunBrokenError:
            return found  # what is broken is found above; what such a run waits for cannot be read
    defects, names_in = [], {}
    for keys in (yield from partitions_of(deployment)).all:
        live = [keys.index_status(status) for status in sorted(STATES) if not status.is_terminal]
        defects += yield from _examine_indexes(keys, live, fix)
        defects += list(_set_aside((yield scripts.examine_broken(keys, fix=fix))))
        names_in[keys] = yield from _sorted_sets(keys)
        for name in names_in[keys]:
            defects += yield from _examine_entries(keys, name, fix)
    defects += yield from _examine_queues(deployment, names_in)
    return defects + (yield from _examine_handlers(deployment))


def examine_all(deployment: Deployment) -> Operation[list[Defect]]:
    """Look at every run, ended ones too, and at all entries; repairs nothing."""
    defects: list[Defect] = []
    for keys in (yield from partitions_of(deployment)).all:
        names = yield from _sorted_sets(keys)
        indexes = [keys.base + name for name in names if name.startswith(("idx:st:", "idx:bp:"))]
        defects += yield from _examine_indexes(keys, indexes, False)
    rest = yield from examine(deployment, None, False)
    return defects + [defect for defect in rest if defect not in defects]


def _examine_indexes(keys: Keys, indexes: Iterable[str], fix: bool) -> Operation[list[Defect]]:
    """Look at the runs of some indexes. They may leave them meanwhile, so these are read whole before they are worked off."""
    run_ids: list[str] = []
    defects: list[Defect] = []
    for index in indexes:
        first = 0
        while True:
            (page,) = yield Batch((command("ZRANGE", index, first, first + ENTRIES_AT_ONCE - 1),), bearing=True)
            if isinstance(page, Exception):
                defects.append(_foreign(index.removeprefix(keys.base)))
                break
            run_ids += [text(run_id) for run_id in page]
            first += len(page)
            if len(page) < ENTRIES_AT_ONCE:
                break
    for run_id in dict.fromkeys(run_ids):
        reply = yield from _look(keys, run_id, fix)
        defects += _defects_of(run_id, reply) or []
    return defects


def _look(keys: Keys, run_id: str, fix: bool) -> Operation[list[Any]]:
    """What a look at a run replies. One with many fields is looked over in pieces, so that no script takes long.

    It may change between them. Its counters are believed to be wrong only when they disagree with its nodes in one script; before
    it comes to that, which takes long, the pieces are gone through again.
    """
    found = dict[tuple[str, str], list[Any]]()
    reply = yield scripts.examine(keys, run_id=run_id, fix=fix, mode="ask")
    for _ in range(PASSES):
        if _first(reply) not in ("large", "changed"):
            break
        counted = yield from _look_in_pieces(keys, run_id, fix, found)
        if counted is None:
            break
        active, parked = counted
        reply = yield scripts.examine(keys, run_id=run_id, fix=fix, mode="counted", active=active, parked=parked)
    if _first(reply) in ("large", "changed"):
        reply = yield scripts.examine(keys, run_id=run_id, fix=fix)
    for kind, subject, fixed in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
        found[text(kind), text(subject)] = [kind, subject, fixed]
    return [part for defect in found.values() for part in defect]


def _first(reply: list[Any]) -> str:
    return text(reply[0]) if reply else ""


def _look_in_pieces(
    keys: Keys, run_id: str, fix: bool, found: dict[tuple[str, str], list[Any]]
) -> Operation[tuple[int, int] | None]:
    """Look over the nodes of a run; how many active and parked ones there were, None if it must be looked over at once."""
    active, parked, cursor = set[str](), set[str](), 0
    seen = dict[tuple[str, str], list[Any]]()
    while True:
        call = scripts.examine_piece(keys, run_id=run_id, cursor=cursor, count=FIELDS_AT_ONCE, fix=fix)
        following, active_nodes, parked_nodes, defects = yield call
        if text(following) == "whole":
            return None
        active |= set(map(text, active_nodes))
        parked |= set(map(text, parked_nodes))
        for kind, subject, fixed in zip(defects[::3], defects[1::3], defects[2::3], strict=True):
            seen[text(kind), text(subject)] = [kind, subject, fixed]
        cursor = int(following)
        if cursor == 0:
            break
    if not fix:  # what an earlier pass has found was mended by what the run did meanwhile, if it is not found again
        found.clear()
    found.update(seen)
    return len(active), len(parked)


def _examine_queues(
    deployment: Deployment, names_in: Mapping[Keys, Iterable[str]], run_id: str | None = None
) -> Operation[list[Defect]]:
    """Queues with ready nodes that are paused, or that no worker serves which was seen lately.

    Args:
        names_in: by partition the names of the sorted sets; those of queues count.
        run_id: only queues in which this run has a node among the first `ENTRIES_AT_ONCE`.
    """
    served = {queue for worker in (yield from workers(deployment)) for queue in worker.queues}
    defects: list[Defect] = []
    queues = {name.removeprefix(READY) for names in names_in.values() for name in names if name.startswith(READY)}
    paused: dict[str, int] = {}
    for keys in names_in:
        paused |= paused_in((yield command("GET", keys.claiming)))
    # Without any worker nothing runs, which `health` reports.
    for queue in sorted(queues - (served or queues) | queues & paused.keys()):
        total, concerned = 0, run_id is None
        for keys in names_in:
            ready = keys.ready(queue)
            reads = (command("ZCARD", ready), command("ZRANGE", ready, 0, ENTRIES_AT_ONCE - 1))
            replies = yield Batch(reads, bearing=True)
            if not isinstance(replies[0], Exception) and replies[0]:
                total += replies[0]
                concerned = concerned or any(text(entry).partition("|")[0] == run_id for entry in replies[1])
        if not total or not concerned:
            continue
        count = counted(total, "node is", "nodes are")
        explanation = f"{count} ready in queue '{queue}', which no worker serves that was seen lately (executor.queue)"
        if queue in paused:
            since = f"{moment(paused[queue]):%Y-%m-%d %H:%M:%S} UTC"
            explanation = (
                f"{count} ready in queue '{queue}', which is paused since {since}; `flowcraft queue resume` ends that"
            )
        kind = PAUSED if queue in paused else UNSERVED
        defects.append(Defect(kind=kind, run_id=run_id or "", subject=queue, explanation=explanation))
    return defects


def _examine_handlers(deployment: Deployment, run_id: str | None = None) -> Operation[list[Defect]]:
    """Handlers that live runs will come to and that no worker has which was seen lately."""
    reported = [worker.handlers for worker in (yield from workers(deployment))]
    if not reported or None in reported:  # without any worker nothing runs, which `health` reports
        return []
    known = {name for names in reported for name in names or ()}
    missing = yield from missing_handlers(deployment, known, run_id)
    return [
        Defect(kind=HANDLER_MISSING, run_id=run_id or "", subject=each.handler, explanation=each.explanation)
        for each in missing
    ]


def _defects_of(run_id: str, reply: list[Any]) -> list[Defect] | None:
    """What a look at a run found; None when there is no such run."""
    parts = [text(part) for part in reply]
    if parts[:1] == ["missing"]:
        return None
    found = []
    for kind, subject, fixed in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        explanation, remedy = ABOUT_RUNS.get(kind, ("it is wrong in a way that this SDK does not know", ""))
        explained = explanation.format(subject=subject)
        found.append(
            Defect(kind=kind, run_id=run_id, subject=subject, explanation=explained, remedy=remedy, fixed=fixed == "1")
        )
    return found


def _sorted_sets(keys: Keys) -> Operation[list[str]]:
    """Names, without prefix, of the sorted sets whose entries stand for something else."""
    base = keys.base
    names = {"leases", "timers", "dead", "memories"}
    for pattern in ("ready:*", "limited:*", "slots:*", "idx:*", "ended:*"):
        cursor = 0
        while True:
            reply = yield command("SCAN", cursor, "MATCH", base + pattern, "COUNT", 1000)
            cursor = int(reply[0])
            names |= {text(name).removeprefix(base) for name in reply[1]}
            if cursor == 0:
                break
    return sorted(names)


def _examine_entries(keys: Keys, name: str, fix: bool) -> Operation[list[Defect]]:
    first, defects = 0, []
    while first >= 0:
        call = scripts.examine_entries(keys, name=name, first=first, count=ENTRIES_AT_ONCE, fix=fix)
        reply = yield call
        first = int(reply[0])
        defects += list(_entry_defects(name, reply[1:]))
    return defects


def _foreign(name: str) -> Defect:
    return Defect(
        kind="foreign-key",
        subject=name,
        explanation=f"what lies in Redis under the key {name} is no index: find out what wrote it, and delete it; then `--fix`",
    )


def _set_aside(reply: list[Any]) -> Iterator[Defect]:
    """What could not be read when a script came to it, and was set aside."""
    for place, entry, since, problem, fixed in zip(*[map(text, reply)] * 5, strict=True):
        what = {"run": f"the record of run {entry}", "key": f"the key {entry}"}.get(place, f"{entry} in {place}")
        yield Defect(
            kind=SET_ASIDE,
            run_id=_run_of(place, entry),
            subject=f"{place} {entry}",
            explanation=f"{what} could not be read at {moment(float(since)):%Y-%m-%d %H:%M:%S} UTC and was set aside: {problem}",
            remedy="puts it back once it can be read again",
            fixed=fixed == "1",
        )


def _run_of(place: str, entry: str) -> str:
    if place == "key":
        return entry.partition(":")[2] if entry.startswith(("events:", "logs:")) else ""
    if place == "timers":
        return entry.partition("|")[2].partition("|")[0]
    return entry.partition("|")[0]


def _entry_defects(name: str, reply: list[Any]) -> Iterator[Defect]:
    for entry, fixed in zip(reply[::2], reply[1::2], strict=True):
        yield Defect(
            kind=ENTRY,
            subject=f"{name} {text(entry)}",
            explanation=f"the entry {text(entry)} in {name} stands for nothing that is there",
            remedy="removes the entry",
            fixed=bool(int(fixed)),
        )
