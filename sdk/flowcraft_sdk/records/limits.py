"""What clients return of limits."""

from flowcraft_sdk.records.base import Record


class LimitInfo(Record):
    """A limit of concurrency or rate, over all workers.

    Attributes:
        name: Name of the limit; of a handler's own, `handler:` and the name of the handler.
        rate: How many nodes may begin a second; None for any number.
        max_concurrent: How many nodes run at once; None for any number.
        waiting: How many ready nodes wait for it.
        oldest_age: Seconds since the one became ready that has waited longest; None if there is none.
        admitted: How many nodes hold a slot: they run, or are in their queue.
    """

    name: str
    rate: float | None = None
    max_concurrent: int | None = None
    waiting: int = 0
    oldest_age: float | None = None
    admitted: int = 0
