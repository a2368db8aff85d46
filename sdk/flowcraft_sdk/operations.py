"""The SDK's operations: each is written once, as a generator of steps, for the sync and the async client alike."""

import difflib
import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flowcraft_sdk.context_input import as_context, check_contract
from flowcraft_sdk.errors import (
    BlueprintNotFoundError,
    ConfigurationError,
    ProtocolMismatchError,
    RunCancelledError,
    RunConflictError,
    RunFailedError,
    RunNotFoundError,
    RunTimedOutError,
    WaitTimeoutError,
)
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION, Keys
from flowcraft_sdk.protocol.run_record import RunRecord, parse_event
from flowcraft_sdk.records import RunEvent, RunSnapshot, RunStatus, ServerInfo
from flowcraft_sdk.steps import Doze, Operation, clock, command

LOOK_AGAIN = 30.0
"""Seconds after which a sleeper looks by itself, in case a notice was lost."""

WORKER_FRESH = 30.0
"""Seconds for which a worker counts as alive after it was last heard of."""

DEFAULT_GRACE = 30.0
EVENTS_A_PAGE = 500


@dataclass(frozen=True, slots=True)
class Deployment:
    """Which deployment to talk to, and what is known of it."""

    keys: Keys
    docs: dict[str, Mapping[str, Any]]
    """Plan documents by hash: immutable, so fetched once."""


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How a run is to be started; the keyword arguments of `Client.start`."""

    run_id: str | None = None
    on_conflict: str = "attach"
    delay: float | timedelta | None = None
    start_at: datetime | None = None
    run_timeout: float | timedelta | None = None
    tags: Iterable[str] = ()
    memo: Mapping[str, Any] | None = None
    version: str | None = None
    parent: str | None = None
    max_value: int = 16 * 1024 * 1024


def seconds(value: float | timedelta | None, name: str) -> float | None:
    """A span as seconds.

    Raises:
        ValueError: it is negative or not a number.
    """
    if value is None:
        return None
    span = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not span >= 0:
        raise ValueError(f"{name} is a span of time, got {value!r}")
    return span


def start(deployment: Deployment, blueprint_id: str, ctx: Any, options: StartOptions, run_id: str) -> Operation[bool]:
    """Start a run; the value says whether it was there already."""
    keys = deployment.keys
    values = as_context(ctx)
    doc = yield from _current_doc(deployment, blueprint_id, options.version)
    if doc is not None and doc.get("inputs") is not None:
        values = check_contract(blueprint_id, doc["inputs"], values)
    context = {key: wire.dumps(value, path=f"ctx.{key}", limit=options.max_value) for key, value in values.items()}
    digest = hashlib.sha256(b"\n".join(key.encode() + b"=" + context[key] for key in sorted(context))).hexdigest()[:32]
    delay = seconds(options.delay, "delay")
    run_timeout = seconds(options.run_timeout, "run_timeout")
    start_at = int(options.start_at.timestamp() * 1000) if options.start_at else None
    if delay:
        now = yield command("TIME")
        offset = yield command("GET", keys.clock)
        start_at = int(now[0]) * 1000 + int(now[1]) // 1000 + int(offset or 0) + int(delay * 1000)
    reply = yield scripts.start(
        keys,
        token=secrets.token_hex(8),
        run_id=run_id,
        blueprint_id=blueprint_id,
        version=options.version or "",
        digest=digest,
        on_conflict=options.on_conflict,
        start_at_ms=start_at,
        run_timeout_ms=None if run_timeout is None else max(1, int(run_timeout * 1000)),
        tags_json=json.dumps(sorted(set(options.tags))) if options.tags else "",
        memo_json=wire.dumps(options.memo, path="memo", limit=65_536) if options.memo else "",
        parent=options.parent or "",
        context=context,
    )
    code = reply[0].decode()
    if code in ("no-blueprint", "no-version"):
        yield from _blueprint_missing(deployment, blueprint_id, options.version)
    if code == "no-parent":
        raise RunNotFoundError(options.parent or "", f"no run {options.parent} to be the parent")
    if code == "too-deep":
        raise ConfigurationError(f"run {options.parent} is nested too deep to have a child")
    if code == "conflict":
        raise RunConflictError(run_id, reply[1].decode())
    return bool(code == "attached")


def _current_doc(deployment: Deployment, blueprint_id: str, version: str | None) -> Operation[Mapping[str, Any] | None]:
    """The blueprint that a run would get. One read; the document itself is known from the second start on."""
    found = version or (yield command("HGET", deployment.keys.blueprints, blueprint_id))
    if found is None:
        yield from _blueprint_missing(deployment, blueprint_id, version)
    doc = yield from plan_doc(deployment, found if isinstance(found, str) else found.decode())
    return doc


def _blueprint_missing(deployment: Deployment, blueprint_id: str, version: str | None) -> Operation[None]:
    known = [name.decode() for name in (yield command("HKEYS", deployment.keys.blueprints))]
    if not known:
        spoken = yield command("GET", deployment.keys.protocol)
        if spoken is not None and spoken.decode() != PROTOCOL_VERSION:
            raise ProtocolMismatchError(PROTOCOL_VERSION, spoken.decode())
    raise BlueprintNotFoundError(blueprint_id, version, difflib.get_close_matches(blueprint_id, known, 3, 0.5))


def plan_doc(deployment: Deployment, plan_hash: str) -> Operation[Mapping[str, Any] | None]:
    """The plain blueprint of a plan, None if the plan is unknown."""
    doc = deployment.docs.get(plan_hash)
    if doc is None:
        raw = yield command("HGET", deployment.keys.plan(plan_hash), "doc")
        if raw is None:
            return None
        doc = deployment.docs[plan_hash] = json.loads(raw)
    return doc


def status(deployment: Deployment, run_id: str) -> Operation[RunStatus]:
    """A run's state; one small read."""
    raw = yield command("HGET", deployment.keys.run(run_id), "st")
    if raw is None:
        raise RunNotFoundError(run_id)
    return RunStatus(raw.decode())


def record(deployment: Deployment, run_id: str) -> Operation[RunRecord]:
    """A run's whole hash, decoded, with its blueprint."""
    reply = yield command("HGETALL", deployment.keys.run(run_id))
    fields = {key.decode(): value.decode() for key, value in reply.items()}
    if "st" not in fields:
        raise RunNotFoundError(run_id)
    doc = yield from plan_doc(deployment, fields["plan"])
    return RunRecord(run_id, fields, doc)


def describe(deployment: Deployment, run_id: str, ctx: bool, outputs: bool) -> Operation[RunSnapshot]:
    """A picture of a run."""
    found = yield from record(deployment, run_id)
    return found.snapshot(ctx=ctx, outputs=outputs)


def wait_for(
    deployment: Deployment, run_id: str, wanted: frozenset[RunStatus], timeout: float | None, handle: Any
) -> Operation[RunStatus]:
    """Sleep until the run is in a wanted state or has ended. The driver listens to the run's channel meanwhile."""
    begin = clock()
    while True:
        now = yield from status(deployment, run_id)
        if now.is_terminal or now in wanted:
            return now
        left = LOOK_AGAIN if timeout is None else timeout - (clock() - begin)
        if left <= 0:
            alive = yield from live_workers(deployment)
            raise WaitTimeoutError(run_id, now.value, clock() - begin, handle, alive)
        yield Doze(min(left, LOOK_AGAIN))


def live_workers(deployment: Deployment) -> Operation[int]:
    """How many workers were heard of lately."""
    now = yield command("TIME")
    offset = yield command("GET", deployment.keys.clock)
    since = int(now[0]) * 1000 + int(offset or 0) - int(WORKER_FRESH * 1000)
    count: int = yield command("ZCOUNT", deployment.keys.workers, since, "+inf")
    return count


def result(deployment: Deployment, run_id: str, timeout: float | None, handle: Any) -> Operation[Any]:
    """Wait for the end and return the output, or raise by how the run ended."""
    yield from wait_for(deployment, run_id, frozenset(), timeout, handle)
    found = yield from record(deployment, run_id)
    if found.status is RunStatus.COMPLETED:
        return found.result()
    snapshot = found.snapshot()
    if found.status is RunStatus.CANCELLED:
        raise RunCancelledError(snapshot)
    if found.status is RunStatus.TIMED_OUT:
        raise RunTimedOutError(snapshot)
    raise RunFailedError(snapshot)


def wait(deployment: Deployment, run_id: str, timeout: float | None, handle: Any) -> Operation[RunSnapshot]:
    """Wait for the end, however it comes."""
    yield from wait_for(deployment, run_id, frozenset(), timeout, handle)
    snapshot = yield from describe(deployment, run_id, False, True)
    return snapshot


def cancel(deployment: Deployment, run_id: str, reason: str, grace: float | None) -> Operation[bool]:
    """Ask a run to stop; False if it had ended."""
    if grace is None:
        raw = yield command("HGET", deployment.keys.settings, "cancelGrace")
        grace_ms = int(raw) if raw is not None else int(DEFAULT_GRACE * 1000)
    else:
        grace_ms = int(grace * 1000)
    reply = yield scripts.cancel(deployment.keys, run_id=run_id, reason=reason, grace_ms=grace_ms)
    if reply[0] == b"missing":
        raise RunNotFoundError(run_id)
    return bool(reply[0] == 1)


def event_page(deployment: Deployment, run_id: str, after: int) -> Operation[tuple[list[RunEvent], bool]]:
    """Events behind an id, at most a page, and whether the run has ended."""
    keys = deployment.keys
    head = yield command("HMGET", keys.run(run_id), "st", "cr", "ev0")
    if head[0] is None:
        raise RunNotFoundError(run_id)
    ended = RunStatus(head[0].decode()).is_terminal
    created, trimmed = float(head[1]), int(head[2] or 0)
    first = max(0, after - trimmed)
    raw = yield command("LRANGE", keys.events(run_id), first, first + EVENTS_A_PAGE - 1)
    events = [parse_event(trimmed + first + i + 1, text.decode(), created) for i, text in enumerate(raw)]
    if after < trimmed:
        lost = (
            RunEvent(id=str(trimmed), type="events_truncated", at=events[0].at, data={"count": trimmed - after})
            if events
            else None
        )
        events = [lost, *events] if lost else events
    return events, ended and len(raw) < EVENTS_A_PAGE


def ping(deployment: Deployment) -> Operation[ServerInfo]:
    """Check that Redis answers and that both sides speak the same protocol."""
    keys = deployment.keys
    spoken = yield command("GET", keys.protocol)
    if spoken is not None and spoken.decode() != PROTOCOL_VERSION:
        raise ProtocolMismatchError(PROTOCOL_VERSION, spoken.decode())
    info = yield command("INFO", "server")
    blueprints = yield command("HLEN", keys.blueprints)
    workers = yield from live_workers(deployment)
    return ServerInfo(
        namespace=keys.namespace,
        protocol=spoken.decode() if spoken else "",
        redis_version=str(info.get("redis_version", "")),
        blueprints=blueprints,
        workers=workers,
    )
