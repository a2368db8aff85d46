"""What `flowcraft-server` prints: diagnostics, settings, what was started."""

import json
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flowcraft_sdk._config.environment import environment_of
from flowcraft_server.blueprints.linting.catalog import called_id
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.config.load import LoadResult
from flowcraft_server.config.model import Settings
from flowcraft_server.config.quantities import format_duration
from flowcraft_server.config.schedules import schedules_of
from flowcraft_server.config.show import plain_settings, with_origins
from flowcraft_server.observability.terminal import plain_text
from flowcraft_server.schedules.definition import SHOWN, Schedule
from flowcraft_server.schedules.timing import zone_of

from .counts import counted
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_server.service.deployment import Published
    from flowcraft_server.store.embedded import EmbeddedStore

_MOST_SCHEDULES = 5
_LOOKED_AT = 20
"""Blueprints among which one is chosen to be suggested: they are made for it."""


def print_verdict(
    loaded: LoadResult, format: str, about_redis: str = "", *, strict: bool = False, starting: bool = False
) -> None:
    """Print, for people, how it went in one line."""
    if format in ("json", "sarif"):
        return
    errors = len(loaded.errors)
    warnings = len(loaded.diagnostics) - errors
    counts = counted(errors, "error") + (f", {counted(warnings, 'warning')}" if warnings else "")
    if errors or (strict and warnings):
        write(f"{counts}{': nothing was started' if starting else ''}", err=True)
        return
    handlers, blueprints = counted(len(loaded.handlers), "handler"), counted(len(loaded.blueprints), "blueprint")
    also = f" ({counted(warnings, 'warning')})" if warnings else ""
    write(f"{loaded.path.name} is right{also}: {handlers}, {blueprints}, Redis {about_redis}")


def print_next_times(settings: Settings, most: int = SHOWN) -> None:
    """Print, for people, when the schedules start their next runs, by their own time zones."""
    now = int(time.time() * 1000)
    for schedule in schedules_of(settings.schedules):
        write(f"schedule {schedule.id}: {_next_times(schedule, now, most)}")


def _next_times(schedule: Schedule, now: int, most: int) -> str:
    ticks = schedule.following(now)[1][:most]
    zone = zone_of(schedule.zone)
    form = "%a %Y-%m-%d %H:%M:%S %Z" if any(tick % 60_000 for tick in ticks) else "%a %Y-%m-%d %H:%M %Z"
    times = ", ".join(format(datetime.fromtimestamp(tick / 1000, zone), form) for tick in ticks)
    return f"{schedule.blueprint}, {'paused, else ' if schedule.paused else ''}next {times or 'never'}"


def print_settings(loaded: LoadResult, settings: Settings, origin: bool, as_json: bool = False) -> None:
    """Print the settings that count as YAML or JSON, or each with where it comes from."""
    plain = plain_settings(settings, loaded.secrets)
    if as_json:
        origins = _origins(loaded, settings, plain) if origin else ()
        shown = [{"path": path, "value": value, "origin": place} for path, value, place in origins]
        write_json(shown if origin else plain)
        return
    if not origin:
        write(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).rstrip())
        return
    rows = [
        (path, json.dumps(value, ensure_ascii=False), place) for path, value, place in _origins(loaded, settings, plain)
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for path, value, place in rows:
        write(f"{path:<{widths[0]}}  {value:<{widths[1]}}  {place}")


def _origins(loaded: LoadResult, settings: Settings, plain: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """As `with_origins`; of the embedded store also which variable all but `dev` take the address from."""
    from flowcraft_sdk._transport.connector import URL_VARIABLES

    environ = environment_of(loaded.folder, os.environ)
    variable = next((name for name in URL_VARIABLES if environ.get(name)), None)
    for path, value, place in with_origins(plain, loaded.values):
        if path == "redis.url" and settings.redis.embedded and variable is not None:
            place += f"; of all but dev: {variable} from {environ.place_of(variable)}"
        yield path, value, place


def address_row(settings: Settings, api: str) -> tuple[str, str]:
    """Name and text of the line that says where the web pages are, or the API alone; `api` is '' while it cannot listen."""
    name = "pages" if settings.api.ui else "api"
    if not api:
        return name, f"cannot listen on {settings.api.bind}; with `api: {{bind: 127.0.0.1:0}}` any free port is taken"
    return name, api if settings.api.ui else f"{api}/api/v1"


def print_started(
    loaded: LoadResult, settings: Settings, url: str, published: "Published", store: "EmbeddedStore | None", api: str
) -> None:
    """Print what runs now, where its state is, and what to type next; `api` is the address of the HTTP API, '' for none."""
    from flowcraft_server.service.namespace_peers import listed_publications

    executor = settings.executor
    workers = (
        counted(executor.workers, "process", "processes")
        if executor.worker_type == "process"
        else counted(executor.workers, "thread")
    )
    if executor.processes > 1:
        workers = f"{executor.processes} processes of {workers}"
    queues = ", ".join(executor.queues)
    rows = [
        ("store", _store_line(url, store)),
        ("blueprints", listed_publications(published.before, published.hashes)),
        ("handlers", _listed(list(loaded.handlers))),
        (
            "workers",
            f"{workers}, up to {counted(executor.async_concurrency, 'coroutine')} each process, queue {queues}",
        ),
    ]
    if settings.api.enabled:
        rows.append(address_row(settings, api))
    write(f"flowcraft · {settings.name}", bold=True)
    now = int(time.time() * 1000)
    schedules = schedules_of(settings.schedules)
    rows += [("schedules", f"{each.id}: {_next_times(each, now, 1)}") for each in schedules[:_MOST_SCHEDULES]]
    if len(schedules) > _MOST_SCHEDULES:
        rows.append(("schedules", f"and {len(schedules) - _MOST_SCHEDULES} more: flowcraft schedule list"))
    for name, line in rows:
        write(f"  {name:<11}{line}")
    write(
        f"Start a run:  {_suggested_start(loaded.blueprints)}"
        if loaded.blueprints
        else "No blueprints yet: put one into a folder of blueprints.dirs"
    )
    grace = format_duration(executor.drain_timeout)
    write(f"Ctrl-C ends this; what runs may finish within {grace}. All state stays.")


def _suggested_start(blueprints: Sequence[Blueprint]) -> str:
    """The command that starts a run of the first blueprint that no other one calls, with the inputs that it requires."""
    some = list(islice(blueprints, _LOOKED_AT))
    called = {called_id(node) for blueprint in some for node in blueprint.nodes}
    first = next((blueprint for blueprint in some if blueprint.id not in called), some[0])
    words = ["flowcraft", "start", first.id]
    for name, rule in (first.inputs_contract or {}).items():
        if "default" not in rule and rule.get("required", True):
            words += ["-i", f"{name}=..."]
    return plain_text(shlex.join([*words, "--follow"]), one_line=True)


def _store_line(url: str, store: "EmbeddedStore | None") -> str:
    from flowcraft_server.service.redis_checks import shown_url

    if store is None:
        return shown_url(url)
    how = "joined the server that runs already" if store.attached else "a server of our own"
    place = os.path.relpath(store.data_dir) if store.data_dir.is_relative_to(Path.cwd()) else store.data_dir
    return f"{place} ({how}, process {store.pid})"


def _listed(names: list[str], most: int = 8) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
