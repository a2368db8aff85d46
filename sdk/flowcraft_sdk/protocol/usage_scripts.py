"""Typed wrappers of the scripts that count model calls and look at budgets."""

from collections.abc import Sequence

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import ScriptCall, call_of

CALL_ID = 8
"""Characters of a call's id."""


def record_usage(
    keys: Keys,
    *,
    run_id: str,
    node_id: str,
    created_ms: int | str,
    call_id: str,
    model: str,
    input_tokens: int,
    cached_tokens: int,
    output_tokens: int,
    nano_usd: int | None,
    ms: int,
    from_cache: bool = False,
) -> ScriptCall:
    """Count a model call, once.

    Args:
        created_ms: when the run was created.
        call_id: `CALL_ID` characters of ASCII that name the call.
        nano_usd: its price in 10^-9 USD; None if it is not known.
        from_cache: whether the cache has answered it.
    """
    return call_of(
        "record_usage", keys, run_id, node_id, created_ms, call_id, model,
        input_tokens, cached_tokens, output_tokens, nano_usd or 0, int(nano_usd is None), ms, int(from_cache),
    )  # fmt: skip


def check_budget(keys: Keys, *, run_id: str, node_id: str, budget: str = "", tags: Sequence[str] = ()) -> ScriptCall:
    """Look which budgets of a node are used up.

    Args:
        budget: that of the node, as it is stored; empty for none, or for one that its plan has.
        tags: those that have a budget for each day.
    """
    return call_of("check_budget", keys, run_id, node_id, budget, *tags)
