"""Which piece of code asks for a step: those that one asks for one after the other form a sequence."""

import asyncio
from asyncio import _get_running_loop
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowcraft_server.engine.steps import AttemptSteps


@dataclass(slots=True, eq=False)
class Sequence:
    """Steps that are asked for one after the other.

    Attributes:
        steps: Those of the attempt.
        path: Begins the places of its steps.
        runner: The task, or the number of the thread, that asks for them; None: the first one that does.
        asked: How many it has asked for.
        times: How often it has asked for each name.
        labels: What its steps are recorded as.
        elsewhere: How often each name was asked for in other tasks and threads.
    """

    steps: "AttemptSteps"
    path: str
    runner: Any = None
    asked: int = 0
    times: dict[str, int] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    elsewhere: dict[str, int] = field(default_factory=dict)

    def number_for(self, name: str) -> int:
        """Which of the steps of a name is asked for now, from 1; a number is left out that would spell another one's label."""
        number = self.times.get(name, 0) + 1
        while (label := labelled(name, number)) in self.labels:
            number += 1
        self.labels.add(label)
        self.times[name] = number
        return number


current_sequence: ContextVar[Sequence | None] = ContextVar("step_sequence", default=None)


def labelled(name: str, number: int) -> str:
    """What a step is recorded as that is the `number`th of its name."""
    return name if number == 1 else f"{name}#{number}"


def runner_now() -> Any:
    """The task that runs, or the number of the thread where there is no loop."""
    # Asked for each node: `current_task` would raise in each thread without a loop.
    return get_ident() if _get_running_loop() is None else asyncio.current_task()


def enter(sequence: Sequence) -> Any:
    """From here on this task or thread asks for the steps of a sequence; returns what `leave` takes."""
    return current_sequence.set(sequence)


def leave(token: Any) -> None:
    """It does so no longer."""
    current_sequence.reset(token)
