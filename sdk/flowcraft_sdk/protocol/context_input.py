"""What `start` is given: run ids, start contexts, tags, and whether a context fits the blueprint's `inputs`."""

import base64
import dataclasses
import difflib
import hashlib
import json
import re
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any

from flowcraft_sdk.errors import ConfigurationError, InvalidInputError, SerializationError
from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.bounds import (
    LONGEST_PATH,
    LONGEST_TAG,
    MOST_KEYS,
    MOST_TAGS,
    check_key,
    check_key_count,
    check_text,
    shown,
)
from flowcraft_sdk.protocol.misfits import choices, expected, misfits_line
from flowcraft_sdk.protocol.partitions import root_of

RUN_ID = re.compile(r"[A-Za-z0-9._:-]{1,200}")
ID_BELOW = re.compile(r"[^~]{1,200}~[A-Za-z][A-Za-z0-9]{0,99}")
DIGEST_BYTES = 12
"""Of a context's fingerprint. It shows a mistake, an id that is used for two inputs, and each run keeps it."""

NO_INPUT = "is no input of the blueprint"
_SIMILAR = 0.85
"""Of `difflib`'s ratio, from which on an undeclared key counts as a misspelt input."""
_SIMILAR_OF_A_MISFIT = 0.6
"""The same for a context that is refused anyway: a likely name helps, and a wrong guess costs nothing."""
_SHORTEST_SLIP = 4
"""Letters of a name from which on two that have changed places are a slip; of a wrong letter, one more."""
_LONGEST_COMPARED = 100
_MOST_MISSPELT = 10
_MOST_COMPARED, _MOST_LOOKED_FOR = 2_000, 200
"""Inputs that undeclared keys are compared with, and keys that are."""

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float, Decimal),
    "integer": (int,),
    "boolean": (bool,),
    "object": (Mapping,),
    "array": (list, tuple, set, frozenset),
    "list": (list, tuple, set, frozenset),
}


def new_run_id() -> str:
    """A run id that sorts by the time it was made: 48 bits of ms and 64 random ones, 28 characters."""
    ms = int(time.time() * 1000)
    return f"{ms:012x}{secrets.token_hex(8)}"


def id_below(parent_id: str) -> str:
    """A new run id that begins with that of the outermost parent, and so lies in its partition."""
    return f"{root_of(parent_id)}~r{new_run_id()}"


def check_run_id(run_id: str, parent_id: str | None = None) -> str:
    """The run id, if it is one. Below a parent it may be `ROOT~NAME`, with the id of the outermost run and letters and digits.

    Raises:
        ConfigurationError: it is not.
    """
    if parent_id is not None and isinstance(run_id, str) and ID_BELOW.fullmatch(run_id):
        root = root_of(parent_id)
        if root_of(run_id) != root or run_id == f"{root}~replay" or not RUN_ID.fullmatch(root):
            raise ConfigurationError(f"the id of a run below {parent_id} is {root}~NAME, got {shown(run_id)}")
        return run_id
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        why = "; ids with a ~ are given to child runs and replays" if isinstance(run_id, str) and "~" in run_id else ""
        raise ConfigurationError(f"a run id is 1 to 200 of A-Z a-z 0-9 . _ : -, got {shown(run_id)}{why}")
    return run_id


def check_tags(tags: Any) -> list[str]:
    """The tags, sorted and each once.

    Raises:
        ConfigurationError: they are no short texts, or more than `MOST_TAGS`.
    """
    if isinstance(tags, str | bytes) or not isinstance(tags, Iterable):
        raise ConfigurationError(f"tags is a list of texts, got {shown(tags)}")
    found = list(islice(tags, MOST_TAGS + 1))
    if len(found) > MOST_TAGS:
        raise ConfigurationError(f"a run has {MOST_TAGS} tags at most, got more")
    plain = [str.__str__(tag) if isinstance(tag, str) else "" for tag in found]
    for tag, own in zip(found, plain, strict=True):
        if not 1 <= len(own) <= LONGEST_TAG or not own.isprintable():
            raise ConfigurationError(f"a tag is a text of 1 to {LONGEST_TAG} printable characters, got {shown(tag)}")
    return sorted(set(plain))


def check_run_key(key: Any) -> str:
    """What a run is counted by.

    Raises:
        ConfigurationError: it is no short text.
    """
    own = str.__str__(key) if isinstance(key, str) else ""
    if not 1 <= len(own) <= LONGEST_TAG or not own.isprintable():
        raise ConfigurationError(f"key is a text of 1 to {LONGEST_TAG} printable characters, got {shown(key)}")
    return own


def check_known_run_id(run_id: Any) -> str:
    """The id of a run that exists: one that a user gave, or the id of a child run (PARENT~NUMBER).

    Raises:
        ConfigurationError: no run can have such an id.
    """
    checked = check_text(run_id, "a run id", LONGEST_PATH)
    root, *numbers = checked.split("~")
    if not RUN_ID.fullmatch(root) or not all(number.isascii() and number.isalnum() for number in numbers):
        raise ConfigurationError(
            f"no run has the id {shown(run_id)}: a run id is 1 to 200 of A-Z a-z 0-9 . _ : -, with ~NUMBER for a child run"
        )
    return checked


def as_context(ctx: Any) -> dict[str, Any]:
    """A start context as a dict: None, a mapping, a dataclass or a pydantic model.

    Raises:
        SerializationError: it is something else, or a key is no text.
        ConfigurationError: there are too many keys, or one is too long.
    """
    if ctx is None:
        return {}
    fields = _fields(ctx)
    if fields is None:
        kind = type(ctx).__name__
        raise SerializationError(f"a context is a mapping, a dataclass or a pydantic model, got {kind}", "ctx")
    context: dict[str, Any] = {}
    for key in islice(fields, MOST_KEYS + 1):  # a mapping with code of its own may never end
        if not isinstance(key, str):
            raise SerializationError(f"the key {shown(key)} is no text", "ctx")
        context[check_key(key)] = fields[key]
    if len(context) > MOST_KEYS:
        check_key_count(max(len(context), len(fields)))
    return context


def _fields(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump") and hasattr(type(value), "model_fields"):
        dumped = value.model_dump()
        return dumped if isinstance(dumped, Mapping) else None
    return None


def encoded(values: Mapping[str, Any], limit: int) -> dict[str, bytes]:
    """A context as it is stored.

    Raises:
        SerializationError: a value cannot be stored.
    """
    for key in values:
        wire.dumps(key, path="ctx")  # a key that is no valid UTF-8 is refused here, not by redis-py
    return {key: wire.dumps(value, path=f"ctx.{key}", limit=limit) for key, value in values.items()}


def digest(context: Mapping[str, bytes]) -> str:
    """Fingerprint of a start context: the same for equal ones, in whatever order their keys stand."""
    canonical = {key: json.loads(value) for key, value in context.items()}
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:DIGEST_BYTES]).decode()


def check_contract(
    blueprint_id: str,
    contract: Mapping[str, Any] | None,
    values: dict[str, Any],
    declared: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The context with defaults filled in.

    Args:
        contract: the blueprint's inputs; None if it declares none.
        declared: keys that the blueprint declares besides its inputs (`context:`): they are meant as they stand.

    Raises:
        InvalidInputError: something is missing, has another type, or is misspelt.
    """
    filled, errors = fill_contract(contract or {}, values)
    errors += declared_misfits(declared or {}, values, contract or ())
    cutoff = _SIMILAR if not errors else _SIMILAR_OF_A_MISFIT
    errors += misspelt_inputs(contract, values, declared or (), cutoff) if contract is not None else []
    if errors:
        raise InvalidInputError(f"the context does not fit blueprint '{blueprint_id}': {misfits_line(errors)}", errors)
    return filled


def with_misspelt(
    errors: list[dict[str, Any]],
    contract: Mapping[str, Any],
    values: Iterable[str],
    declared: Collection[str] = (),
) -> list[dict[str, Any]]:
    """What does not fit a contract, with misspelt inputs: one that stands under another name is not missing besides."""
    meant = _meant_inputs(contract, values, declared, _SIMILAR)
    found = {(name,) for name in meant.values()}
    rest = [error for error in errors if error["type"] != "missing" or error["loc"] not in found]
    return rest + [_misspelt(key, name) for key, name in meant.items()]


def misspelt_inputs(
    contract: Mapping[str, Any], values: Iterable[str], declared: Collection[str] = (), cutoff: float = _SIMILAR
) -> list[dict[str, Any]]:
    """Keys that are no inputs of the blueprint but look like one that is not given.

    Other keys that the blueprint does not declare are part of the context like any other. A misspelt input is not: its
    default would be used in its place, and nothing would say so.
    """
    return [_misspelt(key, name) for key, name in _meant_inputs(contract, values, declared, cutoff).items()]


def _misspelt(key: str, name: str) -> dict[str, Any]:
    message = f"{NO_INPUT}; did you mean '{name}'? Else declare it in `context:`"
    return {"loc": (key,), "type": "unexpected", "msg": message}


def _meant_inputs(
    contract: Mapping[str, Any], values: Iterable[str], declared: Collection[str], cutoff: float
) -> dict[str, str]:
    """The inputs that are probably meant by keys which are none."""
    values = dict.fromkeys(values)
    names = islice((name for name in contract if name not in values and len(name) <= _LONGEST_COMPARED), _MOST_COMPARED)
    absent = {_without_separators(name): name for name in names}
    found: dict[str, str] = {}
    unknown = (key for key in values if key not in contract and key not in declared and len(key) <= _LONGEST_COMPARED)
    for key in islice(unknown if absent else (), _MOST_LOOKED_FOR):
        plain = _without_separators(key)
        similar = difflib.get_close_matches(plain, absent, 1, cutoff)
        similar = similar or [name for name in absent if _is_one_slip_away(plain, name)]
        if similar:
            found[key] = absent[similar[0]]
            if len(found) == _MOST_MISSPELT:
                break
    return found


def _is_one_slip_away(key: str, name: str) -> bool:
    """Whether one letter is another one, or two letters have changed places; digits are no slips: `line1`, `line2`."""
    if len(key) != len(name) or len(key) < _SHORTEST_SLIP:
        return False
    differing = [(mine, theirs) for mine, theirs in zip(key, name, strict=True) if mine != theirs]
    if len(differing) == 1:
        return len(key) > _SHORTEST_SLIP and not any(char.isdigit() for char in differing[0])
    return len(differing) == 2 and differing[0] == differing[1][::-1]


def _without_separators(name: str) -> str:
    return re.sub(r"[-_\s]", "", name).lower()


def fill_contract(
    contract: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The values with defaults filled in, and all that does not fit the contract."""
    errors: list[dict[str, Any]] = []
    filled = dict(values)
    for name, rule in contract.items():
        rule = {"type": rule} if isinstance(rule, str) else rule
        if name not in filled:
            if "default" in rule:
                filled[name] = rule["default"]
            elif rule.get("required", True):
                errors.append({"loc": (name,), "type": "missing", "msg": _missing(rule)})
            continue
        wrong = misfit_of(filled[name], rule)
        if wrong:
            errors.append({"loc": (name,), "type": "misfit", "msg": wrong})
    return filled, errors


def _missing(rule: Mapping[str, Any]) -> str:
    kind = rule.get("type", "any")
    return "is missing" if kind == "any" else f"is missing, expected {kind}"


def declared_misfits(
    declared: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any], contract: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Values of keys that a blueprint declares in `context:` with another type. Null fits: the key holds nothing then.

    Args:
        contract: names of inputs, which have types of their own.
    """
    errors = []
    for name, rule in declared.items():
        wrong = misfit_of(values[name], rule) if name not in contract and values.get(name) is not None else ""
        if wrong:
            errors.append({"loc": (name,), "type": "misfit", "msg": f"{wrong} (declared in `context:`)"})
    return errors


def misfit_of(value: Any, rule: Mapping[str, Any]) -> str:
    """What is wrong with a value by the `type` and the `enum` of a rule; empty if it fits."""
    kinds = _TYPES.get(str(rule.get("type", "any")))
    value = value.value if isinstance(value, Enum) else value
    meant = _fields(value) if kinds == (Mapping,) else value
    if kinds and (not isinstance(meant, kinds) or (isinstance(meant, bool) and bool not in kinds)):
        return expected(rule["type"], value)
    if rule.get("enum") and value not in rule["enum"]:
        return expected(choices(rule["enum"]), value)
    return ""
