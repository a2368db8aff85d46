"""Forms made of what a blueprint declares: fields for its `inputs`, and for the JSON Schema of an answer. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_FIELDS = 40
LONG_TEXT = 200
"""Texts that may be longer than this get a box of several lines."""

_SIMPLE = {"string", "number", "integer", "boolean"}


@dataclass(frozen=True)
class Field:
    """A field.

    Attributes:
        name: Key of the value; empty where the field is the whole value.
        title: What stands above it.
        kind: `string`, `long`, `number`, `integer`, `boolean`, or `json` for everything else.
        type: The type as it is declared.
        required: Whether it has to be filled in.
        default: What it has if nothing is filled in.
        choices: The values that it may have, if they are few.
        description: What stands below it.
    """

    name: str
    title: str
    kind: str
    type: str = "any"
    required: bool = False
    default: Any = None
    choices: tuple[Any, ...] = ()
    description: str = ""

    @property
    def shown(self) -> str:
        """The default as text."""
        if self.default is None:
            return ""
        return self.default if isinstance(self.default, str) else json.dumps(self.default, ensure_ascii=False)


def fields_of_inputs(inputs: Mapping[str, Mapping[str, Any]] | None) -> tuple[Field, ...]:
    """Fields for the `inputs` of a blueprint."""
    found = []
    for name, rule in (inputs or {}).items():
        kind = str(rule.get("type", "any"))
        found.append(
            Field(
                name=name,
                title=name,
                kind=_kind(kind, {}),
                type=kind,
                required="default" not in rule and rule.get("required", True) is not False,
                default=rule.get("default"),
                choices=_choices(rule),
                description=str(rule.get("description", "")),
            )
        )
    return tuple(found)


def fields_of_schema(schema: Any) -> tuple[Field, ...]:
    """Fields for a JSON Schema: one for each property of an object, one in all for anything else."""
    if not isinstance(schema, Mapping):
        return (Field("", "Answer", "json"),)
    properties = schema.get("properties")
    if (
        schema.get("type", "object") == "object"
        and isinstance(properties, Mapping)
        and 0 < len(properties) <= MOST_FIELDS
    ):
        required = schema.get("required")
        names = set(required) if isinstance(required, list) else set()
        return tuple(_field(str(name), rule, name in names) for name, rule in properties.items())
    return (_field("", schema, True),)


def _field(name: str, rule: Any, required: bool) -> Field:
    rule = rule if isinstance(rule, Mapping) else {}
    kind = rule.get("type")
    kind = kind if isinstance(kind, str) else "any"
    return Field(
        name=name,
        title=str(rule.get("title") or name or "Answer"),
        kind=_kind(kind, rule),
        type=kind,
        required=required and kind != "boolean",
        default=rule.get("default"),
        choices=_choices(rule),
        description=str(rule.get("description", "")),
    )


def _kind(kind: str, rule: Mapping[str, Any]) -> str:
    if kind not in _SIMPLE:
        return "json"
    longest = rule.get("maxLength")
    return "long" if kind == "string" and isinstance(longest, int) and longest > LONG_TEXT else kind


def _choices(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    values = rule.get("enum")
    return tuple(values) if isinstance(values, list | tuple) and len(values) <= MOST_FIELDS else ()
