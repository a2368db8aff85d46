"""Reads what a run is started with and what it returns: `inputs` and `outputs` of a blueprint."""

from collections.abc import Collection, Mapping
from typing import Any

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk._config.yaml_tree import Entry, Fields, Items, Scalar, Tree, kind_of
from flowcraft_sdk.protocol.misfits import choices, expected, found
from flowcraft_sdk.protocol.sources import VALUE, Source
from flowcraft_server.blueprints.loading.keys import CONTRACT_KEYS
from flowcraft_server.blueprints.loading.load_context import LoadContext

INPUT_TYPES = ("string", "number", "integer", "boolean", "object", "array", "any", "list")
_PYTHON_NAMES = {
    "str": "string", "text": "string", "int": "integer", "float": "number", "decimal": "number", "double": "number",
    "bool": "boolean", "dict": "object", "mapping": "object", "map": "object", "json": "any", "tuple": "array", "set": "array",
}  # fmt: skip
"""Types as other languages call them."""
_PYTHON: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "list": (list,),
}


def fits(value: Any, kind: str) -> bool:
    """Whether a JSON value is of one of `INPUT_TYPES`."""
    if kind == "any":
        return True
    return isinstance(value, _PYTHON[kind]) and (kind == "boolean" or not isinstance(value, bool))


def required_inputs(contract: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names that a run cannot begin without."""
    return [name for name, rule in contract.items() if "default" not in rule and rule.get("required", True)]


def read_contract(
    reading: LoadContext, tree: Tree, path: Path = ("inputs",), known: Collection[str] = CONTRACT_KEYS
) -> dict[str, dict[str, Any]]:
    """What a run is started with, or what its handlers write, by name: `name: type`, `name: {type, ...}` or a list of names.

    Args:
        known: further keys that a name may have.
    """
    reading.positions.put(path, tree.position)
    if isinstance(tree, Items):
        return {name: {"type": "any"} for name, _ in reading.texts(tree, path, "a name")}
    contract = {}
    for name, entry in reading.any_fields(tree, path, "names to types").items():
        reading.positions.put((*path, name), entry.value.position, entry.key_position)
        if name.startswith("_") or not name.strip():
            reading.error(
                entry.key_position, (*path, name), "names that are empty or begin with _ are the engine's own"
            )
            continue
        contract[name] = _read_input(reading, entry.value, (*path, name), known)
    return contract


def _read_input(reading: LoadContext, tree: Tree, path: Path, known: Collection[str]) -> dict[str, Any]:
    if not isinstance(tree, Fields):
        return {"type": "any" if _is_nothing(tree) else _type(reading, tree, path)}
    entries = reading.fields(tree, path, known)
    kind = _type(reading, entries["type"].value, (*path, "type")) if "type" in entries else "any"
    rule: dict[str, Any] = {"type": kind}
    if not tree.entries.keys() <= set(known) and "required" in known and not entries.keys() & {"default", "required"}:
        rule["required"] = (
            False  # an unknown key may stand for a default: that the input is missing would follow from it
        )
    if "default" in tree.entries and "default" in known:  # null is a default like any other
        rule["default"] = _checked_default(reading, tree.entries["default"], rule["type"], (*path, "default"))
    if "required" in entries:
        rule["required"] = _flag(reading, entries["required"].value, (*path, "required"))
    if "description" in entries:
        rule["description"] = reading.text(entries["description"].value, (*path, "description"))
    if "enum" in entries:
        rule["enum"] = _allowed(reading, entries["enum"].value, rule["type"], (*path, "enum"))
    if rule.get("default") is not None and rule.get("enum") and rule["default"] not in rule["enum"]:
        position = tree.entries["default"].value.position
        message = f"{found(rule['default'])} is not one of the allowed values: {choices(rule['enum'])}"
        reading.error(position, (*path, "default"), message)
    if rule.get("required") is True and "default" in rule:
        reading.error(tree.position, path, "is required and has a default; one of them cannot be meant")
    return {name: value for name, value in rule.items() if value is not None or name == "default"}


def _type(reading: LoadContext, tree: Tree, path: Path) -> str:
    other = _PYTHON_NAMES.get(tree.text.lower()) if isinstance(tree, Scalar) else None
    if isinstance(tree, Scalar) and other is not None:
        known = ", ".join(INPUT_TYPES)
        reading.error(tree.position, path, f"expected one of {known}, got '{tree.text}'; did you mean '{other}'?")
        return other
    return reading.choice(tree, path, INPUT_TYPES) or "any"


def _checked_default(reading: LoadContext, entry: Entry, kind: str, path: Path) -> Any:
    value = reading.data(entry.value, path)
    if value is not None and not fits(value, kind):
        reading.error(entry.value.position, path, expected(kind, value))
    return value


def _allowed(reading: LoadContext, tree: Tree, kind: str, path: Path) -> list[Any] | None:
    if not isinstance(tree, Items) or not tree.items:
        reading.error(tree.position, path, f"expected a list of allowed values; got {kind_of(tree)}")
        return None
    values = []
    for index, item in enumerate(tree.items):
        value = reading.data(item, (*path, index))
        if not fits(value, kind):
            reading.error(item.position, (*path, index), expected(kind, value))
        values.append(value)
    return values


def _flag(reading: LoadContext, tree: Tree, path: Path) -> bool | None:
    if isinstance(tree, Scalar) and isinstance(tree.value, bool):
        return tree.value
    reading.error(tree.position, path, f"expected true or false; got {kind_of(tree)}")
    return None


def read_outputs(reading: LoadContext, tree: Tree, path: Path = ("outputs",)) -> dict[str, Source]:
    """What a run returns: `name: source`, or a list of names that are paths themselves."""
    reading.positions.put(path, tree.position)
    if isinstance(tree, Items):
        return {name: name for name, _ in reading.texts(tree, path, "a name")}
    outputs: dict[str, Source] = {}
    for name, entry in reading.any_fields(tree, path, "names to paths").items():
        reading.positions.keys[(*path, name)] = entry.key_position
        if (literal := read_literal(reading, entry.value, (*path, name))) is not None:
            outputs[name] = literal
            continue
        text = reading.strict_text(entry.value, (*path, name), "the path of a value")
        if text is not None:
            outputs[name] = text
    return outputs


def read_literal(reading: LoadContext, tree: Tree, path: Path) -> dict[str, Any] | None:
    """The source of a value that is written where it is used: `{value: 5}`; None if it is none."""
    if not isinstance(tree, Fields) or tree.entries.keys() != {VALUE}:
        return None
    reading.positions.put(path, tree.position)
    return {VALUE: reading.data(tree.entries[VALUE].value, (*path, VALUE))}


def _is_nothing(tree: Tree) -> bool:
    return isinstance(tree, Scalar) and tree.value is None
