"""Typed wrappers of the Lua scripts. Every change of a run is one of these calls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import Argument, ScriptCall, call_of, flat, load

MODE = 2
"""Place of `mode` among the arguments of the calls that may bring a next claim: `complete` and `fail`."""

NO_SUCCESSOR: tuple[Argument, ...] = ("",)


def start(
    keys: Keys,
    *,
    token: str,
    run_id: str,
    blueprint_id: str,
    version: str = "",
    digest: str,
    on_conflict: str = "attach",
    start_at_ms: int | None = None,
    run_timeout_ms: int | None = None,
    tags_json: str = "",
    memo_json: str | bytes = "",
    parent: str = "",
    max_depth: int = 16,
    forked_from: str = "",
    expected: str = "",
    context: Mapping[str, str | bytes],
) -> ScriptCall:
    """Record a run and make its first nodes ready.

    Args:
        forked_from: a run that is done again.
        expected: the plan that the context was checked against; with another one nothing is started.
        context: keys and wire JSON.
    """
    return call_of(
        "start", keys, token, run_id, blueprint_id, version, digest, on_conflict,
        "" if start_at_ms is None else start_at_ms, "" if run_timeout_ms is None else run_timeout_ms,
        tags_json, memo_json, parent, max_depth, forked_from, expected, *flat(context.items()),
    )  # fmt: skip


def cancel(keys: Keys, *, run_id: str, reason: str, grace_ms: int) -> ScriptCall:
    """Ask a run and its children to stop; 0 ends it at once."""
    return call_of("cancel", keys, run_id, reason, grace_ms)


def find_wait(keys: Keys, *, run_id: str, instance_id: str = "", signal_id: str, early: bool = False) -> ScriptCall:
    """Say whom a signal would reach. `instance_id` may be the way to a node through subflows: `subflow/wait`."""
    return call_of("find_wait", keys, run_id, instance_id, signal_id, int(early))


def signal(
    keys: Keys,
    *,
    run_id: str,
    instance_id: str = "",
    signal_id: str,
    action: str = "",
    payload: bytes = b"null",
    early: bool = False,
) -> ScriptCall:
    """Give a waiting node its answer; `early` keeps it for a node that does not wait yet."""
    return call_of("signal", keys, run_id, instance_id, signal_id, action, payload, int(early))


class ClaimMode(StrEnum):
    """Where a worker's next claim comes from, as the scripts take it."""

    QUEUE = "q"
    """From the node's own successors, then from the queue."""

    SUCCESSOR = "n"
    """From the node's own successors alone."""

    NONE = "-"
    """No claim is asked for."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Which worker asks for work, and in which mode: sent along with every call that may bring the next claim.

    Attributes:
        worker: id of the worker process.
        lease_ms: how long a claim holds without renewal.
        queues: comma-separated queue names, served in this order.
        mode: where the next claim comes from.
    """

    worker: str
    lease_ms: int
    queues: str
    mode: ClaimMode = ClaimMode.QUEUE


def claim(keys: Keys, claim_request: ClaimRequest, count: int = 1) -> ScriptCall:
    """Claim up to `count` ready nodes."""
    return call_of("claim", keys, claim_request.worker, claim_request.lease_ms, claim_request.queues, count)


def complete(
    keys: Keys,
    claim_request: ClaimRequest,
    *,
    run_id: str,
    instance_id: str,
    fencing_token: str | int,
    plan: str,
    state: str,
    action: str,
    decisions: str,
    output: bytes,
    successor: tuple[Argument, ...] = NO_SUCCESSOR,
    writes: Sequence[tuple[str, bytes]] = (),
    deletes: Sequence[str] = (),
    values: Sequence[tuple[str, bytes]] = (),
) -> ScriptCall:
    """Record an outcome with all that follows from it.

    Args:
        successor: what the plan says of the only node that follows, see the script's head; just saves looking it up.
        values: edge values by edge index.
    """
    about = (
        instance_id,
        plan,
        claim_request.worker,
        claim_request.lease_ms,
        claim_request.queues,
        state,
        action,
        decisions,
        *successor,
    )
    own: tuple[Argument, ...] = (run_id, fencing_token, claim_request.mode, output)
    if writes or deletes or values:
        own += (len(writes), len(deletes), len(values), *flat(writes), *deletes, *flat(values))
    return ScriptCall(load("complete"), keys.script_keys, own, about)


def fail(
    keys: Keys,
    claim_request: ClaimRequest,
    *,
    run_id: str,
    instance_id: str,
    fencing_token: str | int,
    verdict: str,
    delay_ms: int = 0,
    failure: bytes = b"",
    input_json: bytes = b"null",
) -> ScriptCall:
    """Record a failed attempt; verdict is retry, final, fatal (final without fallback) or cancelled."""
    return call_of(
        "fail", keys, run_id, instance_id, claim_request.mode, fencing_token,
        claim_request.worker, claim_request.lease_ms, claim_request.queues,
        verdict, delay_ms, failure, input_json,
    )  # fmt: skip


def start_child(
    keys: Keys,
    *,
    run_id: str,
    instance_id: str,
    fencing_token: str | int,
    blueprint_id: str,
    plan_hash: str = "",
    max_depth: int,
    timeout_ms: int = 0,
    context: Mapping[str, bytes],
) -> ScriptCall:
    """Start a child run and park its node until it ends, after `timeout_ms` (0: any time) at the latest.

    Args:
        plan_hash: the plan that is taken for the current one; refused if another one is. "" for whichever is.
    """
    where = run_id, instance_id, fencing_token
    return call_of("start_child", keys, *where, blueprint_id, plan_hash, max_depth, timeout_ms, *flat(context.items()))


def park(
    keys: Keys,
    *,
    run_id: str,
    instance_id: str,
    fencing_token: str | int,
    kind: str,
    due_ms: int | None = None,
    details: bytes = b"null",
) -> ScriptCall:
    """Park a node until a signal, a time or its batch; kind is signal, timer, webhook or batch (details: its input)."""
    return call_of("park", keys, run_id, instance_id, fencing_token, kind, "" if due_ms is None else due_ms, details)


def expand(
    keys: Keys,
    *,
    run_id: str,
    instance_id: str,
    fencing_token: str | int,
    action: str,
    output: bytes,
    limit: int,
    input_json: bytes = b"",
    writes: Sequence[tuple[str, bytes]] = (),
    deletes: Sequence[str] = (),
    nodes: Sequence[tuple[str, str, bytes]],
) -> ScriptCall:
    """Add nodes to a run and park the one that adds them until they are done; `nodes`: (id, plan entry, definition)."""
    return call_of(
        "expand", keys, run_id, instance_id, fencing_token, action, output, limit, input_json, len(writes), len(deletes),
        *flat(writes), *deletes, *[part for node in nodes for part in node],
    )  # fmt: skip


def store_items(
    keys: Keys,
    *,
    run_id: str,
    instance_id: str,
    fencing_token: str | int,
    total: int,
    limit: int,
    first: int,
    items: Sequence[bytes],
) -> ScriptCall:
    """Store a slice of a batch's items beside the run; `limit` bounds how many are live at once."""
    return call_of("store_items", keys, run_id, instance_id, fencing_token, total, limit, first, *items)


def release(keys: Keys, *, run_id: str, instance_id: str, fencing_token: str | int, delay_ms: int = 0) -> ScriptCall:
    """Hand a claimed node back unrun."""
    return call_of("release", keys, run_id, instance_id, fencing_token, delay_ms)


def renew(keys: Keys, *, worker: str, lease_ms: int, held: Sequence[tuple[str, str, str | int]]) -> ScriptCall:
    """Renew leases; `held` lists (run id, instance, fencing_token) of what really runs."""
    return call_of("renew", keys, worker, lease_ms, *[part for entry in held for part in entry])


def emit(
    keys: Keys, *, run_id: str, instance_id: str, fencing_token: str | int, events: Sequence[tuple[str, bytes]]
) -> ScriptCall:
    """Add progress (`g`) and custom (`e`) events of a running node."""
    return call_of("emit", keys, run_id, instance_id, fencing_token, *flat(events))


def sweep(keys: Keys, *, limit: int, max_crashes: int, grace_ms: int, queues: str) -> ScriptCall:
    """Take over expired leases and fire due timers."""
    return call_of("sweep", keys, limit, max_crashes, grace_ms, queues)


@dataclass(frozen=True, slots=True)
class Keep:
    """How long ended runs of a class are kept, whichever is reached first; None for no limit.

    Attributes:
        name: completed, failed (timed out, too) or cancelled.
    """

    name: str
    age_ms: int | None
    count: int | None


def lose_worker(
    keys: Keys,
    *,
    worker: str,
    first: int,
    count: int,
    max_crashes: int,
    executed: Sequence[tuple[str, str, str | int]] | None,
) -> ScriptCall:
    """Give up the nodes of a worker whose process has ended.

    Args:
        first: position in the leases from which `count` are looked at.
        executed: (run id, instance, fencing token) of what the process executed when it ended; None if that is not known.
    """
    evidence = [part for entry in executed or () for part in entry]
    return call_of("lose_worker", keys, worker, first, count, max_crashes, int(executed is not None), *evidence)


def claim_suspects(keys: Keys, claim_request: ClaimRequest) -> ScriptCall:
    """Claim a group of nodes that are suspected of having ended their worker."""
    return call_of("claim_suspects", keys, claim_request.worker, claim_request.lease_ms, claim_request.queues)


def expire(
    keys: Keys,
    *,
    keep: Sequence[Keep],
    bytes: int | None,
    tombstone_age_ms: int,
    tombstone_count: int,
    limit: int,
) -> ScriptCall:
    """Remove up to `limit` ended runs that are past what is kept; `bytes` bounds what all ended runs take together."""
    rules = [("" if part is None else part) for rule in keep for part in (rule.name, rule.age_ms, rule.count)]
    return call_of("expire", keys, limit, "" if bytes is None else bytes, tombstone_age_ms, tombstone_count, *rules)


def retire(keys: Keys, plans: Sequence[str]) -> ScriptCall:
    """Put plans aside that neither a blueprint nor a run uses; `expire` removes them later."""
    return call_of("retire", keys, *plans)


def delete_dead_letters(keys: Keys, *, run_id: str, instance_id: str = "") -> ScriptCall:
    """Remove the dead letters of a run, or of one of its nodes."""
    return call_of("delete_dead_letters", keys, run_id, instance_id)


def examine(keys: Keys, *, run_id: str, fix: bool, mode: str = "whole", active: int = 0, parked: int = 0) -> ScriptCall:
    """Look a run over for what should not be; with `fix`, repair what is safe to repair.

    Args:
        mode: `whole`; `ask`, which refuses a run with many fields; `counted`, when its nodes were looked over in pieces.
        active, parked: how many such nodes the pieces have found.
    """
    return call_of("examine", keys, run_id, int(fix), mode, active, parked)


def examine_piece(keys: Keys, *, run_id: str, cursor: int, count: int, fix: bool) -> ScriptCall:
    """Look over some nodes of a run with many fields."""
    return call_of("examine_piece", keys, run_id, cursor, count, int(fix))


def examine_entries(keys: Keys, *, name: str, first: int, count: int, fix: bool) -> ScriptCall:
    """Look over entries of a sorted set, by its name without prefix, for those that stand for nothing."""
    return call_of("examine_entries", keys, name, first, count, int(fix))


def examine_broken(keys: Keys, *, fix: bool) -> ScriptCall:
    """Look over what was set aside because it could not be read; with `fix`, put back what can be read again."""
    return call_of("examine_broken", keys, int(fix))


def advance(keys: Keys, *, ms: int, keep_leases: bool) -> ScriptCall:
    """Move the test clock forward."""
    return call_of("advance", keys, ms, int(keep_leases))


ALL = (
    "start", "cancel", "find_wait", "signal", "claim", "complete", "fail", "start_child", "park", "expand",
    "store_items", "release", "renew", "emit", "sweep", "expire", "advance", "retire", "delete_dead_letters", "examine",
    "examine_piece", "examine_entries", "examine_broken", "lose_worker", "claim_suspects",
)  # fmt: skip
