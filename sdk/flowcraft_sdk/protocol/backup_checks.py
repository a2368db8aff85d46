"""What the values of lines of a backup have to be, so that none becomes a key of something else, or an unreadable record."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol.bounds import LONGEST_NAME, shown
from flowcraft_sdk.protocol.context_input import check_known_run_id
from flowcraft_sdk.protocol.memory_scripts import LONGEST_ID, restorable
from flowcraft_sdk.protocol.plan_digest import plan_digest

SCHEDULE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
FOUND_BY = ("st", "bp", "plan", "cr", "tags")
"""Fields of a run's record by which it is found."""

_MILLISECONDS = re.compile(r"[0-9]{1,16}")


def is_text(value: str, *, of_bytes: bool) -> bool:
    """Whether a text can be stored.

    Args:
        of_bytes: whether lone surrogates may stand for bytes that are no UTF-8.
    """
    try:
        value.encode("utf-8", "surrogateescape" if of_bytes else "strict")
    except UnicodeEncodeError:
        return False
    return True


def unusable(kind: str, name: str, body: Mapping[str, Any]) -> str:
    """Why a line cannot be restored, by what stands in it alone; empty if it can.

    Args:
        kind: of the line.
        name: the id in it.
        body: all of it, in the right form.
    """
    fields = body.get("fields", {})
    if kind == "plan":
        return "" if _is_digest_of(name, fields) else f"plan {shown(name)} is not named by what is in it"
    if kind == "blueprint":
        return "" if len(name) <= LONGEST_NAME else f"the id of a blueprint has {LONGEST_NAME} characters at most"
    if kind == "schedule":
        return _schedule_fault(name, fields)
    if kind == "memory":
        fits = len(name) <= LONGEST_ID and restorable(fields)
        return "" if fits else f"memory {shown(name)}: its fields are none that a server writes"
    if kind == "run":
        # Ids of runs are parts of the names of keys: one that no run can have might spell a key of another run.
        try:
            check_known_run_id(name)
        except ConfigurationError as error:
            return str(error)
    owner = body.get("batch", "") if kind == "of" else ""
    return f"no node has the id {shown(owner)}" if "|" in owner or "\n" in owner else ""


def unusable_record(run_id: str, fields: Mapping[str, str]) -> str:
    """Why a run of this record cannot be restored: what it is found by is missing or wrong; empty if it can."""
    missing = [name for name in FOUND_BY[:-1] if not fields.get(name)]
    if missing:
        return f"run {run_id}: its record has no {missing[0]}"
    if not _MILLISECONDS.fullmatch(fields["cr"]):
        return f"run {run_id}: cr is a time in ms, got {shown(fields['cr'])}"
    if len(fields["bp"]) > LONGEST_NAME:
        return f"run {run_id}: the id of its blueprint has {LONGEST_NAME} characters at most"
    tags = _read(fields.get("tags", "[]"))
    if tags != {} and not (isinstance(tags, list) and _are_tags(tags)):
        return f"run {run_id}: tags is a list of texts, got {shown(fields['tags'])}"
    return ""


def _are_tags(tags: Iterable[Any]) -> bool:
    return all(isinstance(tag, str) and is_text(tag, of_bytes=False) for tag in tags)


def _is_digest_of(name: str, fields: Mapping[str, str]) -> bool:
    hashed = {field: value for field, value in fields.items() if field != "format"}
    return name == plan_digest(hashed, fields.get("format", ""))


def _schedule_fault(name: str, fields: Mapping[str, str]) -> str:
    if not SCHEDULE_ID.fullmatch(name):
        return f"the id of a schedule is 1 to 64 letters, digits, _, - and ., got {shown(name)}"
    if not {"def", "when"} <= fields.keys():
        return "a schedule has the fields def and when"
    words = _read(fields["def"])
    if not isinstance(words, dict) or not isinstance(words.get("blueprint"), str):
        return f"schedule {name}: its definition cannot be read"
    return ""


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
