"""Suggestions for names that are not known."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

_MOST_KNOWN = 2_000
_LONGEST = 100
_SHOWN = 8


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like this one, whatever its case, dashes and underscores; None if none is alike."""
    if len(name) > _LONGEST:
        return None
    by_shape: dict[str, str] = {}
    for candidate in islice(known, _MOST_KNOWN):
        by_shape.setdefault(_shape(candidate), candidate)
    found = get_close_matches(_shape(name), by_shape, 1, cutoff)
    return by_shape[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    found = nearest(name, known)
    return f"; did you mean '{found}'?" if found is not None and found != name else ""


def listed(names: Iterable[str]) -> str:
    """The first few names, separated by commas."""
    some = list(islice(names, _SHOWN + 1))
    return ", ".join(some[:_SHOWN]) + (", ..." if len(some) > _SHOWN else "")


def _shape(name: str) -> str:
    return re.sub(r"[-_\s]", "", name).lower()
