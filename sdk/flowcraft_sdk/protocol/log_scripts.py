"""Typed wrapper of the script that keeps what nodes log; see `scripts`, where the others are."""

from collections.abc import Iterable

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import ScriptCall, load


def keep_lines(
    keys: Keys,
    *,
    run_id: str,
    instance_id: str,
    label: str,
    fencing_token: str | int,
    first: int,
    most_bytes: int,
    lines: Iterable[tuple[int, str, bytes]],
) -> ScriptCall:
    """Keep lines that a running node has logged: age (ms), level and JSON; `first`: how many of this claim came before."""
    words = (run_id, instance_id, label, fencing_token, first, *[part for line in lines for part in line])
    return ScriptCall(load("keep_lines"), keys.script_keys, words, about=(most_bytes,))
