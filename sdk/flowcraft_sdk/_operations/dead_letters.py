"""Dead letters: nodes that were given up because their worker was lost again and again."""

import hashlib

from flowcraft_sdk._operations.deployment import Deployment, keys_of, partitions_of, record, text
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk._operations.list_runs import scored
from flowcraft_sdk._operations.rerun import Rerun, again
from flowcraft_sdk.errors import (
    DeadLetterNotFoundError,
    RunBrokenError,
    RunStateError,
)
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.bounds import LONGEST_PATH, MOST_DEAD_LETTERS, check_count, check_text
from flowcraft_sdk.protocol.run_record import RunRecord, moment
from flowcraft_sdk.records import DeadLetter, RunStatus

REPLAY = "~replay"
"""Behind the id of a run that is done again. No user can give a run such an id: what is there is always that run, done again."""

LONGEST_ID = 400


def dead_letters(deployment: Deployment, limit: int) -> Operation[list[DeadLetter]]:
    """The dead letters, the newest first."""
    if check_count(limit, "limit", MOST_DEAD_LETTERS) == 0:
        return []
    partitions = yield from partitions_of(deployment)
    replies = yield Batch(tuple(command("ZREVRANGE", keys.dead, 0, limit - 1, "WITHSCORES") for keys in partitions.all))
    entries = sorted(
        (entry for reply in replies for entry in scored(reply)), key=lambda entry: (entry[1], entry[0]), reverse=True
    )[:limit]
    if not entries:
        return []
    places = [member.partition("|")[::2] for member, _ in entries]
    wanted = [
        command("HMGET", partitions.for_run(run).run(run), "st", "bp", f"n:{instance_id}", f"f:{instance_id}")
        for run, instance_id in places
    ]
    rows = yield Batch(tuple(wanted), bearing=True)
    found = []
    for (run_id, instance_id), (_, at), row in zip(places, entries, rows, strict=True):
        if isinstance(row, Exception):
            found.append(_unreadable(run_id, instance_id, at))
        elif row[0] is not None:  # else retention removed it while we were looking
            fields = {
                "st": row[0],
                "bp": row[1],
                f"n:{instance_id}": row[2],
                f"f:{instance_id}": row[3],
                "plan": "",
                "cr": "0",
            }
            try:
                found.append(
                    _dead_letter(
                        run_id, instance_id, at, {name: text(v) for name, v in fields.items() if v is not None}
                    )
                )
            except RunBrokenError:
                found.append(_unreadable(run_id, instance_id, at))
    return found


def _unreadable(run_id: str, instance_id: str, at: float) -> DeadLetter:
    reason = "the record of the run cannot be read; `flowcraft doctor` says more"
    return DeadLetter(
        run_id=run_id,
        node_id=instance_id,
        blueprint_id="",
        status=RunStatus.UNKNOWN,
        at=moment(at),
        crashes=0,
        reason=reason,
    )


def _dead_letter(run_id: str, instance_id: str, at: float, fields: dict[str, str]) -> DeadLetter:
    node = RunRecord(run_id, fields, {"nodes": [{"id": instance_id}], "edges": []}).snapshot().nodes[instance_id]
    return DeadLetter(
        run_id=run_id,
        node_id=instance_id,
        blueprint_id=fields.get("bp", ""),
        status=RunStatus(fields["st"]),
        at=moment(at),
        crashes=node.crashes,
        reason=node.error.summary if node.error is not None else "",
    )


def delete_dead_letters(deployment: Deployment, run_id: str, node_id: str | None) -> Operation[int]:
    """Delete the dead letters of a run, or of one of its nodes; how many there were.

    Raises:
        DeadLetterNotFoundError: there is none.
    """
    check_text(run_id, "a run id", LONGEST_PATH)
    if node_id is not None:
        check_text(node_id, "node_id", LONGEST_PATH, least=0)
    keys = yield from keys_of(deployment, run_id)
    reply = yield scripts.delete_dead_letters(keys, run_id=run_id, instance_id=node_id or "")
    if not int(reply):
        raise DeadLetterNotFoundError(run_id, node_id)
    return int(reply)


def replay(deployment: Deployment, run_id: str) -> Operation[Rerun]:
    """Do the run of a dead letter again, as it was started: the same blueprint and version, the same start context.

    A child run is only of use to the node that waited for it, so its outermost parent is done again. The new run's id
    follows from the old one's, so that repeating the call starts nothing twice.

    Raises:
        DeadLetterNotFoundError: the run has no dead letter.
        RunStateError: it goes on.
    """
    check_text(run_id, "a run id", LONGEST_PATH)
    given_up = yield from record(deployment, run_id)
    keys, there = (yield from keys_of(deployment, run_id)), False
    for node in filter(None, given_up.fields.get("dead", "").split("\n")):
        there = there or (yield command("ZSCORE", keys.dead, f"{run_id}|{node}")) is not None
    if not there:
        raise DeadLetterNotFoundError(run_id)
    run = given_up
    while run.fields.get("pn"):
        run = yield from record(deployment, run.fields["par"])
    if not run.status.is_terminal:
        raise RunStateError(
            run.run_id,
            run.status.value,
            f"run {run.run_id} is still {run.status}; replay it when it has ended, or cancel it",
        )
    new_id = run.run_id + REPLAY
    if len(new_id) > LONGEST_ID:
        new_id = f"replay~{hashlib.sha256(new_id.encode()).hexdigest()}"
    replayed = yield from again(deployment, run, new_id)
    yield scripts.delete_dead_letters(keys, run_id=run_id)
    return replayed
