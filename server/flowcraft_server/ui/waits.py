"""What waits for a person: nodes of runs with the form of their answer. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowcraft_sdk.records import RunSnapshot, WaitPoint

from .forms import Field, fields_of_schema

ANSWERED = frozenset({"signal", "webhook"})
MOST_ACTIONS = 20


@dataclass(frozen=True)
class OpenWait:
    """A node that waits for an answer.

    Attributes:
        run_id: The run that is answered.
        blueprint_id: Id of its blueprint.
        path: The way to the node from that run.
        since: When the wait began.
        expires_at: When it ends by itself.
        prompt: What the node asks.
        fields: What an answer consists of.
        actions: The actions among which the answer chooses.
        webhook: Path of the URL at which another program answers it; '' for none.
    """

    run_id: str
    blueprint_id: str
    path: str
    since: datetime
    expires_at: datetime | None
    prompt: Any
    fields: tuple[Field, ...]
    actions: tuple[str, ...]
    webhook: str = ""


def waits_of(run: RunSnapshot) -> list[OpenWait]:
    """What a run and its child runs wait for that a person can answer."""
    return [open_wait(point, run.run_id, run.blueprint_id) for point in run.waiting if point.kind in ANSWERED]


def open_wait(point: WaitPoint, run_id: str, blueprint_id: str) -> OpenWait:
    """A node that waits, with the form of its answer.

    Args:
        point: The node.
        run_id: The run by which it is named.
        blueprint_id: Id of the blueprint of that run.
    """
    actions = point.actions if isinstance(point.actions, list | tuple) else ()
    fields: tuple[Field, ...] = (
        () if actions and point.payload_schema is None else fields_of_schema(point.payload_schema)
    )
    return OpenWait(
        run_id=run_id,
        blueprint_id=blueprint_id,
        path=point.node_id,
        since=point.since,
        expires_at=point.expires_at,
        prompt=point.prompt,
        fields=fields,
        actions=tuple(str(action) for action in actions[:MOST_ACTIONS]),
        webhook=f"/webhooks/{point.webhook_key}" if point.webhook_key else "",
    )
