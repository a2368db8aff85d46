"""The deployment that an operation works with, and reading a run of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk._operations.tombstones import missing
from flowcraft_sdk.errors import (
    ConfigurationError,
    ProtocolMismatchError,
)
from flowcraft_sdk.protocol.bounds import check_count
from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION, Keys
from flowcraft_sdk.protocol.partitions import MOST_PARTITIONS, PARTITIONS_FIELD, Partitions
from flowcraft_sdk.protocol.run_record import RunRecord
from flowcraft_sdk.records.counts import counted

WORKER_FRESH = 30.0
"""Seconds for which a worker counts as alive after it was last seen."""
MOST_PLAN_DOCUMENTS = 200
Seconds = float | timedelta | str
"""A span: seconds, a timedelta, or a text such as `30s`."""


@dataclass(slots=True)
class Deployment:
    """Which deployment to talk to, and what is known of it.

    Attributes:
        keys: the key names of its first partition, where everything lies that is there once.
        max_outage: seconds that a wait bears Redis being away.
        max_value: bytes that one value of a start context may have.
        plan_documents: plan documents by hash: immutable, so fetched once.
        ack_timeout: seconds to wait for Redis to confirm that something is kept.
        durability: when something counts as kept, once it is known.
        partitions: all its partitions, once it is known how many there are: the deployment's record in Redis says so.
        expected_partitions: how many there must be, None for any number.
        protocol_checked: whether both sides are known to speak the same protocol.
        test_clock: whether tests move its clock: waits that end too early say how then.
        known_queues: which queues there were, and when (ms) that was looked for.
    """

    keys: Keys
    max_outage: float
    max_value: int
    plan_documents: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    plans: dict[str, str] = field(default_factory=dict)
    ack_timeout: float = 3.0
    durability: str | None = None
    protocol_checked: bool = False
    test_clock: bool = False
    known_queues: tuple[int, tuple[str, ...]] = (0, ())
    partitions: Partitions | None = None
    expected_partitions: int | None = None


def text(value: Any) -> str:
    """A reply as text; a redis-py client of the caller's own may decode it already.

    Bytes that are no UTF-8, which no server writes, are shown as escapes.
    """
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def server_ms(deployment: Deployment) -> Operation[int]:
    """The time by which the deployment goes, in ms."""
    now, offset = yield Batch((command("TIME"), command("GET", deployment.keys.clock)))
    return int(now[0]) * 1000 + int(now[1]) // 1000 + int(offset or 0)


def checked_partitions(count: int | None) -> int | None:
    """A number of partitions that there can be, or None.

    Raises:
        ConfigurationError: it is none.
    """
    return count if count is None else check_count(count, "partitions", MOST_PARTITIONS, least=1)


def partitions_of(deployment: Deployment) -> Operation[Partitions]:
    """All partitions of the deployment. Its record is read once; a deployment that has published nothing yet has none.

    Raises:
        ConfigurationError: there are not as many as the client expects.
    """
    if deployment.partitions is not None:
        return deployment.partitions
    spoken, raw = yield Batch(
        (command("GET", deployment.keys.protocol), command("HGET", deployment.keys.settings, PARTITIONS_FIELD))
    )
    expected, namespace = deployment.expected_partitions, deployment.keys.namespace
    if spoken is None and raw is None:
        return Partitions(namespace, expected or 1)
    if text(spoken) == PROTOCOL_VERSION:
        deployment.protocol_checked = True
    found = Partitions(namespace, int(raw or 1))
    if expected not in (None, found.count):
        raise ConfigurationError(
            f"the runs of '{namespace}' lie in {counted(found.count, 'partition')}, this client expects "
            f"{expected}: leave `partitions` out, the client finds how many there are"
        )
    deployment.partitions = found
    return found


def keys_of(deployment: Deployment, run_id: str) -> Operation[Keys]:
    """The keys of the partition in which a run lies."""
    partitions = deployment.partitions or (yield from partitions_of(deployment))
    return partitions.for_run(run_id)


def check_protocol(deployment: Deployment, spoken: Any) -> None:
    if spoken is not None and text(spoken) != PROTOCOL_VERSION:
        raise ProtocolMismatchError(PROTOCOL_VERSION, text(spoken))
    deployment.protocol_checked = spoken is not None


def plan_document(deployment: Deployment, plan_hash: str) -> Operation[Mapping[str, Any] | None]:
    """The plain blueprint of a plan, None if the plan is unknown."""
    doc = deployment.plan_documents.get(plan_hash)
    if doc is None:
        raw = yield command("HGET", deployment.keys.plan(plan_hash), "doc")
        if raw is None:
            return None
        doc = json.loads(raw)
        if len(deployment.plan_documents) >= MOST_PLAN_DOCUMENTS:
            deployment.plan_documents.clear()
        deployment.plan_documents[plan_hash] = doc
    return doc


def record(deployment: Deployment, run_id: str) -> Operation[RunRecord]:
    """A run's whole hash, decoded, with its blueprint."""
    keys = yield from keys_of(deployment, run_id)
    reply = yield command("HGETALL", keys.run(run_id))
    fields = {text(key): text(value) for key, value in reply.items()}
    if "st" not in fields:
        yield from missing(keys.gone, run_id)
    return (yield from with_plan(deployment, run_id, fields))


def with_plan(deployment: Deployment, run_id: str, fields: Mapping[str, str]) -> Operation[RunRecord]:
    """The record that the fields of a run's hash make, with its blueprint."""
    doc = yield from plan_document(deployment, fields.get("plan", ""))
    return RunRecord(run_id, fields, doc)
