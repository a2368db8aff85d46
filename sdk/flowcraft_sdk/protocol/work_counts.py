"""Counts of what handlers have done, as workers add them up (see count_work.lua): `WHAT DETAIL HANDLER`.

Durations are counted by the number of binary digits of their microseconds: bucket n has those below 2^n microseconds that are in
no bucket before.
"""

from collections.abc import Mapping
from typing import NamedTuple

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import ScriptCall, call_of, flat

DURATIONS, DELAYS, ATTEMPTS, LEASES_LOST = "took", "delay", "attempts", "leases-lost"
SUM = "sum"
LARGEST_BUCKET = 45
"""Over a year."""


class Observed(NamedTuple):
    """A histogram.

    Attributes:
        buckets: by the number of a bucket how many were in it.
        microseconds: the sum of all.
    """

    buckets: dict[int, int]
    microseconds: int


def bucket_of(microseconds: int) -> int:
    """The bucket of a duration."""
    return min(max(0, microseconds).bit_length(), LARGEST_BUCKET)


def split(fields: Mapping[str, str]) -> dict[tuple[str, str], dict[str, int]]:
    """By what was counted and the handler, by the detail how many."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for field, value in fields.items():
        what, _, rest = field.partition(" ")
        detail, space, handler = rest.partition(" ")
        if space and value.isdecimal():
            found.setdefault((what, handler), {})[detail] = int(value)
    return found


def observed(details: Mapping[str, int]) -> Observed:
    """A histogram, of the details of `DURATIONS` or `DELAYS`."""
    buckets = {int(number): count for number, count in details.items() if number.isdecimal()}
    return Observed(buckets, details.get(SUM, 0))


def count_work(keys: Keys, *, worker: str, number: int, counts: Mapping[str, int]) -> ScriptCall:
    """Add to what handlers have done; `keys` are of the first partition.

    Args:
        number: greater than in the call of the worker before; a call with the same number adds nothing.
    """
    return call_of("count_work", keys, worker, number, *flat(counts.items()))
