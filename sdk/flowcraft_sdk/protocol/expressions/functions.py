"""The fixed set of pure functions that an expression may call; there is no way to add one or to call anything else."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flowcraft_sdk.protocol.expressions import arithmetic, conversions, values
from flowcraft_sdk.protocol.expressions.aggregates import extreme, join, keys, length, object_values, split, total
from flowcraft_sdk.records.counts import counted


@dataclass(frozen=True, slots=True)
class Function:
    """One function: what it does with evaluated arguments, and how many it takes (`most` None: any number)."""

    apply: Callable[..., Any]
    least: int
    most: int | None

    def takes(self, count: int) -> bool:
        """Whether it can be called with `count` arguments."""
        return count >= self.least and (self.most is None or count <= self.most)

    @property
    def arity(self) -> str:
        """The number of its arguments in words."""
        if self.most is None:
            return f"at least {counted(self.least, 'argument')}"
        numbers = str(self.least) if self.least == self.most else f"{self.least} or {self.most}"
        return f"{numbers} argument" if self.most == 1 else f"{numbers} arguments"


def _first_known(*candidates: Any) -> Any:
    return next((value for value in candidates if value is not None), None)


def _starts_with(text: Any, part: Any) -> bool:
    return type(text) is str and type(part) is str and text.startswith(part)


def _ends_with(text: Any, part: Any) -> bool:
    return type(text) is str and type(part) is str and text.endswith(part)


def _on_text(change: Callable[[str], str]) -> Callable[[Any], str | None]:
    return lambda value: change(value) if type(value) is str else None


def _any(items: Any) -> bool:
    return isinstance(items, (list, tuple)) and any(values.truthy(item) for item in items)


def _all(items: Any) -> bool:
    return isinstance(items, (list, tuple)) and all(values.truthy(item) for item in items)


FUNCTIONS: dict[str, Function] = {
    "len": Function(length, 1, 1),
    "int": Function(conversions.to_int, 1, 1),
    "float": Function(conversions.to_float, 1, 1),
    "str": Function(conversions.to_text, 1, 1),
    "bool": Function(values.truthy, 1, 1),
    "lower": Function(_on_text(str.lower), 1, 1),
    "upper": Function(_on_text(str.upper), 1, 1),
    "trim": Function(_on_text(str.strip), 1, 1),
    "contains": Function(values.contains, 2, 2),
    "startsWith": Function(_starts_with, 2, 2),
    "endsWith": Function(_ends_with, 2, 2),
    "min": Function(lambda *items: extreme(items, largest=False), 1, None),
    "max": Function(lambda *items: extreme(items, largest=True), 1, None),
    "sum": Function(total, 1, 1),
    "round": Function(arithmetic.rounded, 1, 2),
    "abs": Function(arithmetic.absolute, 1, 1),
    "keys": Function(keys, 1, 1),
    "values": Function(object_values, 1, 1),
    "join": Function(join, 2, 2),
    "split": Function(split, 2, 2),
    "default": Function(_first_known, 2, 2),
    "coalesce": Function(_first_known, 1, None),
    "exists": Function(lambda value: value is not None, 1, 1),
    "any": Function(_any, 1, 1),
    "all": Function(_all, 1, 1),
}

_INSTEAD = {
    "includes": "contains(list, value)",
    "indexOf": "contains(list, value)",
    "startswith": "startsWith(text, part)",
    "endswith": "endsWith(text, part)",
    "toLowerCase": "lower(text)",
    "toUpperCase": "upper(text)",
    "strip": "trim(text)",
    "toString": "str(value)",
    "get": 'context["key"]',
    "some": "any(list)",
    "every": "all(list)",
}


def unknown_function(name: str) -> str:
    """What to say about a call of `name`, which is none of the functions."""
    close = difflib.get_close_matches(name, FUNCTIONS, n=1) or [
        known for known in FUNCTIONS if known.lower() == name.lower()
    ]
    if name in _INSTEAD:
        return f"there is no function '{name}'; write {_INSTEAD[name]}"
    if close:
        return f"there is no function '{name}'; did you mean '{close[0]}'?"
    return f"there is no function '{name}'; there are {', '.join(sorted(FUNCTIONS))}"


def instead_of_method(step: object) -> str:
    """What to say about a call of anything but a function's name; `step` is the last step of the path to it."""
    if isinstance(step, str) and step in _INSTEAD:
        return f"values have no methods; write {_INSTEAD[step]}"
    if isinstance(step, str) and step in FUNCTIONS:
        return f"values have no methods; write {step}(...)"
    return "only functions can be called, and values have no methods"
