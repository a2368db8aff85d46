"""Typed wrappers of the scripts that do an ended run again."""

from collections.abc import Mapping, Sequence

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import Argument, ScriptCall, call_of, flat


def store_draft(keys: Keys, *, token: str, owner: str = "", fields: Mapping[str, Argument]) -> ScriptCall:
    """Store part of what a rerun is to begin with; `owner`: the node whose batch it is, "" for the record."""
    return call_of("store_draft", keys, token, owner, *flat(fields.items()))


def rerun(
    keys: Keys,
    *,
    token: str,
    run_id: str,
    blueprint_id: str,
    plan: str,
    digest: str,
    on_conflict: str = "attach",
    run_timeout_ms: int | None = None,
    tags_json: str = "",
    memo_json: str | bytes = "",
    forked_from: str,
    priority: str = "",
    key: str = "",
    budget: str = "",
    drafted: int = 0,
    owners: Sequence[str] = (),
    work_json: str,
    fields: Mapping[str, Argument],
) -> ScriptCall:
    """Record a run that takes part of an ended one over, and set the rest of it going.

    Args:
        drafted: how many fields of its record `store_draft` has stored.
        owners: nodes whose batches it has stored.
        work_json: see include/take_over.lua.
    """
    return call_of(
        "rerun", keys, token, run_id, blueprint_id, plan, digest, on_conflict, "" if run_timeout_ms is None else run_timeout_ms,
        tags_json, memo_json, forked_from, priority, key, budget, drafted, "\n".join(owners), work_json, *flat(fields.items()),
    )  # fmt: skip
