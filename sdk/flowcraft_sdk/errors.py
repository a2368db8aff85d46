"""Everything the SDK raises. Failures of runs are data; exceptions are never sent over the wire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from flowcraft_sdk.records import NodeFailure, RunSnapshot


class FlowcraftError(Exception):
    """Base of all errors of the SDK. `str()` is one line. All can cross processes, without the handles that they carry.

    Attributes:
        code: A stable name of the kind of error.
    """

    code = "error"

    def __str__(self) -> str:
        return " ".join(str(self.args[0]).split()) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: None if name in _BOUND_TO_A_CLIENT else value for name, value in self.__dict__.items()}
        return _rebuild, (type(self), self.args, state)


_BOUND_TO_A_CLIENT = ("handle", "existing")


def _rebuild(cls: type[FlowcraftError], args: tuple[Any, ...], state: dict[str, Any]) -> FlowcraftError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    if isinstance(error, RunFailedError):
        error.show_traceback()
    return error


class ConfigurationError(FlowcraftError, ValueError):
    """A bad address, file, option or argument."""

    code = "configuration"


class BackendUnavailableError(FlowcraftError, ConnectionError):
    """Redis did not answer.

    Attributes:
        operation: What was being done.
        maybe_applied: Whether the call may have taken effect; repeating it is safe.
    """

    code = "backend_unavailable"

    def __init__(self, message: str, *, operation: str = "", maybe_applied: bool = False) -> None:
        super().__init__(message)
        self.operation = operation
        self.maybe_applied = maybe_applied


class BackendRefusedError(BackendUnavailableError):
    """Redis answers, and refuses for a reason that passes.

    Attributes:
        reason: full, read-only, loading, cannot-save, ...
    """

    code = "backend_refused"

    def __init__(self, message: str, *, reason: str = "", operation: str = "", maybe_applied: bool = False) -> None:
        super().__init__(message, operation=operation, maybe_applied=maybe_applied)
        self.reason = reason


class NotDurableError(BackendUnavailableError):
    """The call is recorded, but Redis did not confirm in time that it is kept (`redis.durability`)."""

    code = "not_durable"


class ProtocolMismatchError(FlowcraftError):
    """Client and deployment speak different versions of the protocol.

    Attributes:
        client_version: The client's version.
        server_version: The deployment's version.
    """

    code = "protocol_mismatch"

    def __init__(self, client_version: str, server_version: str) -> None:
        super().__init__(
            f"this SDK speaks protocol {client_version}, the deployment {server_version}: use one release for both"
        )
        self.client_version = client_version
        self.server_version = server_version


class SerializationError(FlowcraftError, TypeError):
    """A value cannot be stored.

    Attributes:
        path: Where in the arguments the value is, such as `ctx.order.items[3].price`.
    """

    code = "serialization"

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class PayloadTooLargeError(SerializationError):
    """A value is over the limit.

    Attributes:
        size: Its size in bytes, as far as it was encoded: encoding ends at the limit.
        limit: The limit in bytes.
    """

    code = "payload_too_large"

    def __init__(self, path: str, size: int, limit: int) -> None:
        super().__init__(f"{size} bytes are over the limit of {limit} (limits.maxValue)", path)
        self.size = size
        self.limit = limit


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


class InvalidInputError(FlowcraftError, ValueError):
    """A context does not fit the blueprint's `inputs`, or a node cannot take an answer.

    Attributes:
        errors: Every misfit: mappings with `loc` (path), `type` and `msg`.
    """

    code = "invalid_input"

    def __init__(self, message: str, errors: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.errors = list(errors)


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
    """Retention removed the run.

    Attributes:
        ended_at: When the run had ended.
        status: How it had ended.
    """

    code = "run_expired"

    def __init__(self, run_id: str, ended_at: datetime, status: str) -> None:
        super().__init__(
            run_id, f"run {run_id} {status} at {ended_at:%Y-%m-%d %H:%M:%S} UTC and was removed by retention"
        )
        self.ended_at = ended_at
        self.status = status


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


class ForeignKeyError(FlowcraftError):
    """Something else has written to a key of ours in Redis.

    Attributes:
        key: The key.
        expected: The type that belongs there, as Redis calls it.
    """

    code = "foreign_key"

    def __init__(self, key: str, expected: str) -> None:
        super().__init__(
            f"the key {key} in Redis is no {_TYPE_NAMES.get(expected, expected)}: something else has written there; "
            "find out what, delete the key, then run `flowcraft doctor --fix`"
        )
        self.key = key
        self.expected = expected


_TYPE_NAMES = {"zset": "sorted set"}


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


class WaitTimeoutError(FlowcraftError, TimeoutError):
    """The wait has ended, the run has not.

    Attributes:
        run_id: Id of the run.
        status: The state that the run was in.
        waited: Seconds that were waited.
        handle: A handle to the run; None once the error has crossed processes.
        live_workers: How many workers are alive, None if that is not known.
    """

    code = "wait_timeout"

    def __init__(
        self, run_id: str, status: str, waited: float, handle: Any = None, live_workers: int | None = None
    ) -> None:
        idle = "; no worker is alive" if live_workers == 0 else ""
        super().__init__(f"run {run_id} is {status} after {waited:.1f} s{idle}; it goes on")
        self.run_id = run_id
        self.status = status
        self.waited = waited
        self.handle = handle
        self.live_workers = live_workers


class RemoteError(Exception):
    """The cause of a failed run: the traceback text of the handler's exception."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}" if self.args else ""


class RunUnsuccessfulError(FlowcraftError):
    """The run ended without a result.

    Attributes:
        snapshot: The final snapshot.
        run_id: Id of the run.
        blueprint_id: Id of its blueprint.
    """

    code = "run_unsuccessful"

    def __init__(self, message: str, snapshot: RunSnapshot) -> None:
        super().__init__(message)
        self.snapshot = snapshot
        self.run_id = snapshot.run_id
        self.blueprint_id = snapshot.blueprint_id


class RunFailedError(RunUnsuccessfulError):
    """A node failed for good.

    Attributes:
        failure: The first failure.
        failures: All failures.
    """

    code = "run_failed"

    def __init__(self, snapshot: RunSnapshot) -> None:
        first = snapshot.failures[0] if snapshot.failures else NodeFailure(node_id="", message="no failure is recorded")
        why = f"node '{first.node_id}': {first.summary}" if first.node_id else first.summary
        super().__init__(f"run {snapshot.run_id} failed: {why}", snapshot)
        self.failure = first
        self.failures = list(snapshot.failures)
        self.show_traceback()

    def show_traceback(self) -> None:
        """Make the handler's traceback the cause of this error, so that both are printed."""
        if self.failure.traceback:
            self.__cause__ = RemoteError(self.failure.traceback)


class RunCancelledError(RunUnsuccessfulError):
    """The run was cancelled.

    Attributes:
        reason: What the cancel request gave as its reason.
        requested_at: When it was requested.
        forced: Whether a node was still running when the grace period ended.
    """

    code = "run_cancelled"

    def __init__(self, snapshot: RunSnapshot) -> None:
        cancel = snapshot.cancel
        self.reason = cancel.reason if cancel else ""
        super().__init__(f"run {snapshot.run_id} was cancelled" + (f": {self.reason}" if self.reason else ""), snapshot)
        self.requested_at = cancel.requested_at if cancel else None
        self.forced = cancel.forced if cancel else False


class RunTimedOutError(RunUnsuccessfulError):
    """The run's own deadline passed. It is no `TimeoutError`: that one means the wait.

    Attributes:
        deadline: The deadline.
    """

    code = "run_timed_out"

    def __init__(self, snapshot: RunSnapshot) -> None:
        super().__init__(f"run {snapshot.run_id} passed its deadline", snapshot)
        self.deadline = snapshot.deadline
