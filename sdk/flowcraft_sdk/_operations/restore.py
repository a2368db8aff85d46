"""Restoring a backup into a deployment. What is there already stays as it is, and nothing of what is restored runs by itself."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flowcraft_sdk._operations.deployment import Deployment, partitions_of
from flowcraft_sdk._operations.effects import Operation, Yield, command
from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.backup_format import BackupError, Entry, entries_of
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.restored_run import as_cancelled, is_under_way
from flowcraft_sdk.records import RestoredItem

PIECE = 1024 * 1024
"""Bytes of values that one call stores."""

EVENTS, LOGS = "|events", "|logs"
"""Owners of the drafts of a run's events and log: no node has such an id."""

OF_ANOTHER = ("par", "pn", "root", "dep")


@dataclass(slots=True)
class _Draft:
    """A run whose lines are being read.

    Attributes:
        entry: its first line.
        token: names the calls that store it.
        fields: of its record.
        dead: its dead letters, and when each was given up.
        events: its history.
        logs: of its log.
        batches: the fields of each of its batches, by the node that scatters it.
    """

    entry: Entry
    token: str
    fields: dict[str, str]
    dead: Mapping[str, int]
    events: list[str] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    batches: dict[str, dict[str, str]] = field(default_factory=dict)


def restore(deployment: Deployment, lines: Iterable[str]) -> Operation[None]:
    """Yield what came of each plan, blueprint, schedule, memory and run.

    Raises:
        BackupError: a line is none that this version knows; what was before it is restored.
        ConfigurationError: no server has published anything under this name.
    """
    partitions = yield from partitions_of(deployment)
    if deployment.partitions is None:
        raise ConfigurationError(
            f"nothing is published under the name '{deployment.keys.namespace}' here: start flowcraft-server once, so that it is "
            "known how many partitions there are"
        )
    at, draft = 0, None
    for entry in entries_of(lines):
        if entry.kind == "flowcraft":
            at = entry.body["at"]
        elif entry.kind == "plan":
            yield from _plan(partitions, entry)
        elif entry.kind == "blueprint":
            yield Yield((yield from _blueprint(partitions, entry)))
        elif entry.kind == "schedule":
            yield Yield((yield from _schedule(partitions, entry)))
        elif entry.kind == "memory":
            yield Yield((yield from _memory(partitions, entry)))
        elif entry.kind == "run":
            draft = _Draft(entry, uuid.uuid4().hex, dict(entry.body["fields"]), entry.body["dead"])
        elif draft is not None and entry.kind == "of":
            _add(draft, entry)
        elif draft is not None and entry.kind == "end":
            yield Yield((yield from _run(partitions, draft, at)))
            draft = None


def _add(draft: _Draft, entry: Entry) -> None:
    body = entry.body
    if "batch" in body:
        draft.batches.setdefault(body["batch"], {}).update(body.get("fields", {}))
    elif "fields" in body:
        draft.fields.update(body["fields"])
    draft.events += body.get("events", ())
    draft.logs.update(body.get("logs", {}))


def _plan(partitions: Partitions, entry: Entry) -> Operation[None]:
    for keys in reversed(partitions.all):
        yield scripts.restore_plan(keys, plan=entry.name, fields=_encoded(entry.body["fields"]))


def _blueprint(partitions: Partitions, entry: Entry) -> Operation[RestoredItem]:
    current = 0
    for keys in reversed(partitions.all):  # the first one last, as publishing does
        code, current = yield scripts.restore_plan(keys, plan=entry.body["plan"], blueprint_id=entry.name, fields={})
        if code == b"missing":
            raise BackupError(entry.line, f"its plan {entry.body['plan']} is not in front of it")
    return RestoredItem(kind="blueprint", id=entry.name, outcome="restored" if current else "there")


def _schedule(partitions: Partitions, entry: Entry) -> Operation[RestoredItem]:
    keys, fields = partitions.for_run(entry.name), entry.body["fields"]
    if (yield command("EXISTS", keys.schedule(entry.name))):
        return RestoredItem(kind="schedule", id=entry.name, outcome="there")
    # Its own deployment, so that no other schedule goes; a server whose file has it takes it over, and it stays paused.
    definition = (entry.name, fields["def"], fields["when"], False)
    yield scripts.publish_schedules(keys, deployment=f"backup:{entry.name}", schedules=[definition])
    yield scripts.change_schedule(keys, schedule_id=entry.name, change="pause")
    return RestoredItem(kind="schedule", id=entry.name, outcome="restored", detail="paused")


def _memory(partitions: Partitions, entry: Entry) -> Operation[RestoredItem]:
    fields = entry.body["fields"]
    keys, expires = partitions.for_memory(entry.name), int(fields["expires"])
    restored = yield scripts.restore_memory(keys, memory_id=entry.name, expires_ms=expires, fields=_encoded(fields))
    return RestoredItem(kind="memory", id=entry.name, outcome="restored" if restored else "there")


def _run(partitions: Partitions, draft: _Draft, at: int) -> Operation[RestoredItem]:
    run_id, keys = draft.entry.name, partitions.for_run(draft.entry.name)
    if (yield command("EXISTS", keys.run(run_id))):
        return RestoredItem(kind="run", id=run_id, outcome="there")
    fields, detail = draft.fields, ""
    try:
        if is_under_way(fields):
            detail = f"was {fields['st']}, is cancelled"
            fields, events = as_cancelled(fields, at)
            draft.events += events
        parent = fields.get("par")
        if parent is not None and partitions.for_run(parent) is not keys:  # of an id of its own, in another partition
            fields = {name: value for name, value in fields.items() if name not in OF_ANOTHER}
            detail += (", " if detail else "") + f"is no child of {parent} any more"
    except (KeyError, ValueError) as error:
        raise BackupError(draft.entry.line, f"run {run_id}: its record cannot be read: {error}") from None
    fields = {name: value for name, value in fields.items() if name not in ("tok", "by", "kc")}
    numbered = {str(number): event for number, event in enumerate(draft.events, start=1)}
    for owner, values in (("", fields), (EVENTS, numbered), (LOGS, draft.logs), *draft.batches.items()):
        for piece in _pieces(_encoded(values)):
            yield scripts.store_draft(keys, token=draft.token, owner=owner, fields=piece)
    owners = [owner for owner, values in draft.batches.items() if values]
    code, *_ = yield scripts.restore_run(
        keys, token=draft.token, run_id=run_id, drafted=len(fields), events=len(numbered), logs=len(draft.logs),
        owners=owners, dead=draft.dead,
    )  # fmt: skip
    if code == b"there":
        return RestoredItem(kind="run", id=run_id, outcome="there")
    if code != b"restored":
        what = "its plan is not in front of it" if code == b"no-plan" else f"it cannot be stored ({code.decode()})"
        raise BackupError(draft.entry.line, f"run {run_id}: {what}")
    return RestoredItem(kind="run", id=run_id, outcome="restored", detail=detail)


def _encoded(fields: Mapping[str, str]) -> dict[str, bytes]:
    return {name: value.encode("utf-8", "surrogateescape") for name, value in fields.items()}


def _pieces(fields: Mapping[str, bytes]) -> Iterable[dict[str, bytes]]:
    part: dict[str, bytes] = {}
    size = 0
    for name, value in fields.items():
        if part and (size + len(value) > PIECE or len(part) >= 1000):
            yield part
            part, size = {}, 0
        part[name] = value
        size += len(name) + len(value)
    if part:
        yield part
