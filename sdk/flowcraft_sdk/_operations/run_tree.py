"""Events of a run and of all runs below it, as they happen."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from flowcraft_sdk._operations.deployment import Deployment, Seconds, keys_of, text
from flowcraft_sdk._operations.effects import Operation, Subscribe, WaitForNotification, Yield, command
from flowcraft_sdk._operations.runs import status
from flowcraft_sdk._operations.wait import (
    LISTEN_WAIT,
    LOOK_AGAIN,
    Deadline,
    bearing_outages,
    event_page,
    timed_out,
)
from flowcraft_sdk.errors import ConfigurationError, RunNotFoundError
from flowcraft_sdk.records import RunEvent

MOST_FOLLOWED = 200
"""Runs whose changes are listened to; further ones are looked at whenever one of these changes."""


@dataclass(slots=True)
class _Followed:
    """A run of the tree.

    Attributes:
        seen: number of the last event that was read.
        ended: whether all its events were read.
    """

    seen: int = 0
    ended: bool = False


def tree_events(
    deployment: Deployment, run_id: str, after: str | None, follow: bool, timeout: Seconds | None, handle: Any
) -> Operation[None]:
    """Yield the events of a run and of the runs below it; with `follow` also those to come, until the run has ended.

    Raises:
        WaitTimeoutError: it has not ended in time.
        ConfigurationError: an id is given to begin behind: each run has its own.
    """
    if after is not None:
        raise ConfigurationError("after is the id of an event of one run: leave it out, or children")
    deadline, runs = Deadline(timeout), {run_id: _Followed()}
    listened: tuple[str, ...] = ()
    first: list[RunEvent] | None = yield from _news(
        deployment, run_id, runs
    )  # without Redis there is nothing to follow
    while True:
        look = partial(_news, deployment, run_id, runs)
        found = first or (yield from bearing_outages(deployment, deadline, look, None))
        first = None
        for event in found or ():
            yield Yield(event)
        wanted = tuple(runs)[:MOST_FOLLOWED]
        if found is not None and not found and (not follow or runs[run_id].ended):
            return
        if found:
            continue
        if deadline.expired:
            now = yield from status(deployment, run_id)
            raise (yield from timed_out(deployment, run_id, now, deadline, handle))
        if wanted == listened:
            yield WaitForNotification(deadline.remaining(LOOK_AGAIN))
        else:  # then looked at once more: something may have happened before the subscription began
            listened = wanted
            keys = yield from keys_of(deployment, run_id)
            yield Subscribe(tuple(keys.channel(each) for each in wanted), deadline.remaining(LISTEN_WAIT))


def _news(deployment: Deployment, top: str, runs: dict[str, _Followed]) -> Operation[list[RunEvent] | None]:
    """What has happened since the last look, in the order of time; runs that were started below are added."""
    found: list[RunEvent] = []
    waiting = [run_id for run_id, run in runs.items() if not run.ended]
    while waiting:
        run_id = waiting.pop()
        run = runs[run_id]
        try:
            page, run.ended = yield from event_page(deployment, run_id, run.seen)
        except RunNotFoundError:
            if run_id == top:
                raise
            run.ended = True  # removed meanwhile
            continue
        if not page:
            continue
        run.seen = int(page[-1].id)
        found += page
        for child in (yield from _children(deployment, run_id)):
            if child not in runs:
                runs[child] = _Followed()
                waiting.append(child)
    return sorted(found, key=_order)


def _order(event: RunEvent) -> tuple[datetime, int, int]:
    """By time; of what happens at one time the ends of runs come last, those of runs further below first."""
    ends = event.type == "run_ended"
    return event.at, int(ends), -event.run_id.count("~") if ends else 0


def _children(deployment: Deployment, run_id: str) -> Operation[list[str]]:
    key = (yield from keys_of(deployment, run_id)).run(run_id)
    if (yield command("HEXISTS", key, "kids")) == 0:
        return []
    names = yield command("HKEYS", key)
    return sorted(text(name)[2:] for name in names if bytes(name[:2]) == b"k:")
