"""What clients return of the steps of a node."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from flowcraft_sdk.records.base import Record


class StepRecord(Record):
    """A step that a handler has taken with `ctx.step`, or a call of a model or a tool, which is one by itself.

    Attributes:
        name: Its name; with `#2` the second time that it was asked for.
        kind: `step`, `model` or `tool`.
        state: completed, or failed: it has raised, and was not answered since.
        started_at: When it began.
        ended_at: When it ended.
        bytes: What it has given takes, as JSON.
        tries: How many tries it took, with its `retries`.
        details: What else is known of it, such as the tokens of a call of a model.
        error: Type and message of what it has failed with, in one line.
        value: What it has given, if that is small; None while it is not, or was not answered.
    """

    name: str
    kind: Literal["step", "model", "tool"] = "step"
    state: Literal["completed", "failed"] = "completed"
    started_at: datetime
    ended_at: datetime
    bytes: int = 0
    tries: int = 1
    details: Mapping[str, Any] = {}
    error: str = ""
    value: Any = None


class StepTotals(Record):
    """How many steps of a node were recorded, over all rounds and items, and what they have given takes.

    Attributes:
        count: How many.
        bytes: As JSON.
    """

    count: int = 0
    bytes: int = 0
