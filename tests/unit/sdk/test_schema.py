"""Answers against the schema of a waiting node."""

import re
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from flowcraft_sdk import ConfigurationError
from flowcraft_sdk.protocol.misfits import misfits_line
from flowcraft_sdk.protocol.payload_schema import MOST_MISFITS, schema_misfits, unusable_pattern


@pytest.mark.parametrize(
    ("payload", "schema", "message"),
    [
        ({"n": 1}, {"type": "object"}, []),
        ([], {"type": "array", "items": {"type": "string"}}, []),
        (Decimal("1.5"), {"type": "number", "minimum": 1}, []),
        ({}, {"$defs": {"name": {"type": "string"}}, "$ref": "#/$defs/name"}, [(("payload",), "type")]),
        ({"a": {"b": [1, "x"]}}, {"properties": {"a": {"properties": {"b": {"items": {"type": "integer"}}}}}},
         [(("payload", "a", "b", 1), "type")]),
        ({}, {"required": ["x", "y"]}, [(("payload", "x"), "required"), (("payload", "y"), "required")]),
    ],
)  # fmt: skip
def test_what_does_not_fit(payload: Any, schema: Any, message: list[Any]) -> None:
    assert [(error["loc"], error["type"]) for error in schema_misfits(payload, schema)] == message


@pytest.mark.parametrize(
    ("payload", "schema", "reported"),
    [
        (7, {"type": "string"}, "payload: expected string, got 7"),
        (None, {"type": ["object", "array"]}, "payload: expected object or array, got null"),
        ({"by": True}, {"properties": {"by": {"type": "string"}}}, "payload.by: expected string, got true"),
        ({}, {"required": ["x"], "properties": {"x": {"type": "integer"}}}, "payload.x: is missing, expected integer"),
        (
            {"nmae": 1},
            {"properties": {"name": {}}, "additionalProperties": False},
            "payload.nmae: is no key that is expected here; did you mean 'name'?",
        ),
        ([["a\u202e"]], {"items": {"items": {"maxLength": 1}}}, 'payload[0][0]: expected a text of at most 1 character, got "a\\u202e"'),
        ("q" * 500, {"enum": ["a", None]}, 'payload: expected "a" or null, got "' + "q" * 58 + "…"),
        (5, {"anyOf": [{"type": "string"}, {"const": None}]}, "payload: expected string or null, got 5"),
        (5, False, "payload: no value is allowed here, got 5"),
        ("abc", {"pattern": "^x"}, 'payload: expected a text that matches "^x", got "abc"'),
    ],
)  # fmt: skip
def test_misfits_say_what_was_expected_and_what_was_found_as_json(payload: Any, schema: Any, reported: str) -> None:
    assert misfits_line(schema_misfits(payload, schema)) == reported


@pytest.mark.parametrize(
    ("keyword", "wanted", "payload"),
    [
        ("minimum", 3, 1), ("maximum", 3, 5), ("exclusiveMinimum", 3, 3), ("exclusiveMaximum", 3, 3), ("multipleOf", 2, 3),
        ("minLength", 2, "a"), ("minItems", 2, []), ("maxItems", 0, [None]), ("uniqueItems", True, [True, True]),
        ("contains", {"type": "string"}, [None]), ("minProperties", 1, {}), ("maxProperties", 0, {"a": None}),
        ("not", {}, None), ("unevaluatedProperties", False, {"a": None}), ("items", False, [None]), ("const", [True], False),
        ("oneOf", [{}, {}], None), ("dependentRequired", {"a": ["b"]}, {"a": None}), ("propertyNames", {"maxLength": 0}, {"a": 1}),
    ],
)  # fmt: skip
def test_no_keyword_is_reported_in_python_s_forms(keyword: str, wanted: Any, payload: Any) -> None:
    reported = misfits_line(schema_misfits(payload, {keyword: wanted}))
    assert reported.startswith("payload")
    assert not re.search(r"None|True|False|is not of type|is not valid under|'[a-z]+' is a required", reported), (
        reported
    )


@pytest.mark.parametrize(
    ("payload", "fits"),
    [
        ([1, 1.0], False), ([1, True], True), ([0, False], True), ([[1], [True]], True), ([{"a": 1}, {"a": 1.0}], False),
        ([{"a": 1}, {"a": True}], True), ([{"a": [1], "b": 2}, {"b": 2, "a": [1]}], False), ([{}, []], True), ([None, None], False),
        (["1", 1], True), ([[], []], False), ("aa", True), ([], True),
    ],
)  # fmt: skip
def test_equal_items_are_those_that_are_equal_in_json(payload: Any, fits: bool) -> None:
    assert (schema_misfits(payload, {"uniqueItems": True}) == []) is fits
    assert schema_misfits(payload, {"uniqueItems": False}) == []


def test_items_are_compared_in_linear_time() -> None:
    """Each with each would take hours, while the API serves nobody else."""
    assert schema_misfits([{"number": number} for number in range(100_000)], {"uniqueItems": True}) == []


def test_there_is_an_end_to_what_is_published() -> None:
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


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "pattern": "(a+)+$"}, "a" * 5_000, "a" * 5_000 + "!"),
        ({"patternProperties": {"^(x+)+$": {"type": "integer"}}}, {"xx": 1, "y": "t"}, {"xx": "t"}),
        (
            {"properties": {"a": {}}, "patternProperties": {"^x": {}}, "additionalProperties": False},
            {"a": 1, "x1": 2},
            {"b": 1},
        ),
        (
            {"patternProperties": {"^x": {}}, "additionalProperties": {"type": "integer"}},
            {"x": "t", "b": 1},
            {"b": "t"},
        ),
    ],
)
def test_patterns_are_searched_for_in_linear_time(schema: Any, good: Any, bad: Any) -> None:
    assert schema_misfits(good, schema) == []
    assert schema_misfits(bad, schema)


def test_a_pattern_that_needs_going_back_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        schema_misfits("aa", {"pattern": r"(a)\1"})
    assert "cannot be used" in str(unusable_pattern({"properties": {"x": {"pattern": "(?=a)"}}}))
    assert unusable_pattern({"properties": {"pattern": {"type": "string", "pattern": "^a"}}}) is None


class _NoEngine:
    """Stands for `re` in jsonschema: it goes back and tries again, so only the specification's own patterns may reach it."""

    @staticmethod
    def search(pattern: str, text: str) -> Any:
        assert LATIN not in pattern, "a user's pattern was searched for"
        return re.search(pattern, text)


@pytest.fixture
def _no_backtracking(monkeypatch: pytest.MonkeyPatch) -> None:
    from jsonschema import _keywords, _legacy_keywords, _utils

    for module in (_keywords, _legacy_keywords, _utils):
        assert module.re is re
        monkeypatch.setattr(module, "re", _NoEngine())


LATIN = "^(a+)+$"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.usefixtures("_no_backtracking")
@pytest.mark.parametrize("dialect", [None, DRAFT_7, DRAFT_2019, DRAFT_2020])
@pytest.mark.parametrize(
    "part",
    [
        {"pattern": LATIN},
        {"patternProperties": {LATIN: {"type": "integer"}}, "additionalProperties": False},
        {"additionalProperties": {"type": "integer"}, "patternProperties": {LATIN: False}},
        {"propertyNames": {"pattern": LATIN}},
        {"unevaluatedProperties": False, "properties": {"aa": {}}},
        {"contains": {"pattern": LATIN}},
        {"not": {"pattern": LATIN}},
    ],
    ids=lambda part: ",".join(part),
)
@pytest.mark.parametrize("payload", ["aa", {"aa": 1, "b": 2}, ["aa", "b"]], ids=["text", "object", "list"])
def test_no_keyword_and_no_dialect_searches_with_an_engine_that_goes_back(
    dialect: Any, part: Any, payload: Any
) -> None:
    nested = part if dialect is None else {**part, "$schema": dialect, "$id": "urn:part"}
    outer = {} if dialect is None else {"$schema": dialect}
    for schema in (
        {**part, **outer},
        {"allOf": [nested]},
        {"$ref": "#/$defs/part", "$defs": {"part": nested}},
        {"if": nested, "then": {}, "else": {"properties": {"aa": nested}}},
        {"items": nested},
    ):
        schema_misfits(payload, schema)


BOTH = [
    {"patternProperties": {LATIN: True}, "unevaluatedProperties": False},
    {"allOf": [{"patternProperties": {LATIN: True}}], "unevaluatedProperties": False},
    {"$defs": {"a": {"patternProperties": {LATIN: True}}}, "$ref": "#/$defs/a", "unevaluatedProperties": {}},
    {"properties": {"x": {"anyOf": [{"patternProperties": {LATIN: True}, "unevaluatedProperties": False}]}}},
]


@pytest.mark.usefixtures("_no_backtracking")
@pytest.mark.parametrize("schema", BOTH)
def test_patterns_beside_unevaluated_properties_are_searched_for_in_linear_time(schema: Any) -> None:
    assert unusable_pattern(schema) is None
    inner = "properties" in schema
    for name, fits in (("aaa", True), ("a" * 40 + "!", schema.get("unevaluatedProperties") == {})):
        payload = {"x": {name: 1}} if inner else {name: 1}
        found = schema_misfits(payload, schema)
        assert bool(found) is not fits, found


SUBSCHEMAS = st.sampled_from([True, False, {"type": "integer"}, {"type": "string"}, {"const": 1}])
NAMED = st.dictionaries(st.sampled_from(["a", "b", "ab"]), SUBSCHEMAS, max_size=2)
OBJECTS: Any = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "properties": NAMED,
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$", "c"]), SUBSCHEMAS, max_size=2),
            "additionalProperties": SUBSCHEMAS,
            "unevaluatedProperties": SUBSCHEMAS,
        },
    ),
    lambda part: st.fixed_dictionaries(
        {"unevaluatedProperties": SUBSCHEMAS},
        optional={
            "properties": NAMED,
            **{name: st.lists(part, min_size=1, max_size=2) for name in ("allOf", "anyOf", "oneOf")},
            **dict.fromkeys(("if", "then", "else", "not"), part),
            "dependentSchemas": st.dictionaries(st.sampled_from(["a", "b"]), part, max_size=1),
        },
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=300)
@given(OBJECTS, st.dictionaries(st.sampled_from(["a", "b", "ab", "c", "d"]), st.sampled_from([1, 2, "x"]), max_size=4))
def test_what_is_unevaluated_is_that_of_jsonschema(schema: Any, payload: Any) -> None:
    assert bool(schema_misfits(payload, schema)) is not Draft202012Validator(schema).is_valid(payload)


def test_a_reference_evaluates_what_it_refers_to() -> None:
    schema = {
        "$defs": {"a": {"patternProperties": {"^x": {"type": "integer"}}}},
        "$ref": "#/$defs/a",
        "unevaluatedProperties": False,
    }
    assert schema_misfits({"x1": 1}, schema) == []
    (misfit,) = schema_misfits({"x1": 1, "y": 1}, schema)
    assert "without further keys" in misfit["msg"]


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"patternProperties": {"type": "object"}}, "unevaluatedProperties": False},
        {"properties": {"unevaluatedProperties": {"type": "object"}}, "patternProperties": {"^x": {}}},
        {"$defs": {"patternProperties": {"type": "object"}}, "unevaluatedProperties": False},
    ],
)
def test_properties_that_are_named_like_keywords_are_no_keywords(schema: Any) -> None:
    assert unusable_pattern(schema) is None
    assert schema_misfits({}, schema) == []


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
@pytest.mark.parametrize("more", [{}, {"unevaluatedProperties": False}])
def test_a_few_lines_that_refer_to_each_other_take_no_time_without_end(keyword: str, more: dict[str, Any]) -> None:
    parts = {f"d{depth}": {keyword: [{"$ref": f"#/$defs/d{depth + 1}"}] * 10} for depth in range(12)}
    schema = {
        "$defs": {**parts, "d12": {"type": "object" if keyword == "allOf" else "integer"}},
        "$ref": "#/$defs/d0",
        **more,
    }
    with pytest.raises(ConfigurationError, match="cannot be used: it refers to its parts again and again"):
        schema_misfits({"a": 1}, schema)


def test_references_are_followed_for_each_of_many_values() -> None:
    schema = {"$defs": {"name": {"type": "string"}}, "items": {"$ref": "#/$defs/name"}}
    assert schema_misfits(["a"] * 20_000, schema) == []
