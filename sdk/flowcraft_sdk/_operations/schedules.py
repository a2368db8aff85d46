"""Schedules: what they are, when they start runs next, pausing them, and starting one of their runs now."""

import difflib
from typing import Any, Literal

from flowcraft_sdk._operations.deployment import Deployment, keys_of, partitions_of, server_ms, text
from flowcraft_sdk._operations.durability import confirm
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk._operations.start import start_scheduled
from flowcraft_sdk.errors import ConfigurationError, ScheduleNotFoundError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.bounds import LONGEST_NAME, check_text
from flowcraft_sdk.protocol.context_input import new_run_id
from flowcraft_sdk.protocol.schedule_record import ScheduleInfo, definition_of, schedule_info, unreadable

Change = Literal["pause", "resume", "delete"]

TRIGGERED = "~0t"
"""Between the id of a schedule and the rest of the id of a run that was triggered: no user can give a run such an id."""

READ_AT_ONCE = 500


def list_schedules(deployment: Deployment) -> Operation[list[ScheduleInfo]]:
    """All schedules, by their ids."""
    partitions = yield from partitions_of(deployment)
    listed = yield Batch(tuple(command("ZRANGE", keys.schedules, 0, -1) for keys in partitions.all))
    names = sorted(text(name) for reply in listed for name in reply)
    now, found = (yield from server_ms(deployment)), []
    for first in range(0, len(names), READ_AT_ONCE):
        some = names[first : first + READ_AT_ONCE]
        rows = yield Batch(
            tuple(command("HGETALL", partitions.for_run(name).schedule(name)) for name in some), bearing=True
        )
        for name, row in zip(some, rows, strict=True):
            if isinstance(row, Exception):
                found.append(unreadable(name))
            elif row:
                found.append(schedule_info(name, row, now))
    return found


def get_schedule(deployment: Deployment, schedule_id: str) -> Operation[ScheduleInfo]:
    """A schedule.

    Raises:
        ScheduleNotFoundError: there is none.
    """
    schedule_id = check_text(schedule_id, "a schedule id", LONGEST_NAME)
    keys = yield from keys_of(deployment, schedule_id)
    row = yield command("HGETALL", keys.schedule(schedule_id))
    if not row:
        yield from _missing(deployment, schedule_id)
    return schedule_info(schedule_id, row, (yield from server_ms(deployment)))


def change_schedule(deployment: Deployment, schedule_id: str, change: Change) -> Operation[None]:
    """Pause, resume or delete a schedule.

    Raises:
        ScheduleNotFoundError: there is none.
    """
    schedule_id = check_text(schedule_id, "a schedule id", LONGEST_NAME)
    keys = yield from keys_of(deployment, schedule_id)
    if not int((yield scripts.change_schedule(keys, schedule_id=schedule_id, change=change))):
        yield from _missing(deployment, schedule_id)


def trigger_schedule(deployment: Deployment, schedule_id: str) -> Operation[str]:
    """Start a run as a tick of the schedule would, now; the value is its id.

    Raises:
        ScheduleNotFoundError: there is none.
    """
    schedule_id = check_text(schedule_id, "a schedule id", LONGEST_NAME)
    keys = yield from keys_of(deployment, schedule_id)
    raw = yield command("HGET", keys.schedule(schedule_id), "def")
    if raw is None:
        yield from _missing(deployment, schedule_id)
    words = definition_of(raw)
    if words is None:
        raise ConfigurationError(f"the definition of schedule '{schedule_id}' cannot be read; start a server with it")
    run_id = f"{schedule_id}{TRIGGERED}{new_run_id()}"
    tags, priority = run_tags(schedule_id, words["tags"]), words.get("priority", "normal")
    reply = yield from start_scheduled(
        deployment, {"id": schedule_id}, words["blueprint"], words["input"], run_id, tags, priority
    )
    if text(reply[0]) == "tick":
        yield from _missing(deployment, schedule_id)
    yield from confirm(deployment, run_id, "the start")
    return run_id


def run_tags(schedule_id: str, tags: Any) -> list[str]:
    """Tags of a schedule's runs: its own, and one by which they are found."""
    return [*tags, f"schedule:{schedule_id}"]


def _missing(deployment: Deployment, schedule_id: str) -> Operation[None]:
    partitions = yield from partitions_of(deployment)
    listed = yield Batch(tuple(command("ZRANGE", keys.schedules, 0, -1) for keys in partitions.all))
    known = [text(name) for reply in listed for name in reply]
    raise ScheduleNotFoundError(schedule_id, difflib.get_close_matches(schedule_id, known, 1, 0.5))
