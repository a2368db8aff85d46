"""Publishing: blueprints become plans in Redis, where the `start` script and every worker find them."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from flowcraft_sdk._operations.durability import ASYNC
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION, Keys
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.model import Blueprint


def publish_blueprints(
    redis: Any,
    keys: Keys,
    blueprints: Iterable[Blueprint],
    handler_queues: Mapping[str, str] | None = None,
    unchanged: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Compile blueprints and publish their plans; returns blueprint id -> plan hash.

    Plans are kept under their content hash, so runs that are under way keep the plan they started with. A blueprint
    that is published elsewhere and not here stays: other servers may serve it. A plan that is replaced goes after the
    last run that uses it.

    Args:
        unchanged: blueprints besides, by id the hash of their plan, which is in Redis.
    """
    hashes = dict(unchanged or {})
    before = {text(plan) for plan in redis.hgetall(keys.blueprints).values()}
    pipe = redis.pipeline(transaction=True)
    pipe.set(keys.protocol, PROTOCOL_VERSION)
    for blueprint_id, plan_hash in hashes.items():
        pipe.hset(keys.blueprints, blueprint_id, plan_hash)
    for blueprint in blueprints:
        plan = compile_blueprint(blueprint, handler_queues)
        pipe.hset(keys.plan(plan.hash), mapping=dict(plan.fields))
        pipe.hset(keys.blueprints, blueprint.id, plan.hash)
        hashes[blueprint.id] = plan.hash
    pipe.execute()
    replaced = sorted(before - set(hashes.values()))
    if replaced:
        call = scripts.retire(keys, replaced)
        redis.eval(call.script.source, len(call.keys), *call.keys, *call.args)
    return hashes


def text(value: Any) -> str:
    """A reply as text; the client may decode it already."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def publish_settings(
    redis: Any, keys: Keys, *, history: bool, max_events: int, cancel_grace_ms: int, durability: str = ASYNC
) -> None:
    """Publish what the scripts need to know of the deployment's configuration."""
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
