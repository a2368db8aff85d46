"""The SDK's operations: each is written once, as a generator of steps, for the sync and the async client alike."""

import difflib
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict

from flowcraft_sdk.bounds import (
    LONGEST_NAME,
    LONGEST_REASON,
    LONGEST_SPAN,
    MOST_MEMO_BYTES,
    check_moment,
    check_span,
    check_text,
    shown,
)
from flowcraft_sdk.completion_inbox import notification_token_of
from flowcraft_sdk.context_input import as_context, check_contract, check_known_run_id, check_tags, digest, encoded
from flowcraft_sdk.durability import confirm
from flowcraft_sdk.effects import Batch, Operation, ReleaseNotification, ReserveNotification, command
from flowcraft_sdk.errors import (
    BlueprintNotFoundError,
    ConfigurationError,
    InvalidInputError,
    ProtocolMismatchError,
    RunConflictError,
    RunNotFoundError,
)
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION, Keys
from flowcraft_sdk.protocol.run_record import RunRecord
from flowcraft_sdk.records import RunStatus, ServerInfo
from flowcraft_sdk.tombstones import missing

WORKER_FRESH = 30.0
"""Seconds for which a worker counts as alive after it was last heard of."""

DEFAULT_GRACE = 30.0
MOST_DOCS = 200

Seconds = float | timedelta | str
"""A span: seconds, a timedelta, or a text such as `30s`."""


@dataclass(slots=True)
class Deployment:
    """Which deployment to talk to, and what is known of it.

    Attributes:
        keys: its key names.
        outage: seconds that a wait bears Redis being away.
        max_value: bytes that one value of a start context may have.
        docs: plan documents by hash: immutable, so fetched once.
        patience: seconds to wait for Redis to confirm that something is kept.
        durability: when something counts as kept, once it is known.
        understood: whether both sides are known to speak the same protocol.
    """

    keys: Keys
    outage: float
    max_value: int
    docs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    plans: dict[str, str] = field(default_factory=dict)
    patience: float = 3.0
    durability: str | None = None
    understood: bool = False


class StartOptions(TypedDict, total=False):
    """The keyword arguments of `Client.start`, `result_type` apart."""

    run_id: str | None
    on_conflict: Literal["attach", "raise"]
    delay: Seconds | None
    start_at: datetime | None
    run_timeout: Seconds | None
    tags: Iterable[str]
    memo: Mapping[str, Any] | None
    version: str | None
    parent: Any


def text(value: Any) -> str:
    """A reply as text; a redis-py client of the caller's own may decode it already."""
    return value.decode() if isinstance(value, bytes) else str(value)


def start(
    deployment: Deployment, blueprint_id: str, ctx: Any, run_id: str, options: StartOptions
) -> Operation[str | None]:
    """Start a run; the value is the notification token of the start, None if the run was there already."""
    check_text(blueprint_id, "a blueprint id", LONGEST_NAME)
    order = _checked(options)
    values = as_context(ctx)
    if order["delay"]:
        order["start_at"] = int(order["delay"] * 1000) + (yield from server_ms(deployment))
    token = yield ReserveNotification()
    notification_token = notification_token_of(token)
    try:
        reply = yield from _send_start(
            deployment, blueprint_id, values, run_id, order, token or secrets.token_urlsafe(8)
        )
        code = text(reply[0])
    except Exception:
        if notification_token:
            yield ReleaseNotification(notification_token)
        raise
    if notification_token and code != "started":
        yield ReleaseNotification(notification_token)
    if code in ("no-blueprint", "no-version"):
        yield from _blueprint_missing(deployment, blueprint_id, order["version"] or None)
    if code == "no-parent":
        raise RunNotFoundError(order["parent"], f"no run {order['parent']} to be the parent")
    if code == "too-deep":
        raise ConfigurationError(f"run {order['parent']} is nested too deep to have a child")
    if code == "conflict":
        raise RunConflictError(run_id, text(reply[1]))
    yield from confirm(deployment, run_id, "the start")
    return None if code == "attached" else notification_token


def _send_start(
    deployment: Deployment,
    blueprint_id: str,
    values: dict[str, Any],
    run_id: str,
    order: Mapping[str, Any],
    token: str,
) -> Operation[Any]:
    """Check the context against the plan that this client knows, and start; again if another plan is current by now."""
    limit = order["run_timeout"]
    while True:
        remembered = not order["version"] and blueprint_id in deployment.plans
        plan = yield from _current(deployment, blueprint_id, order["version"])
        doc = yield from plan_doc(deployment, plan)
        contract = None if doc is None else doc.get("inputs")
        try:
            checked = values if contract is None else check_contract(blueprint_id, contract, values)
        except InvalidInputError:
            if not remembered:
                raise
            deployment.plans.pop(blueprint_id, None)  # it may fit what has been published since
            continue
        context = encoded(checked, deployment.max_value)
        reply = yield scripts.start(
            deployment.keys,
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
            context=context,
        )
        if text(reply[0]) != "other-plan":
            return reply
        deployment.plans[blueprint_id] = text(reply[1])


def _checked(options: StartOptions) -> dict[str, Any]:
    """The options in the form that the script wants, all there."""
    on_conflict = options.get("on_conflict", "attach")
    if on_conflict not in ("attach", "raise"):
        raise ConfigurationError(f"on_conflict is 'attach' or 'raise', got {shown(on_conflict)}")
    if options.get("delay") is not None and options.get("start_at") is not None:
        raise ConfigurationError("give delay or start_at, not both")
    memo, parent = options.get("memo"), options.get("parent")
    return {
        "on_conflict": on_conflict,
        "delay": check_span(options.get("delay"), "delay"),
        "start_at": _start_at(options.get("start_at")),
        "run_timeout": check_span(options.get("run_timeout"), "run_timeout"),
        "tags": check_tags(options.get("tags") or ()),
        "memo": wire.dumps(memo, path="memo", limit=MOST_MEMO_BYTES) if memo else "",
        "version": check_text(options.get("version") or "", "version", LONGEST_NAME, least=0),
        "parent": "" if parent is None else check_known_run_id(getattr(parent, "run_id", parent)),
    }


def _start_at(value: Any) -> int | None:
    at = check_moment(value, "start_at")
    if at is not None and abs(at / 1000 - time.time()) > LONGEST_SPAN:
        raise ConfigurationError(f"start_at is at most 100 years off, got {value}")
    return at


def _current(deployment: Deployment, blueprint_id: str, version: str) -> Operation[str]:
    """The plan that a run would get, as far as this client knows: it looks once, and is told when there is another."""
    if not deployment.understood:
        _check_protocol(deployment, (yield command("GET", deployment.keys.protocol)))
    if version:
        return version
    plan = deployment.plans.get(blueprint_id)  # threads share it: what is there now may be gone at a second look
    if plan is None:
        found = yield command("HGET", deployment.keys.blueprints, blueprint_id)
        if found is None:
            yield from _blueprint_missing(deployment, blueprint_id, None)
        if len(deployment.plans) >= MOST_DOCS:
            deployment.plans.clear()
        plan = deployment.plans[blueprint_id] = text(found)
    return plan


def server_ms(deployment: Deployment) -> Operation[int]:
    """The time by which the deployment goes, in ms."""
    now, offset = yield Batch((command("TIME"), command("GET", deployment.keys.clock)))
    return int(now[0]) * 1000 + int(now[1]) // 1000 + int(offset or 0)


def _check_protocol(deployment: Deployment, spoken: Any) -> None:
    if spoken is not None and text(spoken) != PROTOCOL_VERSION:
        raise ProtocolMismatchError(PROTOCOL_VERSION, text(spoken))
    deployment.understood = spoken is not None


def _blueprint_missing(deployment: Deployment, blueprint_id: str, version: str | None) -> Operation[None]:
    published = sorted(text(name) for name in (yield command("HKEYS", deployment.keys.blueprints)))
    known = [] if blueprint_id in published else difflib.get_close_matches(blueprint_id, published, 3, 0.5)
    raise BlueprintNotFoundError(blueprint_id, version, known, None if blueprint_id in published else published)


def plan_doc(deployment: Deployment, plan_hash: str) -> Operation[Mapping[str, Any] | None]:
    """The plain blueprint of a plan, None if the plan is unknown."""
    doc = deployment.docs.get(plan_hash)
    if doc is None:
        raw = yield command("HGET", deployment.keys.plan(plan_hash), "doc")
        if raw is None:
            return None
        doc = json.loads(raw)
        if len(deployment.docs) >= MOST_DOCS:
            deployment.docs.clear()
        deployment.docs[plan_hash] = doc
    return doc


def status(deployment: Deployment, run_id: str) -> Operation[RunStatus]:
    """A run's state; one small read."""
    raw = yield command("HGET", deployment.keys.run(run_id), "st")
    if raw is None:
        yield from missing(deployment.keys.gone, run_id)
    return RunStatus(text(raw))


def done(deployment: Deployment, run_id: str) -> Operation[bool]:
    """Whether a run has ended."""
    return (yield from status(deployment, run_id)).is_terminal


def record(deployment: Deployment, run_id: str) -> Operation[RunRecord]:
    """A run's whole hash, decoded, with its blueprint."""
    reply = yield command("HGETALL", deployment.keys.run(run_id))
    fields = {text(key): text(value) for key, value in reply.items()}
    if "st" not in fields:
        yield from missing(deployment.keys.gone, run_id)
    return (yield from with_plan(deployment, run_id, fields))


def with_plan(deployment: Deployment, run_id: str, fields: Mapping[str, str]) -> Operation[RunRecord]:
    """The record that the fields of a run's hash make, with its blueprint."""
    doc = yield from plan_doc(deployment, fields.get("plan", ""))
    return RunRecord(run_id, fields, doc)


def cancel(deployment: Deployment, run_id: str, reason: str, grace: Seconds | None) -> Operation[bool]:
    """Ask a run to stop; False if it had ended."""
    span = check_span(grace, "grace")
    check_text(reason, "reason", LONGEST_REASON, least=0)
    if span is None:
        raw = yield command("HGET", deployment.keys.settings, "cancelGrace")
        grace_ms = int(raw) if raw is not None else int(DEFAULT_GRACE * 1000)
    else:
        grace_ms = int(span * 1000)
    reply = yield scripts.cancel(deployment.keys, run_id=run_id, reason=reason, grace_ms=grace_ms)
    if reply[0] == b"missing" or reply[0] == "missing":
        yield from missing(deployment.keys.gone, run_id)
    return int(reply[0]) == 1


def ping(deployment: Deployment) -> Operation[ServerInfo]:
    """Check that Redis answers and that both sides speak the same protocol."""
    keys = deployment.keys
    spoken, info, blueprints = yield Batch(
        (command("GET", keys.protocol), command("INFO", "server"), command("HLEN", keys.blueprints))
    )
    _check_protocol(deployment, spoken)
    workers = yield from live_workers(deployment)
    return ServerInfo(
        namespace=keys.namespace,
        protocol=text(spoken) if spoken is not None else "",
        redis_version=str(info.get("redis_version", "")),
        blueprints=blueprints,
        workers=workers,
    )


def live_workers(deployment: Deployment) -> Operation[int]:
    """How many workers were heard of lately."""
    since = (yield from server_ms(deployment)) - int(WORKER_FRESH * 1000)
    count: int = yield command("ZCOUNT", deployment.keys.workers, since, "+inf")
    return count
