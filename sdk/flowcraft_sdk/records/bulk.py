"""What is done to many runs at once: frozen records."""

from typing import Literal

from flowcraft_sdk.records.base import Record


class BulkPreview(Record):
    """The runs that a filter names.

    Attributes:
        count: How many there are.
        first: Ids of the newest ones, ten at most.
    """

    count: int
    first: tuple[str, ...] = ()


class BulkOutcome(Record):
    """What came of one run of many.

    Attributes:
        run_id: Id of the run.
        done: Whether it was done.
        detail: Why not, in one line.
        new_run_id: Id of the run that does it again, for a rerun.
    """

    run_id: str
    done: bool
    detail: str = ""
    new_run_id: str | None = None


class RestoredItem(Record):
    """What came of one thing in a backup.

    Attributes:
        kind: blueprint (with its plan), schedule, memory or run.
        id: Its id.
        outcome: restored, or there: one of this id was there, and stays as it is.
        detail: What is otherwise than in the backup, in one line: of a run that had not ended, that it is cancelled now.
    """

    kind: Literal["blueprint", "schedule", "memory", "run"]
    id: str
    outcome: Literal["restored", "there"]
    detail: str = ""
