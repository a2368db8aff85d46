"""The form of a backup: lines of JSON, the first one with the version of the form, the last one with counts. Pure.

    {"flowcraft": "backup", "format": 1, "protocol": "2", "namespace": "shop", "at": 1796083200000}
    {"plan": "3f2a...", "fields": {"doc": "...", ...}}
    {"blueprint": "order", "plan": "3f2a..."}
    {"schedule": "nightly", "fields": {...}}
    {"memory": "desk:clerk/ada", "fields": {...}}
    {"run": "order-1", "fields": {...}, "dead": {"charge": 1796083100000}}
    {"of": "order-1", "fields": {...}}   |   {"of": "order-1", "events": [...]}
    {"of": "order-1", "logs": {...}}     |   {"of": "order-1", "batch": "each", "fields": {...}}
    {"end": "order-1"}
    {"complete": {"plans": 1, "blueprints": 1, "schedules": 1, "memories": 1, "runs": 1}}

Fields are those of the hashes in Redis, see docs/store.md; bytes that are no UTF-8 are lone surrogates, as Python has them
(`surrogateescape`). A run takes as many lines as it needs, so that none is long and no side holds a whole run as text.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol.backup_checks import FOUND_BY, is_text, unusable, unusable_record
from flowcraft_sdk.protocol.bounds import shown
from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION

FORMAT = 1
LONGEST_LINE = 256 * 1024 * 1024
"""Characters of a line: it holds one value at least."""

LARGEST_NUMBER = 10**16
"""Of a count or a time in ms."""

TEXTS, NUMBERS, LIST, TEXT = "texts by name", "numbers by name", "a list of texts", "a text"
_FORMS: Mapping[str, Mapping[str, str]] = {
    "plan": {"plan": TEXT, "fields": TEXTS},
    "blueprint": {"blueprint": TEXT, "plan": TEXT},
    "schedule": {"schedule": TEXT, "fields": TEXTS},
    "memory": {"memory": TEXT, "fields": TEXTS},
    "run": {"run": TEXT, "fields": TEXTS, "dead": NUMBERS},
    "of": {"of": TEXT, "fields": TEXTS, "events": LIST, "logs": TEXTS, "batch": TEXT},
    "end": {"end": TEXT},
    "complete": {"complete": NUMBERS},
}
_COUNTED = {"plan": "plans", "blueprint": "blueprints", "schedule": "schedules", "memory": "memories", "run": "runs"}


class Entry(NamedTuple):
    """A line of a backup.

    Attributes:
        line: its number, from 1.
        kind: its first member.
        name: the value of that, if it is a text.
        body: all of it.
    """

    line: int
    kind: str
    name: str
    body: Mapping[str, Any]


class BackupError(ConfigurationError):
    """A line of a backup that cannot be restored; the message begins with its number.

    Attributes:
        line: The number of the line, from 1.
    """

    code = "backup"

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line

    def __reduce__(self) -> tuple[Any, ...]:
        return BackupError, (self.line, str(self).partition(": ")[2])


def head_of(namespace: str, at_ms: int) -> dict[str, Any]:
    """The first line."""
    return {
        "flowcraft": "backup",
        "format": FORMAT,
        "protocol": PROTOCOL_VERSION,
        "namespace": namespace,
        "at": at_ms,
    }


def encoded(body: Mapping[str, Any]) -> str:
    """A line, without its end."""
    return json.dumps(body, separators=(",", ":"))


def entries_of(lines: Iterable[str]) -> Iterator[Entry]:
    """The lines of a backup, the first one as kind `flowcraft`. Each is checked as it comes, as is that none is missing.

    Raises:
        BackupError: a line is none that this version knows.
    """
    number, over, inside, record, begun = 0, False, "", dict[str, str](), 0
    counts = dict.fromkeys(_COUNTED.values(), 0)
    for number, text in enumerate(lines, start=1):
        entry = _parsed(number, text)
        if number == 1:
            yield _head(entry)
            continue
        if over:
            raise BackupError(number, "nothing follows the line with the counts; are these two files in one?")
        _check_form(entry)
        if inside and entry.kind not in ("of", "end"):
            raise BackupError(number, f"the lines of run {shown(inside)} are not over: a line of it is missing")
        if entry.kind in ("of", "end") and entry.name != inside:
            raise BackupError(number, f"it belongs to run {shown(entry.name)}, whose first line is not in front of it")
        if reason := unusable(entry.kind, entry.name, entry.body):
            raise BackupError(number, reason)
        if entry.kind == "run":
            record, begun = {}, number
        if entry.kind in ("run", "of") and "batch" not in entry.body:
            record |= {name: value for name, value in entry.body.get("fields", {}).items() if name in FOUND_BY}
        if entry.kind == "end" and (reason := unusable_record(inside, record)):
            raise BackupError(begun, reason)
        inside = {"run": entry.name, "end": ""}.get(entry.kind, inside)
        if entry.kind in _COUNTED:
            counts[_COUNTED[entry.kind]] += 1
        if entry.kind == "complete":
            over = True
            if {"memories": 0, **entry.body["complete"]} != counts:  # of a version without memories
                raise BackupError(number, f"the counts are not those of the lines, which are {counts}")
        yield entry
    if number == 0:
        raise BackupError(1, "expected the first line of a backup, got an empty file")
    if not over:
        raise BackupError(number, "the file ends before its last line: it was cut off, or is still being written")


def _parsed(number: int, text: str) -> Entry:
    if len(text) > LONGEST_LINE:
        raise BackupError(number, f"it is longer than {LONGEST_LINE:,} characters")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BackupError(number, f"expected a JSON object, got {shown(text.strip())} ({error})"[:300]) from None
    if not isinstance(body, dict) or not body:
        raise BackupError(number, f"expected a JSON object, got {shown(text.strip())}")
    kind = next(iter(body))
    return Entry(number, kind, body[kind] if isinstance(body[kind], str) else "", body)


def _head(entry: Entry) -> Entry:
    body = entry.body
    if body.get("flowcraft") != "backup":
        raise BackupError(1, "expected the first line of a backup, which `flowcraft backup` writes")
    if body.get("format") != FORMAT:
        raise BackupError(
            1, f"its format is {shown(body.get('format'))}, this version reads {FORMAT}: use a newer flowcraft"
        )
    if body.get("protocol") != PROTOCOL_VERSION:
        raise BackupError(
            1,
            f"its runs are those of protocol {shown(body.get('protocol'))}, this version has {PROTOCOL_VERSION}: restore it with "
            "the version that has written it",
        )
    if not _fits(NUMBERS, {"at": body.get("at")}) or set(body) - {"flowcraft", "format", "protocol", "namespace", "at"}:
        raise BackupError(1, "expected the members flowcraft, format, protocol, namespace and at (ms)")
    return entry


def _check_form(entry: Entry) -> None:
    form = _FORMS.get(entry.kind)
    if form is None:
        raise BackupError(entry.line, f"expected one of {', '.join(_FORMS)} first, got {shown(entry.kind)}")
    for name, value in entry.body.items():
        if name not in form:
            raise BackupError(entry.line, f"{entry.kind}: unknown member {shown(name)}; known: {', '.join(form)}")
        if not _fits(form[name], value):
            raise BackupError(entry.line, f"{entry.kind}.{name}: expected {form[name]}")
    wanted = {"of": ()}.get(entry.kind, tuple(form))
    missing = [name for name in wanted if name not in entry.body]
    if missing:
        raise BackupError(entry.line, f"{entry.kind}: {missing[0]} is missing")


def _fits(form: str, value: Any) -> bool:
    if form == TEXT:
        return isinstance(value, str) and value != "" and is_text(value, of_bytes=False)
    if form == LIST:
        return isinstance(value, list) and all(isinstance(each, str) and is_text(each, of_bytes=True) for each in value)
    if not isinstance(value, dict) or not all(is_text(name, of_bytes=False) for name in value):
        return False
    if form == NUMBERS:
        return all(type(each) is int and 0 <= each < LARGEST_NUMBER for each in value.values())
    return all(isinstance(each, str) and is_text(each, of_bytes=True) for each in value.values())
