from typing import Any

import pytest

from flowcraft_server.ui.forms import MOST_FIELDS, Field, fields_of_inputs, fields_of_schema


def test_inputs() -> None:
    topic, depth, tone, tags = fields_of_inputs(
        {
            "topic": {"type": "string"},
            "depth": {"type": "integer", "default": 3},
            "tone": {"type": "string", "enum": ["dry", "warm"], "required": False},
            "tags": {"type": "array", "default": ["a"]},
        }
    )
    assert (topic.kind, topic.required, topic.shown) == ("string", True, "")
    assert (depth.kind, depth.required, depth.shown) == ("integer", False, "3")
    assert (tone.choices, tone.required) == (("dry", "warm"), False)
    assert (tags.kind, tags.type, tags.shown) == ("json", "array", '["a"]')
    assert fields_of_inputs(None) == ()


def test_an_object_has_a_field_for_each_property() -> None:
    comment, urgent, score = fields_of_schema(
        {
            "type": "object",
            "properties": {
                "comment": {"type": "string", "maxLength": 500, "title": "What to say", "description": "Shown"},
                "urgent": {"type": "boolean"},
                "score": {"type": ["integer", "null"]},
            },
            "required": ["comment", "urgent"],
        }
    )
    assert (comment.name, comment.title, comment.kind, comment.required) == ("comment", "What to say", "long", True)
    assert comment.description == "Shown"
    assert (urgent.kind, urgent.required) == ("boolean", False), "a box that is not ticked is an answer"
    assert (score.kind, score.type) == ("json", "any")


@pytest.mark.parametrize(
    "schema",
    [
        None, True, "text", {}, {"type": "object"}, {"type": "array", "items": {}}, {"anyOf": [{}]},
        {"properties": {f"p{number}": {} for number in range(MOST_FIELDS + 1)}}, {"properties": []},
    ],
)  # fmt: skip
def test_anything_else_is_one_field(schema: Any) -> None:
    (field,) = fields_of_schema(schema)
    assert (field.name, field.kind) == ("", "json")


@pytest.mark.parametrize(
    "rule", [None, 3, [], {"type": 3, "enum": "no list", "maxLength": "long", "title": 5, "default": {}}]
)
def test_odd_schemas_make_fields_all_the_same(rule: Any) -> None:
    (field,) = fields_of_schema({"properties": {"it": rule}, "required": "it"})
    assert isinstance(field, Field)
    assert (field.name, field.choices) == ("it", ())
