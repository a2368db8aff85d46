"""What an operation asks of its driver. Operations are generators without I/O; drivers do the I/O, sync or async."""

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from flowcraft_sdk.protocol.scripts import ScriptCall

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Command:
    """A plain Redis command."""

    name: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Doze:
    """Sleep until the run's channel says something, `seconds` at most. The driver listens since before the first step."""

    seconds: float


Step = Command | ScriptCall | Doze
Operation = Generator[Step, Any, T]


def command(name: str, *args: Any) -> Command:
    """A plain Redis command."""
    return Command(name, args)


def clock() -> float:
    """Monotonic seconds. `time.monotonic` would stand still under a frozen test clock, and a wait with it."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)
