"""Runs that cannot do what was asked, in the state that they are in."""

from collections.abc import Sequence
from typing import Any

from flowcraft_sdk.errors.base import FlowcraftError


class RunBrokenError(FlowcraftError):
    """What Redis has under the run's key cannot be read as a run: another program has written there.

    Attributes:
        run_id: Id of the run.
        problem: What cannot be read.
    """

    code = "run_broken"

    def __init__(self, run_id: str, problem: str) -> None:
        super().__init__(
            f"the record of run {run_id} in Redis cannot be read: {problem}; `flowcraft doctor --fix` mends what can be mended"
        )
        self.run_id = run_id
        self.problem = problem


class RunStateError(FlowcraftError):
    """The run is in a state in which this cannot be done.

    Attributes:
        run_id: Id of the run.
        status: The state.
    """

    code = "run_state"

    def __init__(self, run_id: str, status: str, message: str | None = None) -> None:
        super().__init__(message or f"run {run_id} is {status}")
        self.run_id = run_id
        self.status = status


class RerunRefusedError(FlowcraftError):
    """The run cannot be done again from there: the message says why, and what to do.

    Attributes:
        run_id: Id of the run.
        reason: Why not.
    """

    code = "rerun_refused"

    def __init__(self, run_id: str, reason: str) -> None:
        super().__init__(f"run {run_id} cannot be done again so: {reason}")
        self.run_id = run_id
        self.reason = reason


class NotWaitingError(RunStateError):
    """No node waits for this signal.

    Attributes:
        node_id: Id of the node that the signal was for, None for the only one that waits.
        waiting: Ids of the nodes that wait.
    """

    code = "not_waiting"

    def __init__(
        self, run_id: str, status: str, node_id: str | None, waiting: Sequence[str] = (), why: str = ""
    ) -> None:
        some = f"; waiting: {', '.join(waiting)}" if waiting else "; no node waits for a signal"
        if why:
            message = f"run {run_id}: {why}"
        elif node_id is None and len(waiting) > 1:
            message = f"run {run_id}: several nodes wait, say which: {', '.join(waiting)}"
        elif node_id is None:
            message = f"run {run_id}: no node waits for a signal"
        else:
            message = f"run {run_id}: node '{node_id}' does not wait for a signal{some}"
        super().__init__(run_id, status, message)
        self.node_id = node_id
        self.waiting = tuple(waiting)


class NotReceivingError(RunStateError):
    """The node cannot be sent messages; none was kept.

    Attributes:
        node_id: The node, as it was named.
        reason: `unknown`, there is no such node; `kind`, it is a built-in one; `ended`; `full`, it has 100 not taken.
    """

    code = "not_receiving"

    def __init__(self, run_id: str, status: str, node_id: str, reason: str, message: str) -> None:
        super().__init__(run_id, status, message)
        self.node_id = node_id
        self.reason = reason


class RunConflictError(FlowcraftError):
    """The run id is taken.

    Attributes:
        run_id: The id.
        reason: exists, different_input, different_blueprint, or broken (what Redis has under the id is no record of a run).
        existing: A handle to the run that has the id.
    """

    code = "run_conflict"

    def __init__(self, run_id: str, reason: str, existing: Any = None) -> None:
        reasons = {
            "exists": "exists already",
            "different_input": "exists with another context",
            "different_blueprint": "exists for another blueprint or version",
            "broken": "has a broken record in Redis; choose another id",
        }
        super().__init__(f"run {run_id} {reasons.get(reason, reason)}")
        self.run_id = run_id
        self.reason = reason
        self.existing = existing


class RunLimitError(FlowcraftError):
    """A run is one too many, and its limit says `overflow: reject`: it was not started.

    Attributes:
        run_id: The id that the run would have had.
        reached: The limit that is reached, in words.
        running: Ids of some of the runs that have begun.
    """

    code = "run_limit"

    def __init__(self, run_id: str, reached: str, running: tuple[str, ...] = ()) -> None:
        super().__init__(
            f"run {run_id} was not started: {reached}"
            + (f" (now {', '.join(running)})" if running else "")
            + "; start it when one of them has ended"
        )
        self.run_id = run_id
        self.reached = reached
        self.running = running
