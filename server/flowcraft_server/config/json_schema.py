"""The JSON Schema of `flowcraft.yaml`, for editors: made from the classes of its sections.

It says less than loading the file: what one value has to do with another is left to `check`.
"""

import re
from copy import deepcopy
from typing import Any

from pydantic import BaseModel

from flowcraft_server.blueprints.json_schema import DIALECT, DURATION_PATTERN

from .model import Settings
from .sections import Section

Schema = dict[str, Any]

_VARIABLE: Schema = {"type": "string", "pattern": r"\$\{"}
"""What a variable of the environment fills in is known when the file is loaded."""

_SIZE = r"^\s*\d+(\.\d+)?\s*([KMG]i?B|B)\s*$"
_RATE = r"^\s*\d+(\.\d+)?\s*/\s*[smhd]\s*$"
_SPECIAL: dict[str, Schema] = {
    "duration": {"type": "string", "pattern": DURATION_PATTERN},
    "size": {"type": "string", "pattern": _SIZE},
    "rate": {"type": "string", "pattern": _RATE},
}
_BOUNDS = ("gt", "ge", "lt", "le", "default", "title", "discriminator")


def config_schema() -> Schema:
    """The JSON Schema of `flowcraft.yaml`."""
    whole = Settings.model_json_schema(by_alias=True)
    definitions = whole.pop("$defs")
    sections = {section.__name__: section for section in _sections(Section)}
    sections[Settings.__name__] = Settings
    top = _section(whole, Settings)
    made = {name: _section(schema, sections[name]) for name, schema in definitions.items()}
    partial = {f"Partial{name}": _partial(schema) for name, schema in made.items()}
    profile = _partial(top)
    profile["patternProperties"] = top["patternProperties"] = {"^x-": {}}
    profiles: Schema = {
        "description": "Sections that are laid over the rest when `--profile NAME` or FLOWCRAFT_PROFILE names them.",
        "anyOf": [{"type": "object", "additionalProperties": {"anyOf": [profile, {"type": "null"}]}}, {"type": "null"}],
    }
    top["properties"] = {**top["properties"], "profiles": profiles}
    return {"$schema": DIALECT, "title": "flowcraft.yaml", **top, "$defs": {**made, **partial}}


def _sections(section: type[BaseModel]) -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []
    for below in section.__subclasses__():
        found += [below, *_sections(below)]
    return found


def _section(schema: Schema, section: type[BaseModel]) -> Schema:
    """What may stand for a section: a mapping of its keys, or a bare value if it has a short form."""
    about, described = described_by(section)
    properties = {}
    for name, field in section.model_fields.items():
        key = field.alias or name
        value = _value(schema["properties"][key], repr(field.annotation) + repr(field.metadata))
        if name == "queues":
            value = {"anyOf": [value, {"type": "string"}]}
        properties[key] = {"description": described[name], **value} if name in described else value
    kept = {key: value for key, value in schema.items() if key in ("type", "required", "additionalProperties")}
    made: Schema = {"description": about, **kept, "properties": properties}
    short = getattr(section, "short_form", None)
    if section is Settings:
        return made
    options = [made, {"type": "null"}, *([properties[short]] if short is not None else [])]
    return {"description": about, "anyOf": options}


def _value(schema: Any, written: str) -> Schema:
    """What may stand for a value: it, or text that variables fill in."""
    kind = next((kind for kind in _SPECIAL if f"_{kind}" in written), "")
    made = _walked(schema, kind)
    if "_no_limit" in written:
        made = {"anyOf": [made, {"const": "forever"}]}
    return {"anyOf": [*made["anyOf"], _VARIABLE]} if "anyOf" in made else {"anyOf": [made, _VARIABLE]}


def _walked(schema: Any, kind: str) -> Schema:
    if schema.get("type") in ("number", "integer") and kind:
        return _SPECIAL[kind]
    made: Schema = {}
    for key, value in schema.items():
        if key in _BOUNDS:
            continue
        if key in ("anyOf", "oneOf"):  # which one is meant is seen by what is in it
            made["anyOf"] = [_walked(option, kind) for option in value]
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            inner = _walked(value, kind)
            made[key] = {"anyOf": [inner, _VARIABLE]} if inner else inner
        else:
            made[key] = value
    if made.get("type") == "boolean":
        return {"anyOf": [made, {"enum": ["on", "off", "yes", "no"]}]}
    return made


def _partial(schema: Schema) -> Schema:
    """The same for a profile, which may set some keys of what the file has set already."""
    made: Any = deepcopy(schema)

    def change(value: Any) -> Any:
        if isinstance(value, list):
            return [change(item) for item in value]
        if not isinstance(value, dict):
            return value
        changed = {key: change(item) for key, item in value.items() if key != "required" or not isinstance(item, list)}
        reference = changed.get("$ref")
        if isinstance(reference, str):
            changed["$ref"] = reference.replace("#/$defs/", "#/$defs/Partial")
        return changed

    partial: Schema = change(made)
    return partial


def described_by(section: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """What the docstring of a section says of it, and of each of its attributes."""
    head, _, rest = (section.__doc__ or "").partition("Attributes:")
    found: dict[str, str] = {}
    for name, text in re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", rest, re.MULTILINE):
        found[name] = " ".join(text.split())
    return " ".join(head.split()), found
