"""The versions of a blueprint: the current one, and those that kept runs still use."""

import json
from typing import Any

from flowcraft_sdk._operations.deployment import Deployment, partitions_of, plan_document, text
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk._operations.list_runs import scored
from flowcraft_sdk._operations.start import blueprint_missing
from flowcraft_sdk.protocol.bounds import LONGEST_NAME, check_text
from flowcraft_sdk.protocol.run_record import moment
from flowcraft_sdk.records import BlueprintVersion

PLANS_AT_ONCE = 100


def blueprint_versions(deployment: Deployment, blueprint_id: str) -> Operation[list[BlueprintVersion]]:
    """The versions, the current one first, then those of the most runs."""
    check_text(blueprint_id, "a blueprint id", LONGEST_NAME)
    keys = deployment.keys
    current, publisher = yield Batch(
        (command("HGET", keys.blueprints, blueprint_id), command("HGET", keys.publishers, blueprint_id))
    )
    runs: dict[str, int] = {}
    retired: dict[str, float] = {}
    for part in (yield from partitions_of(deployment)).all:
        used, unused = yield Batch(
            (command("HGETALL", part.plans), command("ZRANGE", part.base + "retired", 0, -1, "WITHSCORES"))
        )
        for plan, count in used.items():
            runs[text(plan)] = runs.get(text(plan), 0) + int(count)
        retired |= dict(scored(unused))
    now = None if current is None else text(current)
    plans = {*runs, *retired, *([] if now is None else [now])}
    documents = yield from _documents_of(deployment, blueprint_id, sorted(plans))
    if not documents:
        yield from blueprint_missing(deployment, blueprint_id, None)
    about = _publication(publisher)
    found = [
        BlueprintVersion(
            id=blueprint_id,
            version=plan,
            current=plan == now,
            runs=runs.get(plan, 0),
            node_count=len(document.get("nodes", ())),
            published_at=moment(about["at"]) if about.get("plan") == plan and "at" in about else None,
            published_by=str(about.get("by", "")) if about.get("plan") == plan else "",
            retired_at=None if plan == now or runs.get(plan, 0) > 0 or plan not in retired else moment(retired[plan]),
        )
        for plan, document in documents.items()
    ]
    return sorted(found, key=lambda each: (not each.current, -each.runs, each.version))


def _documents_of(deployment: Deployment, blueprint_id: str, plans: list[str]) -> Operation[dict[str, Any]]:
    """The documents of those plans that are of this blueprint. The others are looked at, and not kept."""
    found = {}
    for first in range(0, len(plans), PLANS_AT_ONCE):
        some = plans[first : first + PLANS_AT_ONCE]
        replies = yield Batch(tuple(command("HGET", deployment.keys.plan(plan), "doc") for plan in some))
        for plan, raw in zip(some, replies, strict=True):
            if raw is not None and _is_of(blueprint_id, raw):
                found[plan] = yield from plan_document(deployment, plan)
    return {plan: document for plan, document in found.items() if document is not None}


def _is_of(blueprint_id: str, raw: Any) -> bool:
    if json.dumps(blueprint_id, ensure_ascii=False) not in text(raw):
        return False  # most plans, which need not be decoded
    return bool(json.loads(raw).get("id") == blueprint_id)


def _publication(raw: Any) -> dict[str, Any]:
    try:
        found = json.loads(raw or "{}")
    except ValueError:
        return {}
    good = isinstance(found, dict) and isinstance(found.get("at", 0), int | float)
    return found if good else {}
