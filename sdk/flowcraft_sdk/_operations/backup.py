"""A deployment as lines of a backup: see `protocol/backup_format.py`. Nothing of it is held but a run at a time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowcraft_sdk._operations.deployment import Deployment, partitions_of, server_ms
from flowcraft_sdk._operations.effects import Batch, Operation, Yield, command
from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol.backup_format import encoded, head_of
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.memory_scripts import OF_MEMORY
from flowcraft_sdk.records import STATES, RunStatus

PIECE = 512 * 1024
"""Characters of values after which a further line begins."""

IDS_AT_ONCE = 500
READ_TRIES = 5


def backup(deployment: Deployment) -> Operation[None]:
    """Yield the lines.

    Raises:
        ConfigurationError: no server has published anything under this name.
    """
    partitions = yield from partitions_of(deployment)
    if deployment.partitions is None:
        raise ConfigurationError(f"nothing is published under the name '{deployment.keys.namespace}' here")
    counts = {"plans": 0, "blueprints": 0, "schedules": 0, "memories": 0, "runs": 0}
    known: set[str] = set()
    yield Yield(encoded(head_of(deployment.keys.namespace, (yield from server_ms(deployment)))))
    current = yield command("HGETALL", partitions.home.blueprints)
    for name, plan in sorted(_texts(current).items()):
        yield from _plan(partitions.home, plan, known, counts)
        if plan in known:
            yield Yield(encoded({"blueprint": name, "plan": plan}))
            counts["blueprints"] += 1
    for keys in partitions.all:
        for schedule_id in _list((yield command("ZRANGE", keys.schedules, 0, -1))):
            fields = _texts((yield command("HGETALL", keys.schedule(schedule_id))))
            if fields:
                yield Yield(encoded({"schedule": schedule_id, "fields": fields}))
                counts["schedules"] += 1
    for keys in partitions.all:
        for memory_id in _list((yield command("ZRANGE", keys.memories, 0, -1))):
            fields = _texts((yield command("HGETALL", keys.memory(memory_id))))
            kept = {name: value for name, value in fields.items() if name in OF_MEMORY or name.startswith("t:")}
            if kept.keys() >= OF_MEMORY:  # else it has expired; turns of nodes that run are none of it yet
                yield Yield(encoded({"memory": memory_id, "fields": kept}))
                counts["memories"] += 1
    for keys in partitions.all:
        active = yield from _active(keys)
        under_way = set(active)
        for status in sorted(state for state in STATES if state.is_terminal):
            yield from _ended(keys, status, under_way, known, counts)
        for run_id in active:  # last, when more of them have ended
            yield from _run(keys, run_id, known, counts)
    yield Yield(encoded({"complete": counts}))


def _active(keys: Keys) -> Operation[list[str]]:
    """The runs of a partition that have not ended, at one moment: so each run is either one of them, or among the ended ones."""
    states = sorted(state for state in STATES if not state.is_terminal)
    replies = yield Batch(tuple(command("ZRANGE", keys.index_status(state), 0, -1) for state in states), atomic=True)
    return [run_id for reply in replies for run_id in _list(reply)]


def _ended(
    keys: Keys, status: RunStatus, under_way: set[str], known: set[str], counts: dict[str, int]
) -> Operation[None]:
    """The runs that had ended so, oldest first."""
    first, skipped = "-inf", 0
    while True:
        reply = yield command(
            "ZRANGEBYSCORE", keys.index_status(status), first, "+inf", "WITHSCORES", "LIMIT", skipped, IDS_AT_ONCE
        )
        entries = list(zip(_list(reply[::2]), _list(reply[1::2]), strict=True))
        for run_id, _ in entries:
            if run_id not in under_way:
                yield from _run(keys, run_id, known, counts)
        if len(entries) < IDS_AT_ONCE:
            return
        last = entries[-1][1]
        same = sum(score == last for _, score in entries)
        first, skipped = last, same + (skipped if first == last else 0)


def _plan(keys: Keys, plan: str, known: set[str], counts: dict[str, int]) -> Operation[None]:
    if plan in known:
        return
    fields = _texts((yield command("HGETALL", keys.plan(plan))))
    if fields:
        known.add(plan)
        counts["plans"] += 1
        yield Yield(encoded({"plan": plan, "fields": fields}))


def _run(keys: Keys, run_id: str, known: set[str], counts: dict[str, int]) -> Operation[None]:
    """The lines of a run, as it is at one moment; none if it is gone by now, or cannot be read."""
    owners: tuple[str, ...] = ()
    for _ in range(READ_TRIES):
        reads = (
            command("HGETALL", keys.run(run_id)),
            command("LRANGE", keys.events(run_id), 0, -1),
            command("HGETALL", keys.logs(run_id)),
            *(command("HGETALL", keys.batch(run_id, owner)) for owner in owners),
        )
        try:
            record, events, logs, *batches = yield Batch(reads, atomic=True)
        except Exception as error:  # a key of another type is in the place of one of them: the doctor reports it
            if type(error).__name__ not in ("RunBrokenError", "ForeignKeyError"):
                raise
            return
        fields = _texts(record)
        if not {"st", "plan", "bp", "cr"} <= fields.keys():
            return
        found = tuple(filter(None, fields.get("batches", "").split("\n")))
        if found == owners:
            break
        owners = found
    yield from _plan(keys, fields["plan"], known, counts)
    if fields["plan"] not in known:
        return
    dead = {}
    for instance in filter(None, fields.get("dead", "").split("\n")):
        score = yield command("ZSCORE", keys.dead, f"{run_id}|{instance}")
        if score is not None:
            dead[instance] = int(float(score))
    pieces = _pieces(fields)
    yield Yield(encoded({"run": run_id, "fields": next(pieces), "dead": dead}))
    for piece in pieces:
        yield Yield(encoded({"of": run_id, "fields": piece}))
    for chunk in _chunks(_list(events)):
        yield Yield(encoded({"of": run_id, "events": chunk}))
    for piece in _pieces(_texts(logs)):
        if piece:
            yield Yield(encoded({"of": run_id, "logs": piece}))
    for owner, batch in zip(owners, batches, strict=True):
        for piece in _pieces(_texts(batch)):
            yield Yield(encoded({"of": run_id, "batch": owner, "fields": piece}))
    yield Yield(encoded({"end": run_id}))
    counts["runs"] += 1


def _pieces(fields: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The fields in parts; one at least, which may be empty."""
    part: dict[str, str] = {}
    size = 0
    for name, value in fields.items():
        if part and size + len(name) + len(value) > PIECE:
            yield part
            part, size = {}, 0
        part[name] = value
        size += len(name) + len(value)
    yield part


def _chunks(values: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for value in values:
        if part and size + len(value) > PIECE:
            yield part
            part, size = [], 0
        part.append(value)
        size += len(value)
    if part:
        yield part


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _list(values: Any) -> list[str]:
    return [_text(value) for value in values]


def _texts(values: Mapping[Any, Any]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in values.items()}
