"""Starting a run."""

import difflib
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NoReturn, TypedDict, get_args

from flowcraft_sdk._operations.completion_inbox import notification_token_of
from flowcraft_sdk._operations.deployment import (
    MOST_PLAN_DOCUMENTS,
    Deployment,
    Seconds,
    check_protocol,
    keys_of,
    partitions_of,
    plan_document,
    server_ms,
    text,
)
from flowcraft_sdk._operations.durability import confirm
from flowcraft_sdk._operations.effects import Operation, ReleaseNotification, ReserveNotification, command
from flowcraft_sdk._operations.run_places import take_or_withdraw
from flowcraft_sdk.errors import (
    BlueprintNotFoundError,
    ConfigurationError,
    InvalidInputError,
    RunConflictError,
    RunNotFoundError,
)
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.bounds import (
    LONGEST_NAME,
    LONGEST_SPAN,
    MOST_MEMO_BYTES,
    check_moment,
    check_span,
    check_text,
    shown,
)
from flowcraft_sdk.protocol.context_input import (
    as_context,
    check_contract,
    check_known_run_id,
    check_run_id,
    check_run_key,
    check_tags,
    digest,
    encoded,
    id_below,
    new_run_id,
)
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions, root_of
from flowcraft_sdk.protocol.trace_context import current_traceparent
from flowcraft_sdk.protocol.usage_sums import budget_of, write_budget
from flowcraft_sdk.records import Budget

BudgetLike = Budget | Mapping[str, Any]
Priority = Literal["high", "normal", "low"]
PRIORITIES = get_args(Priority)
OnParentCancel = Literal["cancel", "abandon"]


class StartOptions(TypedDict, total=False):
    """The keyword arguments of `Client.start`, without `result_type`.

    Attributes:
        run_id: An id of your own; by default a new one is made.
        on_conflict: What to do when the id is taken: "attach" to the same run, or "raise".
        delay: Seconds to wait before the run begins.
        start_at: When to begin, in place of `delay`; with a time zone.
        run_timeout: Seconds that the whole run may take, waits and queueing included.
        tags: Short texts to find runs by.
        memo: Small JSON value that `describe` shows.
        version: A plan hash, to start another version than the current one.
        parent: A run, or its id, whose deadline, depth of nesting and priority this one inherits.
        on_parent_cancel: What becomes of it when that run stops: "cancel" stops it too, with "abandon" it goes on.
        priority: "high", "normal" or "low": in what order its nodes are claimed among those that are ready.
        budget: What its model calls may use at most, with those of its child runs: `usd`, `tokens` or both.
        key: What the run is counted by, where the number of runs with one key is limited.
    """

    run_id: str | None
    on_conflict: Literal["attach", "raise"]
    delay: Seconds | None
    start_at: datetime | None
    run_timeout: Seconds | None
    tags: Iterable[str]
    memo: Mapping[str, Any] | None
    version: str | None
    parent: Any
    priority: Priority | None
    budget: BudgetLike | None
    key: str | None
    on_parent_cancel: OnParentCancel


def start(
    deployment: Deployment, blueprint_id: str, ctx: Any, run_id: str, options: StartOptions
) -> Operation[str | None]:
    """Start a run; the value is the notification token of the start, None if the run was there already."""
    check_text(blueprint_id, "a blueprint id", LONGEST_NAME)
    order = checked_options(options)
    values = as_context(ctx)
    if order["delay"]:
        order["start_at"] = int(order["delay"] * 1000) + (yield from server_ms(deployment))
    partitions = yield from partitions_of(deployment)
    keys = partitions.for_run(run_id)
    _check_partition(partitions, run_id, order["parent"])
    token = yield ReserveNotification(keys.inbox_prefix, partitions.inbox_prefixes)
    notification_token = notification_token_of(token)
    try:
        reply = yield from _send_start(
            deployment, keys, blueprint_id, values, run_id, order, token or secrets.token_urlsafe(8)
        )
        code = text(reply[0])
    except Exception:
        if notification_token:
            yield ReleaseNotification(notification_token)
        raise
    if notification_token and code != "started":
        yield ReleaseNotification(notification_token)
    if code in ("no-blueprint", "no-version"):
        yield from blueprint_missing(deployment, blueprint_id, order["version"] or None)
    if code == "no-parent":
        raise RunNotFoundError(order["parent"], f"no run {order['parent']} to be the parent")
    if code == "too-deep":
        raise ConfigurationError(f"run {order['parent']} is nested too deep to have a child")
    if code == "conflict":
        raise RunConflictError(run_id, text(reply[1]))
    if code == "started" and len(reply) > 2 and text(reply[2]) == "reject":
        try:
            yield from take_or_withdraw(deployment, run_id, keys)
        except Exception:
            if notification_token:
                yield ReleaseNotification(notification_token)
            raise
    yield from confirm(deployment, run_id, "the start")
    return None if code == "attached" else notification_token


def start_scheduled(
    deployment: Deployment,
    schedule: Mapping[str, Any],
    blueprint_id: str,
    values: Mapping[str, Any],
    run_id: str,
    tags: Iterable[str],
    priority: Any,
) -> Operation[list[Any]]:
    """Start the run of a schedule; the value is the reply of the script, which refuses what is not to be started by now.

    Args:
        schedule: which one, and which of its ticks, see the script `start`.
        run_id: that of the tick: the start of a run that is there changes nothing.

    Raises:
        FlowcraftError: it cannot be started.
    """
    memo = {"schedule": schedule["id"], **_tick_memo(schedule)}
    order = checked_options({"tags": tags, "memo": memo, "priority": priority})
    keys = yield from keys_of(deployment, run_id)
    reply: list[Any] = yield from _send_start(
        deployment, keys, blueprint_id, dict(values), run_id, order, f"schedule~{run_id}", json.dumps(schedule)
    )
    code = text(reply[0])
    if code in ("no-blueprint", "no-version"):
        deployment.plans.pop(blueprint_id, None)
        yield from blueprint_missing(deployment, blueprint_id, None)
    if code == "conflict":
        raise RunConflictError(run_id, text(reply[1]))
    return reply


def _tick_memo(schedule: Mapping[str, Any]) -> dict[str, str]:
    if "tick" not in schedule:
        return {}
    return {"tick": datetime.fromtimestamp(schedule["tick"] / 1000, UTC).isoformat().replace("+00:00", "Z")}


def choose_run_id(deployment: Deployment, run_id: str | None, parent: Any) -> Operation[str]:
    """The id of a run with a parent: the one that is given, or a new one in the partition of its parent."""
    parent_id = check_known_run_id(getattr(parent, "run_id", parent))
    if run_id is not None:
        return check_run_id(run_id, parent_id)
    partitions = yield from partitions_of(deployment)
    return new_run_id() if partitions.count == 1 else id_below(parent_id)


def _check_partition(partitions: Partitions, run_id: str, parent_id: str) -> None:
    """Refuse a run that would lie in another partition than its parent.

    Raises:
        ConfigurationError: its id does not begin with that of the outermost parent.
    """
    if parent_id and partitions.count > 1 and root_of(run_id) != root_of(parent_id):
        raise ConfigurationError(
            f"with several partitions (redis.partitions) the id of a run with a parent is {root_of(parent_id)}~NAME, "
            f"got {shown(run_id)}; or leave run_id out"
        )


def _send_start(
    deployment: Deployment,
    keys: Keys,
    blueprint_id: str,
    values: dict[str, Any],
    run_id: str,
    order: Mapping[str, Any],
    token: str,
    schedule_json: str = "",
) -> Operation[Any]:
    """Check the context against the plan that this client knows, and start; again if another plan is current by now."""
    limit = order["run_timeout"]
    while True:
        remembered = not order["version"] and blueprint_id in deployment.plans
        plan = yield from _current(deployment, blueprint_id, order["version"])
        doc = yield from plan_document(deployment, plan)
        contract, declared = (None, None) if doc is None else (doc.get("inputs"), doc.get("context"))
        try:
            checked = (
                values
                if contract is None and declared is None
                else check_contract(blueprint_id, contract, values, declared)
            )
        except InvalidInputError:
            if not remembered:
                raise
            deployment.plans.pop(blueprint_id, None)  # it may fit what has been published since
            continue
        context = encoded(checked, deployment.max_value)
        reply = yield scripts.start(
            keys,
            token=token,
            run_id=run_id,
            blueprint_id=blueprint_id,
            version=order["version"],
            digest=digest(context),
            on_conflict=order["on_conflict"],
            start_at_ms=order["start_at"],
            run_timeout_ms=None if limit is None else max(1, int(limit * 1000)),
            tags_json=json.dumps(order["tags"], ensure_ascii=False) if order["tags"] else "",
            memo_json=order["memo"],
            parent=order["parent"],
            expected=plan,
            priority=order["priority"],
            key=order["key"],
            schedule_json=schedule_json,
            trace=current_traceparent(),
            budget=order["budget"],
            on_parent_cancel=order["on_parent_cancel"],
            context=context,
        )
        if text(reply[0]) != "other-plan":
            return reply
        deployment.plans[blueprint_id] = text(reply[1])


def checked_options(options: StartOptions) -> dict[str, Any]:
    """The options in the form that the script wants, all there.

    Raises:
        ConfigurationError: one of them cannot be used.
    """
    on_conflict = options.get("on_conflict", "attach")
    if on_conflict not in ("attach", "raise"):
        raise ConfigurationError(f"on_conflict is 'attach' or 'raise', got {shown(on_conflict)}")
    priority = options.get("priority")
    if priority is not None and priority not in PRIORITIES:
        raise ConfigurationError(f"priority is 'high', 'normal' or 'low', got {shown(priority)}")
    if options.get("delay") is not None and options.get("start_at") is not None:
        raise ConfigurationError("give delay or start_at, not both")
    memo, parent = options.get("memo"), options.get("parent")
    on_parent_cancel = options.get("on_parent_cancel", "cancel")
    if on_parent_cancel not in get_args(OnParentCancel):
        raise ConfigurationError(f"on_parent_cancel is 'cancel' or 'abandon', got {shown(on_parent_cancel)}")
    if on_parent_cancel == "abandon" and parent is None:
        raise ConfigurationError("on_parent_cancel='abandon' is for a run with a parent: give parent, or leave it out")
    return {
        "on_conflict": on_conflict,
        "delay": check_span(options.get("delay"), "delay"),
        "start_at": _start_at(options.get("start_at")),
        "run_timeout": check_span(options.get("run_timeout"), "run_timeout"),
        "tags": check_tags(options.get("tags") or ()),
        "memo": wire.dumps(memo, path="memo", limit=MOST_MEMO_BYTES) if memo else "",
        "priority": "" if priority is None else str(priority),
        "budget": _budget(options.get("budget")),
        "version": check_text(options.get("version") or "", "version", LONGEST_NAME, least=0),
        "key": "" if options.get("key") is None else check_run_key(options.get("key")),
        "on_parent_cancel": "" if on_parent_cancel == "cancel" else on_parent_cancel,
        "parent": "" if parent is None else check_known_run_id(getattr(parent, "run_id", parent)),
    }


def _budget(value: Any) -> str:
    try:
        return write_budget(budget_of(value))
    except ValueError as error:
        raise ConfigurationError(f"budget: {error}") from None


def _start_at(value: Any) -> int | None:
    at = check_moment(value, "start_at")
    if at is not None and abs(at / 1000 - time.time()) > LONGEST_SPAN:
        raise ConfigurationError(f"start_at is at most 100 years off, got {value}")
    return at


def _current(deployment: Deployment, blueprint_id: str, version: str) -> Operation[str]:
    """The plan that a run would get, as far as this client knows: it looks once, and replies say when there is another."""
    if not deployment.protocol_checked:
        check_protocol(deployment, (yield command("GET", deployment.keys.protocol)))
    if version:
        return version
    plan = deployment.plans.get(blueprint_id)  # threads share it: what is there now may be gone at a second look
    if plan is None:
        found = yield command("HGET", deployment.keys.blueprints, blueprint_id)
        if found is None:
            yield from blueprint_missing(deployment, blueprint_id, None)
        if len(deployment.plans) >= MOST_PLAN_DOCUMENTS:
            deployment.plans.clear()
        plan = deployment.plans[blueprint_id] = text(found)
    return plan


def blueprint_missing(deployment: Deployment, blueprint_id: str, version: str | None) -> Operation[NoReturn]:
    """Say that there is no such blueprint, or none of this version.

    Raises:
        BlueprintNotFoundError: always.
    """
    published = sorted(text(name) for name in (yield command("HKEYS", deployment.keys.blueprints)))
    known = [] if blueprint_id in published else difflib.get_close_matches(blueprint_id, published, 3, 0.5)
    raise BlueprintNotFoundError(blueprint_id, version, known, None if blueprint_id in published else published)
