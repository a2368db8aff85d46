"""Messages to nodes: sent by clients, kept in the run, taken by the node's handler."""

import difflib
from collections.abc import Sequence
from typing import Any, NoReturn

from flowcraft_sdk._operations.deployment import Deployment, keys_of, plan_document, text
from flowcraft_sdk._operations.effects import Operation, command
from flowcraft_sdk._operations.signals import checked_id
from flowcraft_sdk.errors import NotReceivingError, RunNotFoundError, RunStateError
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.bounds import LONGEST_PATH, MOST_MESSAGE_BYTES, MOST_MESSAGES, check_text
from flowcraft_sdk.protocol.node_kinds import BUILTIN_USES


def send(deployment: Deployment, run_id: str, node_id: str, message: Any, message_id: str | None) -> Operation[str]:
    """Keep a message for a node; the value names the node that gets it."""
    chosen = checked_id(message_id, "a message id")
    path = check_text(node_id, "node_id", LONGEST_PATH)
    encoded = wire.dumps(message, path="message", limit=MOST_MESSAGE_BYTES)
    keys = yield from keys_of(deployment, run_id)
    plan = yield command("HGET", keys.run(run_id), "plan")
    doc = (yield from plan_document(deployment, text(plan))) if plan is not None else None
    node = next((node for node in (doc or {}).get("nodes", ()) if node["id"] == path), None)
    if node is not None and node["uses"] in BUILTIN_USES:
        why = f"node '{path}' uses '{node['uses']}', which takes no messages; a node that waits is signalled"
        raise NotReceivingError(run_id, "", path, "kind", why)
    reply = yield scripts.send(
        keys, run_id=run_id, instance_id=path, message_id=chosen, payload=encoded, most=MOST_MESSAGES
    )
    code = text(reply[0])
    if code in ("ok", "duplicate"):
        return text(reply[1])
    known = [str(node["id"]) for node in (doc or {}).get("nodes", ())]
    _refused(run_id, path, code, [text(part) for part in reply[1:]], known)


def _refused(run_id: str, path: str, code: str, rest: Sequence[str], known: Sequence[str]) -> NoReturn:
    if code == "missing":
        raise RunNotFoundError(run_id)
    if code == "ended":
        raise RunStateError(
            run_id, rest[0], f"run {run_id} has ended ({rest[0]}): no node of it takes messages any more"
        )
    reason, why = {
        "unknown": ("unknown", f"run {run_id} has no node '{path}'{_near(path, known)}"),
        "over": ("ended", f"node '{path}' of run {run_id} has ended, or is about to: it takes no messages any more"),
        "full": (
            "full",
            f"{MOST_MESSAGES} messages are kept for node '{path}' of run {run_id}, which has not taken them yet",
        ),
    }[code]
    raise NotReceivingError(run_id, rest[1], path, reason, why)


def _near(path: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(path[:100], known[:2000], 1)
    return f"; did you mean '{found[0]}'?" if found else ""
