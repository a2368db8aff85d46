"""Suggestions for names that are not known."""

import re
from collections.abc import Collection, Iterable
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import islice

MOST_KNOWN = 2_000
_LONGEST = 100
_MOST_COMPARED = 50
"""Names that are compared letter by letter, those first that have most letters in common."""
_MOST_LOOKUPS = 200
"""Names that are looked for in one file: each is compared with all that are known."""

_MOST_COMPARISONS = 100_000
"""For them, all taken together."""

_SHOWN = 8
_SUGGESTED = re.compile(r"did you mean '([^']*)'\?")


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like this one, whatever its case, dashes and underscores; None if none is alike."""
    if len(name) > _LONGEST:
        return None
    by_shape: dict[str, str] = {}
    for candidate in islice(known, MOST_KNOWN):
        if len(candidate) <= 2 * _LONGEST:
            by_shape.setdefault(_shape(candidate), candidate)
    shape = _shape(name)
    found = _swapped(shape, by_shape) or _nearest(shape, by_shape, cutoff)
    return by_shape[found] if found is not None else None


def _swapped(shape: str, known: Collection[str]) -> str | None:
    """The one that two neighbouring letters make of it when they change places, half of a short name: `mpc` for `mcp`."""
    if shape in known:
        return None
    swapped = {shape[:at] + shape[at + 1] + shape[at] + shape[at + 2 :] for at in range(len(shape) - 1)}
    return next((candidate for candidate in known if candidate in swapped), None)


def _nearest(shape: str, known: Iterable[str], cutoff: float) -> str | None:
    """What `difflib.get_close_matches` finds, without comparing in full what cannot be the nearest any more."""
    matcher: SequenceMatcher[str] = SequenceMatcher()
    matcher.set_seq2(shape)
    likely = []
    for candidate in known:
        matcher.set_seq1(candidate)
        if matcher.real_quick_ratio() >= cutoff and (most := matcher.quick_ratio()) >= cutoff:
            likely.append((most, candidate))
    likely.sort(reverse=True)
    found: tuple[float, str] | None = None
    for most, candidate in likely[:_MOST_COMPARED]:
        if found is not None and most < found[0]:
            break
        matcher.set_seq1(candidate)
        ratio = matcher.ratio()
        if ratio >= cutoff and (found is None or (ratio, candidate) > found):
            found = ratio, candidate
    return found[1] if found is not None else None


class Lookups:
    """Looks for the names that were meant in one file; in a file full of mistakes it stops after some."""

    def __init__(self) -> None:
        self._done = 0
        self._left = _MOST_COMPARISONS

    def may(self) -> bool:
        """Whether another name may be looked for; it counts as done then."""
        self._done += 1
        return self._done <= _MOST_LOOKUPS and self._left > 0

    def nearest(self, name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
        """As `nearest`."""
        if not self.may():
            return None
        candidates = list(islice(known, MOST_KNOWN))
        self._left -= len(candidates)
        return nearest(name, candidates, cutoff)

    def did_you_mean(self, name: str, known: Iterable[str]) -> str:
        """`; did you mean 'x'?`, or nothing."""
        found = self.nearest(name, known)
        return f"; did you mean '{found}'?" if found is not None and found != name else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    found = nearest(name, known)
    return f"; did you mean '{found}'?" if found is not None and found != name else ""


def suggested(messages: Iterable[str]) -> set[str]:
    """The names that messages suggest: what lacks one of them is explained by the name that was written in its place."""
    return {name for message in messages for name in _SUGGESTED.findall(message)}


def listed(names: Iterable[str]) -> str:
    """The first few names, separated by commas."""
    some = list(islice(names, _SHOWN + 1))
    return ", ".join(some[:_SHOWN]) + (", ..." if len(some) > _SHOWN else "")


@lru_cache(maxsize=4 * MOST_KNOWN)
def _shape(name: str) -> str:
    return re.sub(r"[-_\s]", "", name).lower()
