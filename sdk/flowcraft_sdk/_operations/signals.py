"""Signals: the answers that waiting nodes are given, looked over before they are sent."""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from flowcraft_sdk._operations.deployment import Deployment, keys_of, plan_document, text
from flowcraft_sdk._operations.effects import Operation
from flowcraft_sdk.errors import (
    ConfigurationError,
    InvalidInputError,
    NotWaitingError,
    RunNotFoundError,
    RunStateError,
)
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.bounds import LONGEST_NAME, LONGEST_PATH, check_text, shown
from flowcraft_sdk.protocol.misfits import choices, found, misfits_line
from flowcraft_sdk.protocol.payload_schema import schema_misfits

SIGNAL_ID = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
WAITING_USES = ("wait", "webhook")


def signal(
    deployment: Deployment,
    run_id: str,
    node_id: str | None,
    payload: Any,
    action: str | None,
    signal_id: str | None,
    buffer: bool,
) -> Operation[str]:
    """Give a waiting node its answer; the value names the node that got it."""
    chosen, path = checked_id(signal_id, "a signal id"), node_id or ""
    check_text(path, "node_id", LONGEST_PATH, least=0)
    if action is not None:
        check_text(action, "an action", LONGEST_NAME)
    if buffer and not path:
        raise ConfigurationError("buffer=True needs node_id: it is not known yet which node will wait")
    encoded = wire.dumps(payload, path="payload", limit=deployment.max_value)
    keys = yield from keys_of(deployment, run_id)
    reply = yield scripts.find_wait(keys, run_id=run_id, instance_id=path, signal_id=chosen, early=buffer)
    if text(reply[0]) == "found":
        yield from check_answer(deployment, run_id, reply, wire.loads(encoded), action)
        reply = yield scripts.signal(
            keys,
            run_id=run_id,
            instance_id=text(reply[1]),
            signal_id=chosen,
            action=action or "",
            payload=encoded,
            early=buffer,
        )
    code = text(reply[0])
    if code in ("ok", "kept", "duplicate"):
        return text(reply[1])
    _refused(run_id, node_id, code, [text(part) for part in reply[1:]])


def checked_id(signal_id: str | None, what: str) -> str:
    """The id of a signal or a message; a new one for None.

    Raises:
        ConfigurationError: it is none.
    """
    if signal_id is None:
        return secrets.token_hex(16)
    if not isinstance(signal_id, str) or not SIGNAL_ID.fullmatch(signal_id):
        raise ConfigurationError(f"{what} is a text of 1 to 200 characters, got {shown(signal_id)}")
    return check_text(signal_id, what, LONGEST_NAME)


def _refused(run_id: str, node_id: str | None, code: str, rest: Sequence[str]) -> NoReturn:
    if code == "missing":
        raise RunNotFoundError(run_id)
    if code == "ended":
        raise RunStateError(run_id, rest[0], f"run {run_id} has ended ({rest[0]}): no node of it waits any more")
    if code == "full":
        why = f"a signal is kept for node '{rest[0]}' already; it can have the next one when it waits"
        raise NotWaitingError(run_id, rest[1], node_id, (), why)
    raise NotWaitingError(run_id, rest[0], node_id, rest[1:])


def check_answer(
    deployment: Deployment, run_id: str, reply: Sequence[Any], payload: Any, action: str | None
) -> Operation[None]:
    """Refuse an answer that the node that is addressed cannot take.

    Raises:
        InvalidInputError: the action or the payload does not fit.
        NotWaitingError: the node is none that ever waits for a signal.
    """
    path, instance_id = text(reply[1]), text(reply[3])
    doc = (yield from plan_document(deployment, text(reply[4]))) or {}
    node = next((node for node in doc.get("nodes", ()) if node["id"] == instance_id), None)
    details: Any = (node or {}).get("params") or {}
    if len(reply) > 5 and reply[5] is not None:
        details = wire.loads(reply[5]) or {}
    elif node is not None and node["uses"] not in WAITING_USES:
        raise NotWaitingError(run_id, "", path, (), f"node '{path}' never waits for a signal, it uses '{node['uses']}'")
    errors = _action_misfits(action, details, [edge for edge in doc.get("edges", ()) if edge["source"] == instance_id])
    if details.get("schema") is not None:
        errors += schema_misfits(payload, details["schema"])
    if errors:
        message = f"node '{path}' of run {run_id} cannot take this answer: {misfits_line(errors)}"
        raise InvalidInputError(message, errors)


def _action_misfits(
    action: str | None, details: Mapping[str, Any], edges: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What is wrong with an action: it is not offered, or no edge would take it, which would fail the node."""
    offered = details.get("actions") or ()
    taken = [edge.get("action") for edge in edges]
    known = [*offered] or sorted({name for name in taken if name is not None})
    offers = action is None or not offered or action in offered
    if offers and (not edges or None in taken or action in taken):
        return []
    got = "none" if action is None else found(action)
    if offered and action in offered:
        message = f"no edge of the node takes {got}, so it would fail"
        return [{"loc": ("action",), "type": "action", "msg": message}]
    return [{"loc": ("action",), "type": "action", "msg": f"expected {choices(known)}, got {got}"}]
