"""The typed wrapper of the script that records steps, and how a record is written and read."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import Argument, ScriptCall, load

MOST_STEPS = 1_000
"""Steps that are kept for a node at once."""

MOST_STEP_BYTES = 16 * 1024 * 1024
"""Of what these have given."""

MOST_SMALL = 2_048
"""Bytes of a value up to which it stands in the record itself, so that it is read along with it."""

UNUSED = "unused"
"""Of the details of a step that has failed: how many replies its handler has failed on."""

FAILED = "!"
"""Begins the place of a step that has failed and was not answered since."""


class StepEntry(NamedTuple):
    """A step as it is recorded.

    Attributes:
        place: Where it stands in its node.
        name: As it was asked for; with `#2` the second time.
        kind: step, model or tool.
        within: The sequence whose order it has a place in; None where order does not count.
        request: A digest of what it was asked; empty where its name says it all.
        started_ms: When it began, ms since the epoch.
        took_ms: How long it took.
        size: Bytes that what it has given takes.
        details: What else there is to know of it.
        error: What it failed with: type and message; None if it was answered.
        tries: How many it took.
        value: What it has given, as JSON; None if it is large, and stands elsewhere, or if it has failed.
    """

    place: str
    name: str
    kind: str
    within: str | None
    request: str
    started_ms: int
    took_ms: float
    size: int
    details: Any
    error: tuple[str, str] | None
    tries: int
    value: bytes | None


def write_entry(entry: StepEntry) -> bytes:
    """A record as it is stored: `bytes|JSON`, and behind a line break the value if it is small."""
    about = [*entry[1:7], entry.details, entry.error, entry.tries]
    head = b"%d|%b" % (entry.size, wire.dumps(about))
    return head if entry.value is None else head + b"\n" + entry.value


def read_entry(place: str, record: bytes) -> StepEntry:
    """The reverse.

    Raises:
        ValueError: it is no such record.
    """
    head, separator, value = record.partition(b"\n")
    bytes_, _, about = head.partition(b"|")
    name, kind, within, request, started, took, details, error, tries = wire.loads(about)
    failure = None if error is None else (str(error[0]), str(error[1]))
    return StepEntry(
        place, name, kind, within, request, started, took, int(bytes_), details, failure, tries, value if separator else None
    )  # fmt: skip


def record_step(
    keys: Keys,
    *,
    run_id: str,
    instance_id: str,
    fencing_token: str | int,
    place: str,
    state: str,
    record: bytes,
    value: bytes = b"",
    event: bytes,
    most: int = MOST_STEPS,
    most_bytes: int = MOST_STEP_BYTES,
    within: Sequence[str] = (),
    within_bytes: int = 0,
) -> ScriptCall:
    """Record a step of a running node, done (d) or failed (f).

    Args:
        value: what it has given, if that is not in the record.
        event: the node as the history has it, `|` and the rest of the event.
        within: places of steps that were recorded within one that has failed.
        within_bytes: bytes of these.
    """
    own: tuple[Argument, ...] = (
        run_id, instance_id, fencing_token, place, state, record, value, event, most, most_bytes, within_bytes, *within
    )  # fmt: skip
    return ScriptCall(load("record_step"), keys.script_keys, own, ())
