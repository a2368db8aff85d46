"""One published blueprint."""

from typing import Any

from flowcraft_sdk._operations.deployment import Deployment, plan_document, text
from flowcraft_sdk._operations.effects import Operation, command
from flowcraft_sdk._operations.start import blueprint_missing
from flowcraft_sdk.protocol.bounds import LONGEST_NAME, check_text
from flowcraft_sdk.records import BlueprintDetails


def blueprint(deployment: Deployment, blueprint_id: str, version: str | None) -> Operation[BlueprintDetails]:
    """A published blueprint, or another version of it that is still in use."""
    check_text(blueprint_id, "a blueprint id", LONGEST_NAME)
    current = yield command("HGET", deployment.keys.blueprints, blueprint_id)
    if current is None and version is None:
        yield from blueprint_missing(deployment, blueprint_id, None)
    plan_hash = check_text(version, "version", LONGEST_NAME) if version is not None else text(current)
    doc: Any = yield from plan_document(deployment, plan_hash)
    if doc is None or doc.get("id", blueprint_id) != blueprint_id:
        yield from blueprint_missing(deployment, blueprint_id, version)
    doc = doc or {}
    return BlueprintDetails(
        id=blueprint_id,
        version=plan_hash,
        description=doc.get("description", ""),
        node_count=len(doc.get("nodes", ())),
        inputs=doc.get("inputs"),
        current=current is not None and text(current) == plan_hash,
        document=doc,
    )
