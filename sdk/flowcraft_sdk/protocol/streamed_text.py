"""Text that running nodes stream, and the call that adds it to their streams; the script is `lua/add_text.lua`."""

from collections.abc import Sequence
from dataclasses import dataclass

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import Argument, ScriptCall, call_of, flat


@dataclass(frozen=True, slots=True)
class StreamedText:
    """What is added to the stream of a running node.

    Attributes:
        attempt: number of the attempt.
        first: number of the first entry; those of an execution are counted from 1.
        entries: of each the name of its part, and its text.
    """

    run_id: str
    instance_id: str
    fencing_token: str | int
    attempt: int
    first: int
    entries: Sequence[tuple[str, bytes]]


def add_text(keys: Keys, *, ttl_ms: int, most_bytes: int, streams: Sequence[StreamedText]) -> ScriptCall:
    """Add text to streams, of which `most_bytes` are kept of each for `ttl_ms`; the reply says of each: ok, lost or full."""
    words: list[Argument] = []
    for each in streams:
        words += (each.run_id, each.instance_id, each.fencing_token, each.attempt, each.first, len(each.entries))
        words += flat(each.entries)
    return call_of("add_text", keys, ttl_ms, most_bytes, *words)
