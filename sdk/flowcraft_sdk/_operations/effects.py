"""The effects that an operation asks of its driver. Operations are generators without I/O; drivers do the I/O, sync or async."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
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
class Subscribe:
    """Subscribe to channels from now on, until the operation has ended; answered once Redis has confirmed it.

    The answer is whether the next `WaitForNotification` reports every message that was published there before.

    Attributes:
        channels: what to listen to.
        seconds: how long to wait for the confirmation; a late one wakes the next `WaitForNotification`.
        mark: of the start, if the one channel is that of a run which this client has started; '' if that names no inbox.
    """

    channels: tuple[str, ...]
    seconds: float
    notification_token: str | None = None


@dataclass(frozen=True, slots=True)
class ReserveNotification:
    """Reserve a completion in the client's inbox for a run about to be started. The answer is a token for it, '' for none.

    Attributes:
        inbox_prefix: of the partition in which the run will lie.
        inbox_prefixes: of all partitions.
    """

    inbox_prefix: str
    inbox_prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReleaseNotification:
    """Release a reserved completion that no caller waits for, or that is not going to come.

    Attributes:
        notification_token: of the start.
    """

    notification_token: str


@dataclass(frozen=True, slots=True)
class WaitForNotification:
    """Wait for a notification, `seconds` at most.

    The answer maps each notified channel to the run's terminal status, or to "" where the run has to be read. It is empty
    without a notification. Without a `Subscribe` before it, it just sleeps.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Yield:
    """Hand an item to the caller that iterates over the operation."""

    item: Any


Effect = (
    Command | Batch | ScriptCall | Subscribe | ReserveNotification | ReleaseNotification | WaitForNotification | Yield
)
Operation = Generator[Effect, Any, T]
Notifications = dict[str, str]


def command(name: str, *args: Any) -> Command:
    """A plain Redis command."""
    return Command(name, args)


def together(*groups: Sequence[Command]) -> Batch:
    """One round trip in which nothing happens between the commands of a group; groups may lie in several partitions.

    `replies_of` takes its answer apart.
    """
    if len(groups) == 1:
        return Batch(tuple(groups[0]), atomic=len(groups[0]) > 1)
    if all(len(group) == 1 for group in groups):
        return Batch(tuple(group[0] for group in groups))
    begin, end = Command("MULTI", ()), Command("EXEC", ())
    return Batch(tuple(part for group in groups for part in (begin, *group, end)))


def replies_of(groups: Sequence[Sequence[Command]], answer: Sequence[Any]) -> list[list[Any]]:
    """The replies to the commands of each group."""
    if len(groups) == 1:
        return [list(answer)]
    if all(len(group) == 1 for group in groups):
        return [[reply] for reply in answer]
    at, replies = 0, []
    for group in groups:
        at += len(group) + 2
        replies.append(list(answer[at - 1]))
    return replies


def returning(operation: Operation[T]) -> Operation[None]:
    """The operation with its value as its one yielded item, so that a driver knows streams only."""
    value = yield from operation
    yield Yield(value)
