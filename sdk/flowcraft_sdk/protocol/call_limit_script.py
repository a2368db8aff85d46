"""The typed wrappers of the scripts that admit model calls to limits over all processes, and make parked nodes ready."""

import json
from collections.abc import Mapping, Sequence

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import ScriptCall, call_of


def admit_calls(
    keys: Keys,
    *,
    name: str,
    process: str,
    lease_ms: int,
    between_requests: float | None = None,
    between_tokens: float | None = None,
    concurrent: int | None = None,
    block_ms: int | None = None,
    backs_off: bool = False,
    admitted_at: int = 0,
    waiting: Sequence[tuple[str, str, int, str]] = (),
    ended: Sequence[tuple[str, int, int, int, int]] = (),
    held: Sequence[str] = (),
    parks: Sequence[tuple[str, str, int]] = (),
    woken: Sequence[tuple[str, int]] = (),
    asks: Sequence[str] = (),
    as_noted: bool = False,
    learned: Mapping[str, tuple[float, float, float]] | None = None,
) -> ScriptCall:
    """Admit calls of a process, and report what became of others; `keys` are of the first partition.

    Args:
        process: a text without `|`.
        between_requests, between_tokens: ms, None for no such limit.
        concurrent: calls at once, None for any number.
        block_ms: for how long the provider wants no calls.
        backs_off: the provider has refused a call without saying for how long.
        admitted_at: when that call was admitted.
        waiting: of new calls id, run, expected tokens and `RUN|INSTANCE` of the node, empty for one that is not parked.
        ended: of each call id, expected and used tokens, 1 if it was answered, and the ms that it took.
        held: calls that are under way.
        parks: of calls whose nodes are parked id, node and expected tokens.
        woken: of each node that a reply named, 1 if it was made ready, 0 if it waits no more.
        asks: calls that want to know for how long they are going to wait.
        learned: what the provider says of its limits of `requests` and `tokens`: ms between two, how many are left, and in all.
        as_noted: the limit is the one that was given last, by whichever process.
    """
    requests = "" if between_requests is None else f"{between_requests:.6f}"
    tokens = "" if between_tokens is None else f"{between_tokens:.9f}"
    return call_of(
        "admit_calls", keys, name, process, lease_ms, "-" if as_noted else requests, tokens,
        "" if concurrent is None else concurrent, "" if block_ms is None else block_ms, int(backs_off), admitted_at,
        json.dumps(waiting), json.dumps(ended), json.dumps(held), json.dumps(parks), json.dumps(woken), json.dumps(asks),
        json.dumps(learned or {}),
    )  # fmt: skip


def unpark(keys: Keys, *, run_id: str, instance_id: str) -> ScriptCall:
    """Make a node ready that was parked until there is room for its model call."""
    return call_of("unpark", keys, run_id, instance_id)
