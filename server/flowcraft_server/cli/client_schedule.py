"""`flowcraft schedule`: what starts runs at set times, when next, and whether it does."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from flowcraft_server.observability.terminal import plain_text

from .counts import counted
from .shared_options import as_json_option, json_before
from .terminal import console, table, write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client, ScheduleInfo


@click.group()
@json_before
def schedule() -> None:
    """Schedules: runs that are started at set times. They are written in flowcraft.yaml."""


@schedule.command("list")
@as_json_option
@click.pass_obj
def list_(connect: Callable[[], "Client"], as_json: bool) -> None:
    """List schedules, each with its next time, its last run and what keeps it from starting one."""
    found = connect().schedules.list()
    if as_json:
        write_json(list(found))
    else:
        _print_table(found)


@schedule.command()
@click.argument("schedule_id", metavar="SCHEDULE")
@as_json_option
@click.pass_obj
def show(connect: Callable[[], "Client"], schedule_id: str, as_json: bool) -> None:
    """Show SCHEDULE: when it starts runs, the next five times, its last runs and errors."""
    found = connect().schedules.get(schedule_id)
    if as_json:
        write_json(found)
    else:
        _print_schedule(found)


@schedule.command()
@click.argument("schedule_id", metavar="SCHEDULE")
@as_json_option
@click.pass_obj
def pause(connect: Callable[[], "Client"], schedule_id: str, as_json: bool) -> None:
    """Have SCHEDULE start nothing until it is resumed. Its runs go on."""
    schedules = connect().schedules
    schedules.pause(schedule_id)
    _print_state(schedules.get(schedule_id), as_json)


@schedule.command()
@click.argument("schedule_id", metavar="SCHEDULE")
@as_json_option
@click.pass_obj
def resume(connect: Callable[[], "Client"], schedule_id: str, as_json: bool) -> None:
    """Have SCHEDULE go on. What was due while it was paused is not made up for."""
    schedules = connect().schedules
    schedules.resume(schedule_id)
    _print_state(schedules.get(schedule_id), as_json)


@schedule.command()
@click.argument("schedule_id", metavar="SCHEDULE")
@as_json_option
@click.pass_obj
def trigger(connect: Callable[[], "Client"], schedule_id: str, as_json: bool) -> None:
    """Start a run of SCHEDULE now and print its id, also if it is paused or a run of it goes on."""
    handle = connect().schedules.trigger(schedule_id)
    if as_json:
        write_json({"schedule_id": schedule_id, "run_id": handle.run_id})
    else:
        write(handle.run_id)


@schedule.command()
@click.argument("schedule_id", metavar="SCHEDULE")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_obj
def delete(connect: Callable[[], "Client"], schedule_id: str, yes: bool, as_json: bool) -> None:
    """Remove SCHEDULE, which no file has any more. One that a file has is there again at the next start of a server."""
    schedules = connect().schedules
    found = schedules.get(schedule_id)
    if not yes:
        if as_json:
            raise click.UsageError("it asks before it deletes; with --json give --yes too")
        click.confirm(f"Remove schedule {schedule_id} of {plain_text(found.deployment)}?", abort=True, err=True)
    schedules.delete(schedule_id)
    if as_json:
        write_json({"schedule_id": schedule_id, "deleted": True})
    else:
        write(f"removed schedule {schedule_id}")
        write(f"if {found.deployment} still has it, it is there again at the next start of a server", err=True)


def _print_state(found: "ScheduleInfo", as_json: bool) -> None:
    if as_json:
        write_json({"schedule_id": found.id, "paused": found.paused})
    else:
        write(f"{found.id} is paused" if found.paused else f"{found.id} starts runs")


def _print_table(found: "Iterable[ScheduleInfo]") -> None:
    from rich.text import Text

    shown = table("schedule", "blueprint", "when", "next", "last run", "")
    for info in found:
        following = "paused" if info.paused else _time(info, info.next_times[0]) if info.next_times else ""
        about = Text(_line(_about(info)), style="red" if info.last_error else "")
        shown.add_row(
            Text(info.id), Text(info.blueprint_id), Text(_when(info)), following, Text(info.last_run_id or ""), about
        )
    console().print(shown)


def _print_schedule(info: "ScheduleInfo") -> None:
    from rich.text import Text

    out = console()
    tags, state = ", ".join(info.tags), "paused" if info.paused else "starts runs"
    counts = f"{counted(info.starts, 'run')} started, {counted(info.skips, 'tick')} left out"
    facts: dict[str, Any] = {
        "schedule": info.id, "blueprint": info.blueprint_id, "when": _when(info), "state": state, "overlap": info.overlap,
        "catch up": f"{info.catch_up:g} s", "jitter": f"{info.jitter:g} s" if info.jitter else "", "tags": tags,
        "priority": info.priority, "file": info.deployment, "so far": counts, "last tick": _time(info, info.last_tick),
        "last run": info.last_run_id, "triggered": info.triggered_run_id, "waits": _time(info, info.queued_tick),
    }  # fmt: skip
    if info.skipped_tick is not None:
        facts["left out"] = f"{_time(info, info.skipped_tick)}: {info.skipped_because}"
    if info.last_error:
        facts["error"] = f"{_time(info, info.last_error_at)}: {info.last_error}"
    for title, value in facts.items():
        if value:
            out.print(Text.assemble((f"{title:<11}", "bold"), _line(value, 2_000)))
    for number, moment in enumerate(info.next_times):
        out.print(Text.assemble(("next       " if number == 0 else " " * 11, "bold"), _time(info, moment)))


def _about(info: "ScheduleInfo") -> str:
    if info.last_error:
        return info.last_error
    if info.queued_tick is not None:
        return f"the tick of {_time(info, info.queued_tick)} waits"
    if info.skipped_tick is not None and (info.last_tick is None or info.skipped_tick > info.last_tick):
        return f"left out {_time(info, info.skipped_tick)}: {info.skipped_because}"
    return ""


def _when(info: "ScheduleInfo") -> str:
    from flowcraft_server.config.quantities import format_duration

    return f"every {format_duration(info.every)}" if info.every else f"{info.cron} {info.timezone}"


def _time(info: "ScheduleInfo", moment: datetime | None) -> str:
    """A time in the time zone of the schedule."""
    from flowcraft_server.schedules.timing import TimingError, zone_of

    if moment is None:
        return ""
    try:
        zone = zone_of(info.timezone or "UTC")
    except TimingError:
        zone = zone_of("UTC")
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"


def _line(value: Any, most: int = 120) -> str:
    text = plain_text(" ".join(str(value).split()), one_line=True)
    return text if len(text) <= most else text[: most - 3] + "..."
