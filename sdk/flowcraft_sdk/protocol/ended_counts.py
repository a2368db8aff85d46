"""Counts of ended runs as the scripts keep them (see notify.lua), and the durations that they stand for."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

STATES_BY_LETTER = {"c": "completed", "f": "failed", "x": "cancelled", "t": "timed_out"}
MOST_CLASS = 100
"""Number of a duration above which none can be: 35,000 years."""

_COUNTING = re.compile(r"(\d+) ([cfxt])(\d+) (.*)", re.DOTALL)
_KEPT = re.compile(r"([cfxt])(\d+)=(\d+)")

ClassCounts = Counter[tuple[str, int]]
"""By the letter of the state and the number of the duration, how many runs."""


def longest_of(number: int) -> float:
    """Seconds below which the runs with a duration's number have taken."""
    return float(2 ** ((number + 1) / 2) - 1) / 1000


def counting(fields: Mapping[str, str]) -> Iterable[tuple[int, str, ClassCounts]]:
    """What the hash `counting` holds: minute, blueprint and counts."""
    for field, count in fields.items():
        found = _COUNTING.fullmatch(field)
        if found and count.isdecimal() and int(found[3]) <= MOST_CLASS:
            yield int(found[1]), found[4], Counter({(found[2], int(found[3])): int(count)})


def kept(fields: Mapping[str, str]) -> Iterable[tuple[int, str, ClassCounts]]:
    """What a hash `minutes:HOUR` or `hours:DAY` holds: minute or hour, blueprint and counts."""
    for field, value in fields.items():
        number, space, blueprint_id = field.partition(" ")
        if space and number.isdecimal():
            yield int(number), blueprint_id, classes(value)


def classes(value: str) -> ClassCounts:
    """Counts as they are kept, `CLASS=COUNT ...`."""
    return Counter(
        {(each[1], int(each[2])): int(each[3]) for each in _KEPT.finditer(value) if int(each[2]) <= MOST_CLASS}
    )


def by_state(counts: ClassCounts) -> dict[str, int]:
    """How many runs have ended in which state."""
    found = dict.fromkeys(STATES_BY_LETTER.values(), 0)
    for (letter, _), count in counts.items():
        found[STATES_BY_LETTER[letter]] += count
    return found


def quantile(counts: ClassCounts, share: float) -> float | None:
    """Seconds that a share of the runs took at most, estimated; None of no runs.

    Args:
        share: from 0 to 1.
    """
    durations: Counter[int] = Counter()
    for (_, number), count in counts.items():
        durations[number] += count
    rank = share * durations.total()
    if not rank:
        return None
    for number in sorted(durations):
        if rank <= durations[number]:
            low, high = longest_of(number - 1), longest_of(number)
            return round(low + (high - low) * rank / durations[number], 4)
        rank -= durations[number]
    return longest_of(max(durations))
