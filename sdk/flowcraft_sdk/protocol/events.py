"""Reading a run's history: from entries of the list to records. Pure."""

from typing import Any

from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.run_record import moment
from flowcraft_sdk.records import RunEvent

_EVENTS = {
    "B": "run_started",
    "s": "node_started",
    "c": "node_completed",
    "r": "node_retrying",
    "f": "node_failed",
    "k": "node_skipped",
    "w": "node_waiting",
    "x": "node_cancelled",
    "t": "node_taken_over",
    "g": "node_progress",
    "e": "custom",
    "i": "signal_received",
    "X": "cancel_requested",
    "E": "run_ended",
}


def parse_event(event_id: int, text: str, created_ms: float) -> RunEvent:
    """One entry of a run's history."""
    letter, ms, inst, rest = text.split("|", 3)
    return RunEvent(
        id=str(event_id),
        type=_EVENTS.get(letter, "unknown"),
        at=moment(created_ms + float(ms)),
        node_id=inst or None,
        data=_event_data(letter, rest),
    )


def _event_data(letter: str, rest: str) -> dict[str, Any]:
    first, _, second = rest.partition("|")
    if letter == "s":
        return {"attempt": int(first), "worker": second}
    if letter == "c":
        return {"action": rest or None}
    if letter == "r":
        return {"attempt": int(first), "delay": float(second) / 1000}
    if letter == "g":
        fraction, message = wire.loads(rest)
        return {"fraction": fraction, "message": message}
    if letter == "e":
        return {"name": first, "data": wire.loads(second)}
    named = {"f": "attempt", "w": "kind", "t": "crashes", "i": "action", "X": "reason", "E": "status"}
    value = int(rest) if letter in "ft" and rest.isdigit() else rest
    return {named[letter]: value} if letter in named else {}
