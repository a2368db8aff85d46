"""Prompt templates: where their values come from, and how values become text.

A template is any text with holes such as `{{ name }}`. A hole whose name has no value stays as it is written, so that
a misspelt name is seen in the prompt. Values are put in once and are never searched for holes themselves.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flowcraft_sdk.protocol.paths import beginnings, resolve, walk

_HOLE = re.compile(r"\{\{([^{}]+)\}\}")


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return `template` with each `{{ name }}` replaced by the text of `values[name]`; `{{ name.part.0 }}` reads into it."""

    def fill(hole: re.Match[str]) -> str:
        name = hole[1].strip()
        if name in values:
            return to_text(values[name])
        return to_text(resolve(values, name)) if any(key in values for key in beginnings(name)) else hole[0]

    return _HOLE.sub(fill, template)


def wanted_keys(inputs: Mapping[str, str | Sequence[str]]) -> list[str]:
    """Return every context key that `pick` may look at, each once: for one read instead of many."""
    names = [key for candidates in inputs.values() for name in _listed(candidates) for key in beginnings(name)]
    return list(dict.fromkeys(key for name in names for key in (f"_outputs.{name}", name)))


def pick(inputs: Mapping[str, str | Sequence[str]], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for each name of `inputs`.

    Args:
        inputs: per name a key or a path that begins with one (`order.customer.name`), or several of which the first that has a
            value is taken. For each key the output of the node of that name comes first, then the context key itself; null
            counts as no value.
        found: the values of `wanted_keys(inputs)`.

    Returns:
        The values; an empty text for a name without any.
    """
    return {name: _first(_listed(candidates), found) for name, candidates in inputs.items()}


def to_text(value: Any) -> str:
    """Return `value` as it appears in a prompt.

    Texts stay as they are; numbers, true and false are written as JavaScript's `String()` does (so 2.0 is "2"); null is
    the empty text; lists and objects are compact JSON; anything else (a date, a decimal) is its plain text.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number_text(value)
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_json_form)
    return str(value)


def _listed(candidates: str | Sequence[str]) -> Sequence[str]:
    return [candidates] if isinstance(candidates, str) else candidates


def _first(names: Sequence[str], found: Mapping[str, Any]) -> Any:
    for name in names:
        for beginning in beginnings(name):
            for key in (f"_outputs.{beginning}", beginning):
                value = walk(found.get(key), name[len(beginning) + 1 :])
                if value is not None:
                    return value
    return ""


def _number_text(value: float) -> str:
    """ECMAScript's Number::toString: whole numbers without a point, an exponent only from 1e21 and below 1e-6."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0)  # where the point stands in `whole + fraction`
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = f"e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return sign + (digits if count == 1 else f"{digits[0]}.{digits[1:]}") + power


def _json_form(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else to_text(value)
