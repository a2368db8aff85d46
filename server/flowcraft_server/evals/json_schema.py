"""The JSON Schema of the files of evaluations, for editors."""

from collections.abc import Collection
from copy import deepcopy
from typing import Any

from flowcraft_server.blueprints.json_schema import DIALECT, DURATION_PATTERN, blueprint_schema

from .model import LONGEST_CRITERION, MOST_CASES, MOST_CONCURRENT, MOST_REPEATS

Schema = dict[str, Any]


def eval_schema(blueprint_ids: Collection[str] = (), providers: Collection[str] = ()) -> Schema:
    """The JSON Schema of the files of a deployment's evaluations.

    Args:
        blueprint_ids: editors offer them, and others are allowed.
        providers: names of `llm.providers`, likewise.
    """
    known = blueprint_schema(None)["$defs"]
    text: Schema = {"type": "string", "minLength": 1, "maxLength": LONGEST_CRITERION}
    repeat: Schema = {
        "type": "integer", "minimum": 1, "maximum": MOST_REPEATS, "description": "How many runs there are of a case."
    }  # fmt: skip
    judge: Schema = _offered(providers, "The provider that judges; `llm.default` without one.")
    case: Schema = _closed(
        {
            "name": {
                "type": ["string", "number", "boolean"],
                "description": "By which the case is shown and compared.",
            },
            "input": {"type": "object", "description": "The start context."},
            "repeat": repeat,
            "expect": {"$ref": "#/$defs/expect"},
        }
    )
    return {
        "$schema": DIALECT,
        "title": "Flowcraft evaluation",
        **_closed(
            {
                "blueprint": _offered(blueprint_ids, "The id of a blueprint, or a blueprint file relative to this one."),
                "description": {"type": "string"},
                "repeat": repeat,
                "concurrency": {
                    "type": "integer", "minimum": 1, "maximum": MOST_CONCURRENT,
                    "description": "How many runs there are at once.",
                },
                "timeout": {"type": "string", "pattern": DURATION_PATTERN, "description": "How long a run may take."},
                "threshold": {
                    "description": "The share of runs that has to pass, as 0.9 or 90%.",
                    "anyOf": [
                        {"type": "number", "minimum": 0, "maximum": 1},
                        {"type": "string", "pattern": r"^\s*\d{1,3}(\.\d+)?\s*%\s*$"},
                    ],
                },
                "judge": {
                    "description": "The model that judges.",
                    "anyOf": [
                        judge,
                        _closed({"model": judge, "instructions": {**text, "description": "What it is to heed besides."}}),
                    ],
                },
                "expect": {"$ref": "#/$defs/expect"},
                "cases": {"type": "array", "minItems": 1, "maxItems": MOST_CASES, "items": {"$ref": "#/$defs/case"}},
            }
        ),
        "required": ["blueprint", "cases"],
        "$defs": {"case": case, "expect": _expect(known, text), "expectedError": known["expectedError"]},
    }  # fmt: skip


def _expect(known: Schema, text: Schema) -> Schema:
    """What a test case may expect, and what only evaluations do."""
    found: Schema = deepcopy(known["test"]["properties"]["expect"])
    mapping: Schema = next(each for each in found.get("anyOf", [found]) if each.get("type") == "object")
    mapping["properties"] |= {
        "schema": {"type": "object", "description": "A JSON Schema that the output fits."},
        "expression": {
            "description": "Expressions over output, outputs, context, input, status, usage and seconds that are true.",
            "anyOf": [text, {"type": "array", "items": text}],
        },
        "judge": {
            "description": "What the output has to meet, in words for the model that judges.",
            "anyOf": [text, {"type": "array", "items": text}],
        },
    }
    return found


def _offered(names: Collection[str], description: str) -> Schema:
    if not names:
        return {"type": "string", "description": description}
    return {"description": description, "anyOf": [{"enum": sorted(names)}, {"type": "string"}]}


def _closed(properties: Schema) -> Schema:
    return {
        "type": "object", "properties": properties, "patternProperties": {"^x-": {}}, "additionalProperties": False
    }  # fmt: skip
