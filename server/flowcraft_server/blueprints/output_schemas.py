"""JSON Schemas of Python types, as values of them are stored: what `check` knows of the outputs of handlers. Pure."""

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from flowcraft_sdk.node import NodeResult

Schema = Mapping[str, Any]

ANYTHING: Schema = {}
_LISTS = (list, tuple, set, frozenset)
_SCALARS: tuple[tuple[type, str], ...] = (
    (bool, "boolean"), (int, "integer"), (float, "number"), (Decimal, "number"), (str, "string"), (datetime, "string"),
    (date, "string"), (time, "string"), (timedelta, "string"), (UUID, "string"), (bytes, "string"),
)  # fmt: skip
"""By the first that a type is a subclass of."""
_WRAPPERS = ("Annotated", "Required", "NotRequired", "ReadOnly", "Final", "ClassVar")
"""What says something of a type, in `typing` and in `typing_extensions`."""
_MOST_TYPES = 500


def schema_of(kind: Any) -> Schema:
    """What is known of the values of a type; `ANYTHING` where that is nothing.

    Objects whose keys are all known have `additionalProperties: false`. A class with subclasses is open, as an instance of one of
    them may stand in its place.
    """
    schemas = _Schemas()
    found = schemas.of(kind)
    return {**found, "$defs": schemas.parts} if schemas.parts else found


class _Schemas:
    def __init__(self) -> None:
        self.parts: dict[str, Schema] = {}
        self._names: dict[type, str] = {}

    def of(self, kind: Any) -> Schema:
        """The schema of a type; classes with fields are put aside and referred to, as they may hold themselves."""
        while True:
            origin = typing.get_origin(kind)
            if getattr(origin, "_name", getattr(origin, "__name__", "")) in _WRAPPERS and not _is_class(origin):
                if any(type(each).__name__.endswith("Serializer") for each in typing.get_args(kind)[1:]):
                    return ANYTHING  # pydantic stores what this makes of it
                kind = typing.get_args(kind)[0]
            elif isinstance(kind, typing.NewType):
                kind = kind.__supertype__
            elif type(kind).__name__ == "TypeAliasType":
                kind = kind.__value__
            else:
                break
        if kind is None or kind is type(None):
            return {"type": "null"}
        if origin is typing.Union or origin is types.UnionType:
            return {"anyOf": [self.of(each) for each in typing.get_args(kind)]}
        if origin is typing.Literal:
            return {"anyOf": [self.of(type(each)) for each in typing.get_args(kind)]}
        base = origin if origin is not None else kind
        return self._of_class(base, typing.get_args(kind)) if isinstance(base, type) else ANYTHING

    def _of_class(self, kind: type, arguments: tuple[Any, ...]) -> Schema:
        if issubclass(kind, NodeResult):
            return ANYTHING
        if issubclass(kind, Enum):
            return {"anyOf": [self.of(type(each.value)) for each in kind]} if len(kind) else ANYTHING
        for scalar, name in _SCALARS:
            if issubclass(kind, scalar):
                return {"type": name}
        if _is_typed_dict(kind):
            return self._reference(kind)
        if issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind):
            return self._reference(kind) if not issubclass(kind, (dict, *_LISTS)) else ANYTHING
        if issubclass(kind, _LISTS):
            items = arguments[0] if arguments and kind in (list, set, frozenset) else None
            if kind is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
                items = arguments[0]
            return {"type": "array"} if items is None else {"type": "array", "items": self.of(items)}
        if kind is dict or kind.__module__ == "collections.abc":
            if kind is not dict and not issubclass(kind, Mapping):
                return ANYTHING
            return {"type": "object", "additionalProperties": self.of(arguments[1]) if len(arguments) == 2 else True}
        return ANYTHING

    def _reference(self, kind: type) -> Schema:
        if kind not in self._names:
            if len(self._names) == _MOST_TYPES:
                return ANYTHING
            self._names[kind] = name = f"{len(self._names)}"
            self.parts[name] = ANYTHING  # while it is looked at
            self.parts[name] = self._fields(kind)
        return {"$ref": f"#/$defs/{self._names[kind]}"}

    def _fields(self, kind: type) -> Schema:
        if issubclass(kind, BaseModel):
            return self._of_model(kind)
        try:
            hints = typing.get_type_hints(kind, include_extras=True)
        except Exception:
            return ANYTHING
        if dataclasses.is_dataclass(kind):
            names: Iterable[str] = [field.name for field in dataclasses.fields(kind)]
        else:
            names = hints
        extra = getattr(kind, "__extra_items__", None)
        is_open = extra is not None and "NoExtraItems" not in f"{type(extra).__name__} {extra!r}"
        return self._object({name: hints.get(name, Any) for name in names}, is_open=is_open or _has_subclasses(kind))

    def _of_model(self, kind: type[BaseModel]) -> Schema:
        marks = kind.__pydantic_decorators__
        if marks.model_serializers or kind.model_dump is not BaseModel.model_dump:
            return ANYTHING
        if kind.__pydantic_root_model__:
            return self.of(kind.model_fields["root"].annotation)
        made = {name for each in marks.field_serializers.values() for name in each.info.fields}
        fields: dict[str, Any] = {}
        for name, field in kind.model_fields.items():
            serialized = (
                name in made or "*" in made or any(type(m).__name__.endswith("Serializer") for m in field.metadata)
            )
            shown = field.serialization_alias if kind.model_config.get("serialize_by_alias") else None
            if not field.exclude:
                fields[shown or name] = Any if serialized else field.annotation
        fields.update(dict.fromkeys(kind.model_computed_fields, Any))
        return self._object(fields, is_open=kind.model_config.get("extra") == "allow" or _has_subclasses(kind))

    def _object(self, fields: Mapping[str, Any], *, is_open: bool) -> Schema:
        properties = {name: self.of(each) for name, each in fields.items()}
        return {"type": "object", "properties": properties, "additionalProperties": is_open}


def _is_class(origin: Any) -> bool:
    return isinstance(origin, type) and origin is not typing.Annotated


def _is_typed_dict(kind: type) -> bool:
    return issubclass(kind, dict) and hasattr(kind, "__total__")


def _has_subclasses(kind: type) -> bool:
    return not _is_typed_dict(kind) and bool(kind.__subclasses__())
