"""The text of a Lua script as Redis gets it: includes in their places, fields of records as indexes.

Lua lists that have a fixed layout are *records*. An include declares the layout once, in its head:

    -- @fields edge target position undecided join

`edge.target` then stands for `edge[1]`, in this file and in each script that includes it; so does `next_edge.target`: a variable
is of a record if its name is that of the record, or ends in `_` and that. A last field `values...` is the rest of the list, and
`claim.values` the index where it begins. The head line `-- ARGV run reason grace_ms` of a script declares its arguments likewise.
Python code that writes or reads such lists takes the order from the same declaration: see `writer` and `reader`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import Any

INCLUDE = "--@include "
ARGUMENTS = "ARGV"
REST = "..."

_DECLARATION = re.compile(r"^-- (?:@fields (\w+)|(ARGV)) ([a-z_][\w. ]*)$", re.MULTILINE)
_INCLUDES = re.compile(rf"^{INCLUDE}(.*)$", re.MULTILINE)
_TOKEN = re.compile(
    r"--[^\n]*|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"|(?:(?<![\w.:])|(?<=\.\.))([A-Za-z_]\w*)\.([A-Za-z_]\w*)"
)


class LuaSourceError(Exception):
    """A script that names a record or a field of one that is not declared."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One file, its fields substituted.

    Attributes:
        text: the file, with as many lines as before.
        declared: the records that it declares.
        used: where it first uses each record: `file:line`.
    """

    text: str
    declared: frozenset[str]
    used: Mapping[str, str]


@cache
def source_of(name: str) -> str:
    """The script `name`, complete.

    Raises:
        LuaSourceError: it uses a field that a record does not have, or a record that no file of it declares.
    """
    script = _part(f"{name}.lua")
    names = [include for line in _INCLUDES.findall(script.text) for include in line.split()]
    parts = {include: _part(f"include/{include}.lua") for include in names}
    declared = script.declared.union(*(part.declared for part in parts.values()))
    for part in (script, *parts.values()):
        for record, place in part.used.items():
            if record not in declared:
                raise LuaSourceError(
                    f"{place}: record {record} is not declared in {name}.lua or a file that it includes"
                )

    def with_includes(line: re.Match[str]) -> str:
        return "\n".join([line[0], *(parts[include].text for include in line[1].split())])

    return _INCLUDES.sub(with_includes, script.text)


@cache
def fields_of(include: str, record: str) -> tuple[str, ...]:
    """The fields of a record, in order, as the include declares them; a last one that is the rest of the list without `...`.

    Raises:
        LuaSourceError: the include declares no such record.
    """
    found = declarations(_read(f"include/{include}.lua"), f"include/{include}.lua").get(record)
    if found is None:
        raise LuaSourceError(f"include/{include}.lua: record {record} is not declared")
    return tuple(field.removesuffix(REST) for field in found)


def writer(include: str, record: str, *names: str) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Makes a function that brings values, given in the order of `names`, into the order of the record.

    Raises:
        LuaSourceError: the record has other fields, or is not declared.
    """
    fields = fields_of(include, record)
    if sorted(fields) != sorted(names):
        raise LuaSourceError(f"include/{include}.lua: record {record} has the fields {', '.join(fields)}")
    return itemgetter(*map(names.index, fields))


def reader(include: str, record: str, *names: str) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Makes a function that takes the fields `names`, two at least, from a list with the layout of the record.

    Raises:
        LuaSourceError: the record has no such field, or is not declared.
    """
    return itemgetter(*(index_of(include, record, name) for name in names))


def index_of(include: str, record: str, name: str) -> int:
    """Where a field stands in a list with the layout of the record, from 0.

    Raises:
        LuaSourceError: the record has no such field, or is not declared.
    """
    fields = fields_of(include, record)
    if name not in fields:
        raise LuaSourceError(f"include/{include}.lua: record {record} has no field {name}; it has {', '.join(fields)}")
    return fields.index(name)


def declarations(text: str, name: str) -> dict[str, tuple[str, ...]]:
    """The records that a file declares, by name their fields as they are written.

    Raises:
        LuaSourceError: a record is declared twice, or has a field twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for match in _DECLARATION.finditer(text):
        record, fields = match[1] or match[2], tuple(match[3].split())
        if record in found:
            raise LuaSourceError(f"{_place(name, text, match.start())}: record {record} is declared twice")
        if len({field.removesuffix(REST) for field in fields}) < len(fields):
            raise LuaSourceError(f"{_place(name, text, match.start())}: record {record} has a field twice")
        found[record] = fields
    return found


def substitute(text: str, records: Mapping[str, tuple[str, ...]], name: str = "script") -> tuple[str, dict[str, str]]:
    """A file with its fields as indexes; and where it first uses each record.

    Args:
        text: Lua code; comments and texts in it stay as they are.
        records: what may be used, by name the fields.
        name: the file, for errors.

    Raises:
        LuaSourceError: a record has no such field, or the arguments have no names.
    """
    used: dict[str, str] = {}

    def index(match: re.Match[str]) -> str:
        variable, field = match[1], match[2]
        record = _record_of(variable, records) if variable else None
        place = _place(name, text, match.start()) if record or variable == ARGUMENTS else ""
        if record is None:
            if place:
                raise LuaSourceError(f"{place}: the head of {name} declares no arguments: `-- ARGV name ...`")
            return match[0]
        used.setdefault(record, place)
        fields = records[record]
        if field in fields:
            return f"{variable}[{fields.index(field) + 1}]"
        if field + REST in fields:
            return str(fields.index(field + REST) + 1)
        raise LuaSourceError(f"{place}: record {record} has no field {field}; it has {', '.join(fields)}")

    return _TOKEN.sub(index, text), used


def _record_of(variable: str, records: Mapping[str, tuple[str, ...]]) -> str | None:
    if variable in records:
        return variable
    return next((record for record in records if variable.endswith(f"_{record}")), None)


def _place(name: str, text: str, at: int) -> str:
    return f"{name}:{text.count(chr(10), 0, at) + 1}"


def _read(path: str) -> str:
    return (files("flowcraft_sdk.protocol") / "lua" / path).read_text("utf-8")


@cache
def _part(path: str) -> _Part:
    text = _read(path)
    own = declarations(text, path)
    substituted, used = substitute(text, {**_shared(), **own}, path)
    return _Part(substituted, frozenset(own), used)


@cache
def _shared() -> dict[str, tuple[str, ...]]:
    """The records of all includes: a script that uses one without its include is refused."""
    found: dict[str, tuple[str, ...]] = {}
    for file in (files("flowcraft_sdk.protocol") / "lua" / "include").iterdir():
        for record, fields in declarations(file.read_text("utf-8"), file.name).items():
            if record in found:
                raise LuaSourceError(f"include/{file.name}: record {record} is declared in another include, too")
            found[record] = fields
    return found
