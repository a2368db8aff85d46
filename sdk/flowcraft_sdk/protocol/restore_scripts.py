"""Typed wrappers of the scripts that restore a backup; see `scripts`, where the others are."""

from collections.abc import Mapping, Sequence

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import Argument, ScriptCall, call_of, flat


def restore_plan(keys: Keys, *, plan: str, blueprint_id: str = "", fields: Mapping[str, Argument]) -> ScriptCall:
    """Store a plan, and have new runs of a blueprint use it if the blueprint has none; `fields` empty: it was stored before."""
    return call_of("restore_plan", keys, plan, blueprint_id, *flat(fields.items()))


def restore_run(
    keys: Keys,
    *,
    token: str,
    run_id: str,
    drafted: int,
    events: int,
    logs: int,
    owners: Sequence[str],
    dead: Mapping[str, int],
) -> ScriptCall:
    """Record an ended run of which `store_draft` has stored so many fields, events, log fields, and these nodes' batches."""
    return call_of("restore_run", keys, token, run_id, drafted, events, logs, "\n".join(owners), *flat(dead.items()))
