"""Answers against the schema of a waiting node."""

import sys
from decimal import Decimal
from typing import Any

import pytest

from flowcraft_sdk import ConfigurationError
from flowcraft_sdk.payload_schema import MOST_MISFITS, schema_misfits


@pytest.mark.parametrize(
    ("payload", "schema", "said"),
    [
        ({"n": 1}, {"type": "object"}, []),
        ([], {"type": "array", "items": {"type": "string"}}, []),
        (Decimal("1.5"), {"type": "number", "minimum": 1}, []),
        ({}, {"$defs": {"name": {"type": "string"}}, "$ref": "#/$defs/name"}, [(("payload",), "type")]),
        ({"a": {"b": [1, "x"]}}, {"properties": {"a": {"properties": {"b": {"items": {"type": "integer"}}}}}},
         [(("payload", "a", "b", 1), "type")]),
        ({}, {"required": ["x", "y"]}, [(("payload",), "required"), (("payload",), "required")]),
    ],
)  # fmt: skip
def test_what_does_not_fit(payload: Any, schema: Any, said: list[Any]) -> None:
    assert [(error["loc"], error["type"]) for error in schema_misfits(payload, schema)] == said


def test_there_is_an_end_to_what_is_said() -> None:
    found = schema_misfits(["x" * 1000] * 100, {"items": {"type": "integer"}})
    assert len(found) == MOST_MISFITS
    assert all(len(error["msg"]) <= 300 for error in found)


@pytest.mark.parametrize("schema", [{"$ref": "http://localhost:1/schema.json"}, {"$ref": "file:///etc/hostname"}])
def test_nothing_is_fetched(schema: Any) -> None:
    with pytest.raises(ConfigurationError, match="the schema of the waiting node cannot be used"):
        schema_misfits(1, schema)


@pytest.mark.parametrize("schema", [{"type": "objekt"}, [], 3])
def test_a_schema_that_is_none(schema: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        schema_misfits(1, schema)


def test_without_the_package_nothing_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'flowcraft-sdk\[schema\]'"):
        schema_misfits(1, {"type": "integer"})
