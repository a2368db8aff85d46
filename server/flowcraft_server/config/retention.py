"""The section `retention`: how long ended runs are kept."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from .quantities import Duration, Size, format_duration, format_size
from .sections import Amount, Seconds, Section

FOREVER = "forever"
DAY = 86_400.0


def _no_limit(value: Any) -> Any:
    return None if value == FOREVER else value


def _age(value: float | None) -> str:
    return FOREVER if value is None else format_duration(value)


def _size(value: int | None) -> str:
    return FOREVER if value is None else format_size(value)


def _count(value: int | None) -> int | str:
    return FOREVER if value is None else value


Age = Annotated[Seconds | None, BeforeValidator(_no_limit), PlainSerializer(_age, when_used="json")]
Count = Annotated[Amount | None, BeforeValidator(_no_limit), PlainSerializer(_count, when_used="json")]
Bytes = Annotated[
    Annotated[Size, Field(ge=1024)] | None, BeforeValidator(_no_limit), PlainSerializer(_size, when_used="json")
]


class KeepSection(Section):
    """How long runs are kept after their end, and how many of them; `forever` for no limit.

    Attributes:
        age: How long after its end a run is kept.
        count: How many of them are kept; the ones that ended first go first.
    """

    short_form = "age"

    age: Age = 7 * DAY
    count: Count = 10_000


class KeepFailedSection(KeepSection):
    """The same for runs that failed or timed out.

    Attributes:
        age: How long after its end a run is kept.
        count: How many of them are kept; the ones that ended first go first.
    """

    age: Age = 30 * DAY


class TombstonesSection(Section):
    """How long a removed run is remembered, which gives its callers `RunExpiredError`.

    Attributes:
        age: For how long, in whole days.
        count: For how many runs.
    """

    short_form = "age"

    age: Annotated[Duration, Field(ge=DAY)] = 30 * DAY
    count: Amount = 100_000


class RetentionSection(Section):
    """How long ended runs are kept, by how they ended; a run that timed out counts as failed. What is reached first counts.

    Attributes:
        completed: Runs that completed.
        failed: Runs that failed or timed out.
        cancelled: Runs that were cancelled.
        bytes: How much of Redis' memory all ended runs together may take.
        tombstones: How long a removed run is remembered.
    """

    completed: KeepSection = KeepSection()
    failed: KeepFailedSection = KeepFailedSection()
    cancelled: KeepSection = KeepSection()
    bytes: Bytes = 256 * 1024 * 1024
    tombstones: TombstonesSection = TombstonesSection()
