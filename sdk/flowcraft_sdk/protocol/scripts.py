"""Typed wrappers of the Lua scripts. Every change of a run is one of these calls."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flowcraft_sdk.protocol.call_limit_script import admit_calls as admit_calls
from flowcraft_sdk.protocol.call_limit_script import unpark as unpark
from flowcraft_sdk.protocol.claim_request import ClaimMode as ClaimMode
from flowcraft_sdk.protocol.claim_request import ClaimRequest as ClaimRequest
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.log_scripts import keep_lines as keep_lines
from flowcraft_sdk.protocol.memory_scripts import ALL as MEMORY_SCRIPTS
from flowcraft_sdk.protocol.memory_scripts import delete_memory as delete_memory
from flowcraft_sdk.protocol.memory_scripts import remember as remember
from flowcraft_sdk.protocol.memory_scripts import restore_memory as restore_memory
from flowcraft_sdk.protocol.memory_scripts import settle_memory as settle_memory
from flowcraft_sdk.protocol.place_scripts import ALL as PLACE_SCRIPTS
from flowcraft_sdk.protocol.place_scripts import ask_place as ask_place
from flowcraft_sdk.protocol.place_scripts import leave_place as leave_place
from flowcraft_sdk.protocol.place_scripts import review_places as review_places
from flowcraft_sdk.protocol.place_scripts import take_place as take_place
from flowcraft_sdk.protocol.place_scripts import withdraw_run as withdraw_run
from flowcraft_sdk.protocol.reply_scripts import find_reply as find_reply
from flowcraft_sdk.protocol.reply_scripts import keep_reply as keep_reply
from flowcraft_sdk.protocol.rerun_scripts import rerun as rerun
from flowcraft_sdk.protocol.rerun_scripts import store_draft as store_draft
from flowcraft_sdk.protocol.restore_scripts import restore_plan as restore_plan
from flowcraft_sdk.protocol.restore_scripts import restore_run as restore_run
from flowcraft_sdk.protocol.schedule_scripts import change_schedule as change_schedule
from flowcraft_sdk.protocol.schedule_scripts import note_schedule as note_schedule
from flowcraft_sdk.protocol.schedule_scripts import publish_schedules as publish_schedules
from flowcraft_sdk.protocol.script_call import Argument, ScriptCall, call_of, flat, load
from flowcraft_sdk.protocol.step_script import record_step as record_step
from flowcraft_sdk.protocol.streamed_text import add_text as add_text
from flowcraft_sdk.protocol.usage_scripts import check_budget as check_budget
from flowcraft_sdk.protocol.usage_scripts import record_usage as record_usage
from flowcraft_sdk.protocol.work_counts import count_work as count_work

MODE = 2
"""Place of `mode` among the arguments of the calls that may bring a next claim: `complete`, `fail` and `start_child`."""

NO_CLAIM = ClaimRequest("", 0, "", ClaimMode.NONE)

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
    priority: str = "",
    key: str = "",
    schedule_json: str = "",
    budget: str = "",
    trace: str = "",
    on_parent_cancel: str = "",
    context: Mapping[str, str | bytes],
) -> ScriptCall:
    """Record a run and make its first nodes ready.

    Args:
        forked_from: a run that is done again.
        expected: the plan that the context was checked against; with another one nothing is started.
        priority: high, normal or low; "" for that of the parent, else normal.
        key: what runs are counted by that may be concurrent.
        schedule_json: the schedule whose run this is, see the script's head.
        budget: what its model calls may use, see include/usage.lua; "" for anything.
        trace: `traceparent` of the caller's span; "" for none.
        on_parent_cancel: abandon, if it goes on when its parent stops; else "".
        context: keys and wire JSON.
    """
    return call_of(
        "start", keys, token, run_id, blueprint_id, version, digest, on_conflict,
        "" if start_at_ms is None else start_at_ms, "" if run_timeout_ms is None else run_timeout_ms,
        tags_json, memo_json, parent, max_depth, forked_from, expected, priority, key, schedule_json, budget, trace,
        on_parent_cancel, *flat(context.items()),
    )  # fmt: skip


def delete_run(keys: Keys, *, run_id: str, limit: int) -> ScriptCall:
    """Remove an ended run and up to `limit` runs in all below it."""
    return call_of("delete_run", keys, run_id, limit)


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


def send(keys: Keys, *, run_id: str, instance_id: str, message_id: str, payload: bytes, most: int) -> ScriptCall:
    """Keep a message for a node."""
    return call_of("send", keys, run_id, instance_id, message_id, payload, most)


def receive(keys: Keys, *, run_id: str, instance_id: str, fencing_token: str, taken: int) -> ScriptCall:
    """Read the oldest message of a running node; those up to `taken` are removed."""
    return call_of("receive", keys, run_id, instance_id, fencing_token, taken)


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


def completed_output(call: ScriptCall) -> bytes | None:
    """The output that a call of `complete` records under the node's name; None for any other call, and for that of a fallback."""
    if call.script.name != "complete" or call.about is None or call.about[5] != "C":
        return None
    output = call.args[3]
    return output if isinstance(output, bytes) else None


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


@dataclass(frozen=True, slots=True)
class ChildDraft:
    """What a child run takes over of another one.

    Attributes:
        token: under which `store_draft` has stored part of it.
        drafted, owners, work_json, forked_from, fields: as for `rerun`.
    """

    token: str
    drafted: int
    owners: Sequence[str]
    work_json: str
    forked_from: str
    fields: Mapping[str, Argument]


def start_child(
    keys: Keys,
    claim_request: ClaimRequest = NO_CLAIM,
    *,
    run_id: str,
    instance_id: str,
    fencing_token: str | int,
    blueprint_id: str,
    plan_hash: str = "",
    max_depth: int,
    timeout_ms: int = 0,
    trace: str = "",
    ask: bool = True,
    draft: "ChildDraft | None" = None,
    context: Mapping[str, bytes],
) -> ScriptCall:
    """Start a child run and park its node until it ends, after `timeout_ms` (0: any time) at the latest.

    Args:
        plan_hash: the plan that is taken for the current one; refused if another one is. "" for whichever is.
        trace: `traceparent` of the node's span; "" for none.
        ask: whether nothing is to be started if the child is to take over what another run's child has finished.
        draft: what it takes over, in place of a context.
    """
    request = claim_request
    where = run_id, instance_id, request.mode, fencing_token, request.worker, request.lease_ms, request.queues
    if draft is not None:
        about = (draft.drafted, "\n".join(draft.owners), draft.work_json, draft.forked_from)
        rest = (draft.token, *about, *flat(draft.fields.items()))
    else:
        rest = ("" if ask else "-", *flat(context.items()))
    args = (*where, blueprint_id, plan_hash, max_depth, timeout_ms, trace, *rest)
    return ScriptCall(load("start_child"), keys.script_keys, args, about=())


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
    """Add nodes to a run and park the one that adds them until they are done; `nodes`: (id, plan entry, definition).

    An empty `output`: it has none yet, and its handler is called again.
    """
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


def sweep(
    keys: Keys, *, limit: int, max_crashes: int, grace_ms: int, queues: str, alone: Iterable[str] = ()
) -> ScriptCall:
    """Take over expired leases and fire due timers.

    Args:
        alone: workers that hold nothing in all other partitions, so that a node they held here may have been their only one.
    """
    return call_of("sweep", keys, limit, max_crashes, grace_ms, queues, ",".join(alone))


def held_by(keys: Keys, worker: str) -> ScriptCall:
    """Ask whether a worker holds nodes in a partition, or held several there when it was lost."""
    return call_of("held_by", keys, worker)


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
    alone: bool = False,
) -> ScriptCall:
    """Give up the nodes of a worker whose process has ended.

    Args:
        first: position in the leases from which `count` are looked at.
        executed: (run id, instance, fencing token) of what the process executed when it ended; None if that is not known.
        alone: whether it held nothing in all other partitions.
    """
    evidence = [part for entry in executed or () for part in entry]
    return call_of(
        "lose_worker", keys, worker, first, count, max_crashes, int(alone), int(executed is not None), *evidence
    )


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


def pause(keys: Keys, *, queue: str, paused: bool) -> ScriptCall:
    """Have nothing claimed from a queue any more, or have it claimed again."""
    return call_of("pause", keys, queue, "pause" if paused else "resume")


def admit(keys: Keys, *, limit: str, granted: tuple[int, int, int] | None = None) -> ScriptCall:
    """Move nodes that wait for a limit to their queues, as far as the partition was granted; or just report.

    Args:
        granted: epoch, share and total, as `share_limit` returned them.
    """
    return call_of("admit", keys, limit, *(granted or ("", "", "")))


def share_limit(keys: Keys, *, limit: str, reports: Sequence[tuple[int, Sequence[int]]]) -> ScriptCall:
    """Share a limit out over partitions, by their numbers and what `admit` has returned for each; `keys` are of the first one."""
    return call_of("share_limit", keys, limit, *[part for number, report in reports for part in (number, *report)])


def advance(keys: Keys, *, ms: int, keep_leases: bool) -> ScriptCall:
    """Move the test clock forward."""
    return call_of("advance", keys, ms, int(keep_leases))


ALL = (
    "start", "cancel", "find_wait", "signal", "send", "receive", "claim", "complete", "fail", "start_child", "park", "expand",
    "store_items", "release", "renew", "emit", "keep_lines", "sweep", "expire", "advance", "retire", "delete_dead_letters",
    "examine", "examine_piece", "examine_entries", "examine_broken", "lose_worker", "claim_suspects", "pause", "held_by",
    "admit", "share_limit", "publish_schedules", "change_schedule", "note_schedule",
    "count_work", "rerun", "store_draft", "delete_run", "restore_plan", "restore_run", "add_text", "record_step",
    "record_usage", "check_budget", "admit_calls", "unpark", "find_reply", "keep_reply",
    *PLACE_SCRIPTS, *MEMORY_SCRIPTS,
)  # fmt: skip
