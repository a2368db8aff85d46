"""Pages of lists that the SDK returns: frozen records, each with a cursor to the next page."""

from flowcraft_sdk.records.base import Record
from flowcraft_sdk.records.runs import RunSummary, WaitPoint


class WaitingNode(WaitPoint):
    """A node that waits for a signal, in a list of all that do.

    Attributes:
        blueprint_id: Id of the run's blueprint.
        tags: The run's tags.
    """

    blueprint_id: str = ""
    tags: tuple[str, ...] = ()


class WaitingPage(Record):
    """A page of the nodes that wait for a signal, those of the newest runs first.

    Attributes:
        items: The nodes; a page may have fewer than were asked for, and still not be the last one.
        next_cursor: Where the next page begins; None behind the last one.
    """

    items: tuple[WaitingNode, ...] = ()
    next_cursor: str | None = None


class RunPage(Record):
    """A page of runs, the newest first.

    Attributes:
        items: The runs; a page may have fewer than were asked for, and still not be the last one.
        next_cursor: Where the next page begins; None behind the last one.
    """

    items: tuple[RunSummary, ...] = ()
    next_cursor: str | None = None
