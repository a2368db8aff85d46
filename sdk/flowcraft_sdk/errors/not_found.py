"""What was asked for and is not there."""

from collections.abc import Sequence
from datetime import datetime

from flowcraft_sdk.errors.base import FlowcraftError


class BlueprintNotFoundError(FlowcraftError, LookupError):
    """No such blueprint is published.

    Attributes:
        blueprint_id: The id that was asked for.
        version: The version that was asked for, None for the current one.
        known: Similar ids.
        published: All ids that are published; None if that is not known.
    """

    code = "blueprint_not_found"

    def __init__(
        self,
        blueprint_id: str,
        version: str | None = None,
        known: Sequence[str] = (),
        published: Sequence[str] | None = None,
    ) -> None:
        what = f"no blueprint '{blueprint_id}'" + (f" in version {version}" if version else "") + " is published"
        if known:
            hint = f"; did you mean {' or '.join(repr(k) for k in known)}?"
        elif published:
            more = f" and {len(published) - 8} more" if len(published) > 8 else ""
            hint = f"; published are {', '.join(repr(name) for name in published[:8])}{more}"
        elif published is not None:
            hint = ", nor any other: has a server of this name been started on this Redis?"
        else:
            hint = ""
        super().__init__(what + hint)
        self.blueprint_id = blueprint_id
        self.version = version
        self.known = tuple(known)
        self.published = None if published is None else tuple(published)


class RunNotFoundError(FlowcraftError, LookupError):
    """There is no such run.

    Attributes:
        run_id: Id of the run.
    """

    code = "run_not_found"

    def __init__(self, run_id: str, message: str | None = None) -> None:
        super().__init__(message or f"no run {run_id}")
        self.run_id = run_id


class RunExpiredError(RunNotFoundError):
    """The run was removed, by retention or because a client asked for it.

    Attributes:
        ended_at: When the run had ended.
        status: How it had ended.
    """

    code = "run_expired"

    def __init__(self, run_id: str, ended_at: datetime, status: str) -> None:
        super().__init__(run_id, f"run {run_id} {status} at {ended_at:%Y-%m-%d %H:%M:%S} UTC and has been removed")
        self.ended_at = ended_at
        self.status = status


class DeadLetterNotFoundError(FlowcraftError, LookupError):
    """The run has no dead letter, or not for that node.

    Attributes:
        run_id: Id of the run.
        node_id: Id of the node, None for any.
    """

    code = "dead_letter_not_found"

    def __init__(self, run_id: str, node_id: str | None = None) -> None:
        super().__init__(f"there is no dead letter of run {run_id}" + (f", node '{node_id}'" if node_id else ""))
        self.run_id = run_id
        self.node_id = node_id


class NodeNotFoundError(FlowcraftError, LookupError):
    """The run has no such node."""

    code = "node_not_found"


class NoServerError(FlowcraftError, LookupError):
    """No server process was seen lately that could do what is asked for."""

    code = "no_server"


class ScheduleNotFoundError(FlowcraftError, LookupError):
    """The deployment has no such schedule.

    Attributes:
        schedule_id: The id.
    """

    code = "schedule_not_found"

    def __init__(self, schedule_id: str, known: Sequence[str] = ()) -> None:
        near = f"; did you mean '{known[0]}'?" if known else ""
        super().__init__(f"no schedule '{schedule_id}' is published{near}")
        self.schedule_id = schedule_id


class MemoryNotFoundError(FlowcraftError, LookupError):
    """There is no such conversation, or it has expired.

    Attributes:
        memory_id: The id, as it was given.
    """

    code = "memory_not_found"

    def __init__(self, memory_id: str) -> None:
        super().__init__(f"there is no memory '{memory_id}'")
        self.memory_id = memory_id
