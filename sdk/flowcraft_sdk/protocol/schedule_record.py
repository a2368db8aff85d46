"""A schedule as its hash in Redis has it, decoded."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flowcraft_sdk.protocol.run_record import moment
from flowcraft_sdk.records import Record


class ScheduleInfo(Record):
    """A schedule and its state.

    Attributes:
        id: Id of the schedule.
        blueprint_id: Id of the blueprint whose runs it starts.
        cron: Its cron expression; None if it has a tick every so often.
        timezone: The time zone of the expression.
        every: Seconds from one tick to the next; None if it has an expression.
        overlap: What becomes of a tick while the run of an earlier one goes on: skip, queue or cancelPrevious.
        catch_up: How many seconds late a tick may be started.
        jitter: By how many seconds each start may be put off.
        tags: Tags of its runs.
        priority: Priority of its runs: high, normal or low.
        paused: Whether it starts nothing until it is resumed.
        next_times: When its next ticks are, five at most; none while it is paused, or until a server has looked at it.
        last_tick: The tick of the run that was started last.
        last_run_id: Id of that run.
        triggered_run_id: Id of the run that was triggered last.
        queued_tick: A tick that waits until the run of an earlier one has ended.
        starts: How many runs it has started.
        skips: How many ticks were left out. Ticks that were missed together count as one.
        skipped_tick: The tick that was left out last.
        skipped_because: Why.
        last_error: Why the run of a tick could not be started; empty once one was. It is tried again for `catch_up` seconds.
        last_error_at: When that was found.
        deployment: The file that it stands in, as `host:path`.
    """

    id: str
    blueprint_id: str
    cron: str | None = None
    timezone: str | None = None
    every: float | None = None
    overlap: str = "skip"
    catch_up: float = 0.0
    jitter: float = 0.0
    tags: tuple[str, ...] = ()
    priority: str = "normal"
    paused: bool = False
    next_times: tuple[datetime, ...] = ()
    last_tick: datetime | None = None
    last_run_id: str | None = None
    triggered_run_id: str | None = None
    queued_tick: datetime | None = None
    starts: int = 0
    skips: int = 0
    skipped_tick: datetime | None = None
    skipped_because: str = ""
    last_error: str = ""
    last_error_at: datetime | None = None
    deployment: str = ""


def definition_of(raw: Any) -> dict[str, Any] | None:
    """The definition of a schedule as it is published, None if it cannot be read."""
    try:
        words = json.loads(raw)
        fits = isinstance(words["input"], dict) and isinstance(words["tags"], list)
        return words if fits and isinstance(words["blueprint"], str) else None
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def unreadable(schedule_id: str, why: str = "its record in Redis cannot be read") -> ScheduleInfo:
    """A schedule of which nothing but the id is known."""
    return ScheduleInfo(id=schedule_id, blueprint_id="", last_error=why)


def schedule_info(schedule_id: str, row: Mapping[Any, Any], now: int) -> ScheduleInfo:
    """The schedule that the fields of its hash make.

    Args:
        now: the time by which the deployment goes, in ms.
    """
    fields = {_text(name): _text(value) for name, value in row.items()}
    words = definition_of(fields.get("def", ""))
    if words is None:
        return unreadable(schedule_id)
    try:
        return _read(schedule_id, fields, words, now)
    except (ValueError, TypeError, LookupError, OverflowError):
        return unreadable(schedule_id)


def _read(schedule_id: str, fields: Mapping[str, str], words: Mapping[str, Any], now: int) -> ScheduleInfo:
    error_at, _, error = fields.get("err", "").partition("|")
    skipped, _, because = fields.get("skip", "").partition("|")
    every = words.get("every")
    return ScheduleInfo(
        id=schedule_id,
        blueprint_id=words["blueprint"],
        cron=words.get("cron"),
        timezone=words.get("timezone"),
        every=None if every is None else every / 1000,
        overlap=words["overlap"],
        catch_up=words["catchUp"] / 1000,
        jitter=words["jitter"] / 1000,
        tags=tuple(words["tags"]),
        priority=words.get("priority", "normal"),
        paused="paused" in fields,
        next_times=tuple(moment(tick) for tick in json.loads(fields.get("next") or "[]") if tick > now),
        last_tick=_moment(fields.get("tick")),
        last_run_id=fields.get("run"),
        triggered_run_id=fields.get("trig"),
        queued_tick=_moment(fields.get("queued")),
        starts=int(fields.get("starts", 0)),
        skips=int(fields.get("skips", 0)),
        skipped_tick=_moment(skipped),
        skipped_because=because,
        last_error=error.partition("|")[2],
        last_error_at=_moment(error_at),
        deployment=fields.get("by", ""),
    )


def _moment(ms: str | None) -> datetime | None:
    return moment(float(ms)) if ms else None


def _text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
