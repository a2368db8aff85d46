"""Schedules of a test environment."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from flowcraft_sdk import ConfigurationError, RunStatus
from flowcraft_sdk._config.source_positions import written_path
from flowcraft_sdk._config.value_tree import Tree
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.config.explain import mistakes_of
from flowcraft_server.config.model import Settings
from flowcraft_server.config.schedules import ScheduleSection, misfits
from flowcraft_server.store.link import StoreLink, text_of

_FIELDS = ("queued", "rev", "next", "def", "run", "trig")


def read_schedules(schedules: Mapping[str, Mapping[str, Any]]) -> dict[str, ScheduleSection]:
    """Read schedules as `flowcraft.yaml` has them.

    Args:
        schedules: Mappings by id; numbers are seconds.

    Returns:
        The schedules.

    Raises:
        ConfigurationError: One of them has errors; the message lists them.
    """
    tree = Tree({"schedules": {name: dict(words) for name, words in schedules.items()}})
    try:
        return Settings.model_validate(tree.data).schedules
    except ValidationError as error:
        found = [f"{written_path(path)}: {message}" for path, message in mistakes_of(error, tree)]
        raise ConfigurationError("; ".join(found)) from None


def check_schedules(schedules: Mapping[str, ScheduleSection], blueprints: Sequence[Blueprint]) -> None:
    """Make sure that schedules fit the blueprints whose runs they start.

    Args:
        schedules: The schedules.
        blueprints: The blueprints that are published.

    Raises:
        ConfigurationError: One does not; the message lists what is wrong.
    """
    found = [f"{written_path(path)}: {message}" for path, message in misfits(schedules, blueprints)]
    if found:
        raise ConfigurationError("; ".join(found))


@dataclass(frozen=True)
class Moment:
    """What the schedules are like at a moment.

    Attributes:
        due: A scheduler has something to do: a tick is due, or one that waits may begin.
        revisions: How often each has changed.
    """

    due: bool
    revisions: tuple[bytes | None, ...]


def look_at_schedules(link: StoreLink, partitions: Partitions) -> Moment:
    """Look at the schedules. Two looks that differ have a start between them, that of a run or of a tick that waits.

    Args:
        link: The connection.
        partitions: Those of the environment.

    Returns:
        What was found.
    """
    (seconds, micros), offset = link.read_all([("TIME",), ("GET", partitions.home.clock)])
    now = int(seconds) * 1000 + int(micros) // 1000 + int(offset or 0)
    listed = link.read_all([("ZRANGE", keys.schedules, 0, -1, "WITHSCORES") for keys in partitions.all])
    due, revisions = False, []
    for keys, reply in zip(partitions.all, listed, strict=True):
        for name, score in zip(reply[::2], reply[1::2], strict=True):
            (record,) = link.read_all([("HMGET", keys.schedule(text_of(name)), *_FIELDS)])
            queued, revision, following, definition, *before = record
            revisions.append(revision)
            if queued is None:
                due = due or float(score) <= now
                continue
            ticks, words = json.loads(following or b"[]"), json.loads(definition)
            due = due or (bool(ticks) and ticks[0] <= now and not words["jitter"])
            replies = link.read_all([("HGET", keys.run(text_of(run)), "st") for run in before if run is not None])
            going_on = [state for state in replies if state is not None and not RunStatus(text_of(state)).is_terminal]
            due = due or not going_on or (words["overlap"] == "cancelPrevious" and b"cancelling" not in going_on)
    return Moment(due, tuple(revisions))
