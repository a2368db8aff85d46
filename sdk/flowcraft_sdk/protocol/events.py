"""Reading a run's history: from entries of the list to records. Pure."""

import json
from typing import Any

from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.run_record import CAUSES, moment
from flowcraft_sdk.records import RunEvent, typed_event

_EVENTS = {
    "B": "run_started",
    "s": "node_started",
    "u": "node_resumed",
    "c": "node_completed",
    "K": "node_recovered",
    "h": "node_handed_back",
    "r": "node_retrying",
    "f": "node_failed",
    "k": "node_skipped",
    "w": "node_waiting",
    "x": "node_cancelled",
    "t": "node_taken_over",
    "g": "node_progress",
    "p": "step_recorded",
    "P": "step_failed",
    "e": "custom",
    "i": "signal_received",
    "X": "cancel_requested",
    "a": "child_abandoned",
    "A": "parent_stopped",
    "z": "run_closing",
    "m": "node_compensating",
    "E": "run_ended",
}


def parse_event(event_id: int, text: str, created_ms: float, run_id: str = "") -> RunEvent:
    """One entry of a run's history."""
    letter, ms, instance_id, rest = text.split("|", 3)
    return typed_event(
        run_id=run_id,
        id=str(event_id),
        type=_EVENTS.get(letter, "unknown"),
        at=moment(created_ms + float(ms)),
        node_id=instance_id or None,
        data=_event_data(letter, rest, created_ms),
    )


def _event_data(letter: str, rest: str, created_ms: float) -> dict[str, Any]:
    first, _, second = rest.partition("|")
    if letter in "su":  # `s` has when it became ready where that was a while ago
        worker, _, ready = second.rpartition("|") if letter == "u" or "|" in second else (second, "", "")
        since = {"ready_at": moment(created_ms + float(ready))} if ready or letter == "u" else {}
        return {"attempt": int(first), "worker": worker, **since}
    if letter == "c":
        return {"action": rest or None}
    if letter == "K":
        return {"fallback": first, "action": second or None}
    if letter == "r":
        delay, _, failure = second.partition("|")
        return {"attempt": int(first), "delay": float(delay) / 1000, **_error(failure)}
    if letter == "f":
        return {"attempt": int(first), **_error(second)}
    if letter == "t":
        return {"crashes": int(first), **({"worker": second} if second else {})}
    if letter in "pP":
        return dict(wire.loads(rest))
    if letter == "g":
        fraction, message = wire.loads(rest)
        return {"fraction": fraction, "message": message}
    if letter == "e":
        return {"name": first, "data": wire.loads(second)}
    if letter == "A":
        return {"cause": CAUSES.get(rest, rest)}
    named = {
        "a": "child_run_id",
        "w": "kind",
        "h": "worker",
        "i": "action",
        "X": "reason",
        "E": "status",
        "z": "status",
        "m": "compensates",
    }
    return {named[letter]: rest} if letter in named else {}


def _error(failure: str) -> dict[str, Any]:
    """What the history keeps of a failure: its type, its message and the hash of the input, as far as they are there."""
    if not failure:
        return {}
    error = json.loads(failure)
    known = {"type": error.get("type", ""), "message": error.get("message", "")}
    return {"error": {**known, **({"input_hash": error["input"]} if error.get("input") else {})}}
