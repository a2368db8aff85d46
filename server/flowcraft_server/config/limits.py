"""The limits of a deployment: those of its handlers, and those that nodes name."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from flowcraft_server.blueprints.run_limits import RunLimits

from .model import Settings
from .sections import HandlerEntry

SAVED_UP = 1.0
"""Seconds for which a bucket saves up tokens that are not taken, one token at least."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What nodes may do together, over all workers.

    Attributes:
        rate: nodes a second.
        max_concurrent: nodes at once.
    """

    rate: float | None = None
    max_concurrent: int | None = None

    def stored(self) -> str:
        """The form that limits.lua reads: ms for each token, tokens that may be saved up, nodes at once."""
        most = "" if self.max_concurrent is None else str(self.max_concurrent)
        if self.rate is None:
            return f"||{most}"
        return f"{1000 / self.rate:.6f}|{max(1, math.floor(self.rate * SAVED_UP))}|{most}"


def run_limits_of(settings: Settings) -> RunLimits:
    """How many runs of the deployment there may be at once."""
    section = settings.limits
    return RunLimits(section.concurrent_runs, section.concurrent_runs_per_key, section.overflow)


def limit_of(name: str, entry: HandlerEntry) -> str | None:
    """The limit that the nodes of a handler count against: the one that its entry names, or its own."""
    if entry.rate_limit is not None or entry.max_concurrent is not None:
        return f"handler:{quote(name, safe='')}"
    return entry.limit


def limits_of(settings: Settings) -> Mapping[str, Limit]:
    """All limits, by the name that the plans have."""
    limits = {name: Limit(section.rate, section.max_concurrent) for name, section in settings.limits.named.items()}
    for name, entry in settings.handlers.items():
        limit = limit_of(name, entry)
        if limit is not None and limit != entry.limit:
            limits[limit] = Limit(entry.rate_limit, entry.max_concurrent)
    return limits
