"""`-k`: chooses test cases by words in their names, joined by `and`, `or`, `not` and brackets, as pytest does."""

import re
from collections.abc import Callable

Chooses = Callable[[str], bool]

_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")
LONGEST = 1_000
"""Characters of an expression; it is read by recursion."""


def selection(expression: str) -> Chooses:
    """What an expression chooses: a function that is given a name.

    Raises:
        ValueError: it is none.
    """
    if len(expression) > LONGEST:
        raise ValueError(f"an expression has {LONGEST} characters at most")
    reader = _Reader(_TOKEN.findall(expression.strip()))
    chosen = reader.alternatives()
    if reader.rest:
        raise ValueError(f"unexpected '{reader.rest[0]}' in '{expression}'")
    return chosen


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.rest = tokens

    def alternatives(self) -> Chooses:
        found = [self._all()]
        while self.rest[:1] == ["or"]:
            self.rest.pop(0)
            found.append(self._all())
        return lambda name: any(one(name) for one in found)

    def _all(self) -> Chooses:
        found = [self._one()]
        while self.rest[:1] == ["and"]:
            self.rest.pop(0)
            found.append(self._one())
        return lambda name: all(one(name) for one in found)

    def _one(self) -> Chooses:
        first = self.rest.pop(0) if self.rest else ""
        if first == "not":
            inner = self._one()
            return lambda name: not inner(name)
        if first == "(":
            inner = self.alternatives()
            if self.rest[:1] != [")"]:
                raise ValueError("a '(' has no ')'")
            self.rest.pop(0)
            return inner
        if first in ("", ")", "and", "or"):
            raise ValueError(f"expected a word{f', got {first!r}' if first else ' at the end'}")
        word = first.casefold()
        return lambda name: word in name.casefold()
