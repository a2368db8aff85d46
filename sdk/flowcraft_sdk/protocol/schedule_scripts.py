"""Typed wrappers of the scripts that change schedules."""

from collections.abc import Sequence

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import ScriptCall, call_of


def publish_schedules(keys: Keys, *, deployment: str, schedules: Sequence[tuple[str, str, str, bool]]) -> ScriptCall:
    """Publish the schedules of a deployment that lie in a partition; those that it has no more are removed.

    Args:
        deployment: `host:file`.
        schedules: of each its id, its definition as JSON, what its ticks depend on, and whether its file says that it is paused.
    """
    parts = [part for id_, definition, when, paused in schedules for part in (id_, definition, when, int(paused))]
    return call_of("publish_schedules", keys, deployment, *parts)


def change_schedule(keys: Keys, *, schedule_id: str, change: str) -> ScriptCall:
    """Pause, resume or delete a schedule."""
    return call_of("change_schedule", keys, schedule_id, change)


def note_schedule(
    keys: Keys,
    *,
    schedule_id: str,
    revision: int,
    what: str,
    tick: int = 0,
    text: str = "",
    following_json: str,
    due_ms: int | None,
) -> ScriptCall:
    """Note what became of a schedule's ticks that are not started; `what` is looked, missed or failed."""
    due = "" if due_ms is None else due_ms
    return call_of("note_schedule", keys, schedule_id, revision, what, tick, text, following_json, due)
