"""Publishing: blueprints become plans in Redis, where the `start` script and every worker find them."""

import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from flowcraft_sdk._operations.durability import ASYNC
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION, Keys
from flowcraft_sdk.protocol.partitions import PARTITIONS_FIELD, Partitions
from flowcraft_sdk.protocol.webhook_keys import SECRET_FIELD
from flowcraft_sdk.records.counts import counted
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.compiling.plan import Plan
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.blueprints.routes import Route
from flowcraft_server.blueprints.run_limits import RunLimits
from flowcraft_server.config.limits import Limit


def publish_blueprints(
    redis: Any,
    partitions: Partitions,
    blueprints: Iterable[Blueprint],
    routes: Mapping[str, Route] | None = None,
    unchanged: Mapping[str, str] | None = None,
    kept: Iterable[str] = (),
) -> dict[str, str]:
    """Compile blueprints and publish their plans in all partitions; returns blueprint id -> plan hash.

    Plans are kept under their content hash, so runs that are under way keep the plan they started with. A blueprint
    that is published elsewhere and not here stays: other servers may serve it. A plan that is replaced goes after the
    last run that uses it.

    Args:
        unchanged: blueprints besides, by id the hash of their plan, which is in Redis.
        kept: hashes of further plans that are in Redis: they are neither written nor retired.
    """
    hashes, kept = dict(unchanged or {}), set(kept)
    plans: Iterable[Plan] = (compile_blueprint(blueprint, routes) for blueprint in blueprints)
    if partitions.count > 1:
        plans = list(plans)  # else one after the other: a large deployment's take much memory
    # The first one last: what its readers find there they find in each partition.
    for keys in reversed(partitions.all):
        before = {text(plan) for plan in redis.hgetall(keys.blueprints).values()}
        pipe = redis.pipeline(transaction=True)
        pipe.set(keys.protocol, PROTOCOL_VERSION)
        for blueprint_id, plan_hash in (unchanged or {}).items():
            pipe.hset(keys.blueprints, blueprint_id, plan_hash)
        for plan in plans:
            pipe.hset(keys.plan(plan.hash), mapping=dict(plan.fields))
            pipe.hset(keys.blueprints, plan.blueprint.id, plan.hash)
            _publish_run_limits(pipe, keys, plan.blueprint.id, plan.blueprint.run_limits)
            hashes[plan.blueprint.id] = plan.hash
        pipe.execute()
        replaced = sorted(before - set(hashes.values()) - kept)
        if replaced:
            call = scripts.retire(keys, replaced)
            redis.eval(call.script.source, len(call.keys), *call.keys, *call.args)
    return hashes


def _publish_run_limits(redis: Any, keys: Keys, name: str, limits: RunLimits | None) -> None:
    """Lay down how many runs there may be at once: of a blueprint, or under the name `*` of the deployment."""
    stored = "" if limits is None else limits.stored()
    if stored:
        redis.hset(keys.run_limits, name, stored)
    else:
        redis.hdel(keys.run_limits, name)


def text(value: Any) -> str:
    """A reply as text; the client may decode it already."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def publish_settings(
    redis: Any,
    partitions: Partitions,
    *,
    history: bool,
    max_events: int,
    cancel_grace_ms: int,
    durability: str = ASYNC,
    limits: Mapping[str, Limit] | None = None,
    run_limits: RunLimits | None = None,
) -> None:
    """Publish what the scripts need to know of the deployment's configuration, in all partitions, and how many these are.

    A limit that is no longer given stays as it was, for runs of plans that name it.

    Raises:
        WrongPartitions: the deployment has another number of them.
    """
    home = partitions.home
    redis.hsetnx(home.settings, PARTITIONS_FIELD, partitions.count)
    check_partitions(partitions, None, redis.hget(home.settings, PARTITIONS_FIELD))
    redis.hsetnx(home.settings, SECRET_FIELD, secrets.token_urlsafe(32))
    for keys in partitions.all:
        redis.hset(
            keys.settings,
            mapping={
                "history": "on" if history else "off",
                "events": max_events,
                "cancelGrace": cancel_grace_ms,
                "durability": durability,
                "published": int(time.time() * 1000),
            },
        )
        _publish_run_limits(redis, keys, "*", run_limits)
        if limits:
            redis.hset(keys.limits, mapping={name: limit.stored() for name, limit in limits.items()})
            redis.zadd(keys.timers, {f"l|{name}|": 0 for name in limits})  # there may be room for more than before


class WrongPartitions(ValueError):
    """A deployment has another number of partitions than its configuration says; the message says how to change it."""


def check_partitions(partitions: Partitions, spoken: Any, recorded: Any) -> None:
    """Look whether a deployment's record allows so many partitions.

    Args:
        spoken: the protocol of the deployment, None if nothing is published.
        recorded: the number on record. A deployment without one has one partition, if it is published.

    Raises:
        WrongPartitions: it does not.
    """
    if recorded is None and spoken is None:
        return
    found = int(recorded or 1)
    if found != partitions.count:
        raise WrongPartitions(
            f"the runs of '{partitions.namespace}' lie in {counted(found, 'partition')}, redis.partitions is "
            f"{partitions.count}, and the number is fixed for the life of a deployment: set redis.partitions: {found}; or start "
            f"the new runs under another `name`, until a server with {found} has finished the old ones"
        )
