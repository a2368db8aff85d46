"""What an operation asks of its driver. Operations are generators without I/O; drivers do the I/O, sync or async."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from flowcraft_sdk.protocol.script_call import ScriptCall

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Command:
    """A plain Redis command that changes nothing; the answer is its reply."""

    name: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Commands sent in one round trip; the answer is the list of their replies.

    Attributes:
        commands: what to send.
        atomic: whether nothing may happen between them.
        bearing: whether a key of another type than the command's gives an error among the replies, in place of raising it.
    """

    commands: tuple[Command, ...]
    atomic: bool = False
    bearing: bool = False


@dataclass(frozen=True, slots=True)
class Listen:
    """Listen to channels from now on, until the operation is over; answered once Redis has confirmed it.

    The answer is whether nothing can have been said there before that the next `Doze` does not tell.

    Attributes:
        channels: what to listen to.
        seconds: how long to wait for the confirmation; a late one wakes the next `Doze`.
        mark: of the start, if the one channel tells the end of a run that this client has started; '' if that names no inbox.
    """

    channels: tuple[str, ...]
    seconds: float
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class Expect:
    """A run is about to be started. The answer is a token that has its end told to the client's inbox, '' for none."""


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Nobody is going to wait for an end that the inbox was to be told of, or it is not going to be told.

    Attributes:
        mark: of the start.
    """

    mark: str


@dataclass(frozen=True, slots=True)
class Doze:
    """Sleep until something is heard, `seconds` at most.

    The answer maps each channel that spoke to the terminal status it told, or to "" where one has to look. It is empty
    when nothing was heard. Without a `Listen` before it, it just sleeps.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand an item to whoever iterates over the operation."""

    item: Any


Step = Command | Batch | ScriptCall | Listen | Expect | Dismiss | Doze | Emit
Operation = Generator[Step, Any, T]
Heard = dict[str, str]


def command(name: str, *args: Any) -> Command:
    """A plain Redis command."""
    return Command(name, args)


def returning(operation: Operation[T]) -> Operation[None]:
    """The operation with its value as its one emitted item, so that a driver knows streams only."""
    value = yield from operation
    yield Emit(value)


def _real_clock() -> Callable[[], float]:
    """A monotonic clock that test clocks do not stop: they replace `time.monotonic` wherever a module holds it."""
    if hasattr(time, "clock_gettime"):
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return partial(time.monotonic)


clock: Callable[[], float] = _real_clock()
"""Monotonic seconds; a wait measured with it ends even while `time.monotonic` is frozen."""
