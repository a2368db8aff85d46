"""One step: it is answered from its record, or called and recorded."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from flowcraft_sdk.errors import ConfigurationError, SerializationError
from flowcraft_sdk.node import NodeCancelled, NonRetryableError, StepLimitError, StepTimeoutError
from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.step_script import MOST_SMALL, MOST_STEP_BYTES, MOST_STEPS, UNUSED, StepEntry
from flowcraft_server.engine.failures import type_and_message
from flowcraft_server.engine.step_sequences import Sequence, enter, labelled, leave
from flowcraft_server.engine.step_store import Details, StepWrite
from flowcraft_server.engine.step_threads import call_limited, pause
from flowcraft_server.engine.values import MISSING
from flowcraft_server.observability.redaction import clip

if TYPE_CHECKING:
    from flowcraft_server.engine.steps import AttemptSteps

MOST_DETAIL_BYTES = 16_384
LONGEST_ERROR = 500
LONGEST_PAUSE = 30.0


class Step:
    """A step that was asked for: it has its place, and is not looked up yet.

    Args:
        within: the path of its sequence; None where order does not count.
        number: which of the steps of its name it is, from 1.
        position: its number in the sequence.
    """

    def __init__(
        self,
        steps: "AttemptSteps",
        place: str,
        within: str | None,
        name: str,
        number: int,
        kind: str,
        request: str,
        position: int,
    ) -> None:
        self._steps = steps
        self._attempt = steps.attempt
        self._within = within
        self.kind = kind
        self._request = request
        self.place = place
        self.position = position
        self.name = labelled(name, number)

    def recorded(self) -> Any:
        """What it has given, `MISSING` if that is not recorded.

        Raises:
            StepMismatchError: an earlier attempt asked for another step here.
        """
        return self._steps.recorded_of(self)

    async def arecorded(self) -> Any:
        """The same for a coroutine."""
        return await self._steps.arecorded_of(self)

    def record(self, value: Any, since: float, *, details: Details = None, tries: int = 1) -> Any:
        """Record what it has given; returns that as it is stored.

        Args:
            since: seconds of the monotonic clock at which it began.

        Raises:
            SerializationError: it cannot be stored, or is too large.
            StepLimitError: no more is kept for the node.
            NodeCancelled: the node is another worker's by now.
        """
        write, encoded = self._write(value, since, details, tries)
        self._settle(write, self._steps.store.record(self._attempt, write))
        self._steps.last = self
        return wire.loads(encoded)

    async def arecord(self, value: Any, since: float, *, details: Details = None, tries: int = 1) -> Any:
        """The same for a coroutine."""
        write, encoded = self._write(value, since, details, tries)
        self._settle(write, await self._steps.store.arecord(self._attempt, write))
        self._steps.last = self
        return wire.loads(encoded)

    def fail(self, error: BaseException, since: float, *, tries: int = 1, last: bool = True) -> None:
        """Make it known that it has raised. That answers nothing: a further attempt calls it again.

        Args:
            last: no further try follows, so that what was recorded within it goes.
        """
        self._steps.last = None
        if isinstance(error, NodeCancelled) or not isinstance(error, Exception) or self._attempt.has_ended:
            return
        # No traceback: an error that rises through steps within steps would have it made again for each of them.
        name, message = type_and_message(error)
        about = name, clip(message, LONGEST_ERROR)
        entry = self._entry(since, 0, self._unused(), about, tries, None)
        within, size = self._steps.forget_within(self.place) if last else ((), 0)
        self._steps.store.note_failure(self._attempt, StepWrite(entry, b"", within, size))

    def give_up(self, why: str) -> None:
        """Forget what it has given, as that was of no use: a further attempt calls it again."""
        size = self._steps.forget(self.place)
        self._steps.unused[self.place] = self._steps.unused.get(self.place, 0) + 1
        entry = self._entry(clock(), 0, self._unused(), ("ReplyNotUsed", clip(why, LONGEST_ERROR)), 1, None)
        self._steps.store.note_failure(self._attempt, StepWrite(entry, b"", (self.place,), size))

    @property
    def idempotency_key(self) -> str:
        """A key for the service that it calls: the same whenever the call is repeated whose reply is not known."""
        claim = self._attempt.claim
        unused = self._steps.unused.get(self.place, 0)
        text = f"{claim.run_created}\n{claim.idempotency_key}\n{self.place}\n{self._request}\n{unused}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _unused(self) -> dict[str, int] | None:
        """What is to be known of its replies that were of no use: their number makes another `idempotency_key`."""
        unused = self._steps.unused.get(self.place)
        return {UNUSED: unused} if unused else None

    def run(
        self,
        execute: Callable[[], Any],
        details: Details = None,
        *,
        retries: int = 0,
        timeout: float | None = None,
        retry_delay: float = 1.0,
    ) -> Any:
        """Give what is recorded; else call `execute`, and record what that gives. For a plain function."""
        found = self.recorded()
        if found is not MISSING:
            self._steps.last = self
            return found
        if not self._is_kept():
            return execute()
        for tries in range(1, retries + 2):
            self._check_may_begin()
            since = clock()
            token = enter(Sequence(self._steps, f"{self.place}/{tries}/"))
            try:
                with self._steps.executing():
                    value = execute() if timeout is None else call_limited(self._attempt, execute, timeout, self.name)
                    return self.record(value, since, details=details, tries=tries)
            except BaseException as error:
                last = not self._may_retry(error, tries, retries)
                self.fail(error, since, tries=tries, last=last)
                if last:
                    raise
            finally:
                leave(token)
            pause(self._attempt, min(retry_delay * 2.0 ** min(tries - 1, 30), LONGEST_PAUSE))
        raise AssertionError("the last try returns or raises")

    async def arun(
        self,
        execute: Callable[[], Awaitable[Any]],
        details: Details = None,
        *,
        retries: int = 0,
        timeout: float | None = None,
        retry_delay: float = 1.0,
    ) -> Any:
        """The same for a coroutine."""
        found = await self.arecorded()
        if found is not MISSING:
            self._steps.last = self
            return found
        if not self._is_kept():
            return await execute()
        for tries in range(1, retries + 2):
            self._check_may_begin()
            since = clock()
            token = enter(Sequence(self._steps, f"{self.place}/{tries}/"))
            try:
                with self._steps.executing():
                    value = await (execute() if timeout is None else self._limited(execute, timeout))
                    return await self.arecord(value, since, details=details, tries=tries)
            except BaseException as error:
                last = not self._may_retry(error, tries, retries)
                self.fail(error, since, tries=tries, last=last)
                if last:
                    raise
            finally:
                leave(token)
            await asyncio.sleep(min(retry_delay * 2.0 ** min(tries - 1, 30), LONGEST_PAUSE))
        raise AssertionError("the last try returns or raises")

    async def _limited(self, execute: Callable[[], Awaitable[Any]], timeout: float) -> Any:
        scope = asyncio.timeout(timeout)
        try:
            async with scope:
                return await execute()
        except TimeoutError:
            if scope.expired():
                raise StepTimeoutError(f"step '{self.name}' took longer than {timeout:g} s") from None
            raise

    @staticmethod
    def _may_retry(error: BaseException, tries: int, retries: int) -> bool:
        final = NodeCancelled, NonRetryableError, SerializationError, ConfigurationError
        return tries <= retries and isinstance(error, Exception) and not isinstance(error, final)

    def _check_may_begin(self) -> None:
        attempt = self._attempt
        if attempt.stopped or attempt.has_ended:
            why = attempt.stop_reason or "its outcome is recorded"
            raise NodeCancelled(f"node '{attempt.claim.instance_id}' is to stop: {why}")

    def _is_kept(self) -> bool:
        """Whether it can be recorded. Calls of models and tools are made all the same, as handlers do not ask for them as steps.

        Raises:
            StepLimitError: it cannot, and is a step.
        """
        self._check_may_begin()
        try:
            self._steps.check_room()
        except StepLimitError as error:
            if self.kind == "step":
                raise
            self._steps.last = None
            self._steps.note_unrecorded(str(error))
            return False
        return True

    def find(self) -> StepEntry | None:
        """Its record, among those that were read; None if there is none, or it is of another request.

        Raises:
            StepMismatchError: an earlier attempt asked for another step here.
        """
        recorded = self._steps.entries.get(self.place)
        if self._within is None:
            return recorded if recorded is not None and recorded.request == self._request else None
        node = self._attempt.claim.instance_id
        if recorded is not None and (recorded.name, recorded.kind) != (self.name, self.kind):
            self._steps.refuse(node, self, recorded.name, f"recorded there is {recorded.kind} '{recorded.name}'")
        if recorded is None and (other := self._steps.places.get((self._within, self.name))) is not None:
            number = other[len(self._within) :]
            self._steps.refuse(node, self, self.name, f"recorded it is number {number}")
        return recorded if recorded is not None and recorded.request == self._request else None

    def _write(self, value: Any, since: float, details: Details, tries: int) -> tuple[StepWrite, bytes]:
        encoded = wire.dumps(value, path=f"value of step '{self.name}'", limit=self._steps.max_value)
        about = details(value) if callable(details) else details
        small = len(encoded) <= MOST_SMALL
        entry = self._entry(since, len(encoded), about, None, tries, encoded if small else None)
        return StepWrite(entry, b"" if small else encoded), encoded

    def _entry(
        self, since: float, size: int, details: Any, error: tuple[str, str] | None, tries: int, value: bytes | None
    ) -> StepEntry:
        took = max(0.0, clock() - since) * 1000
        started = round(time.time() * 1000 - took)
        return StepEntry(
            self.place, self.name, self.kind, self._within, self._request, started, round(took, 1), size, _storable(details),
            error, tries, value,
        )  # fmt: skip

    def _settle(self, write: StepWrite, code: bytes) -> None:
        if code == b"full" and self.kind != "step":
            self._steps.note_unrecorded("its steps give more than is kept")
            return
        if code == b"full":
            raise StepLimitError(
                f"the steps of node '{self._attempt.claim.instance_id}' give more than is kept: {MOST_STEP_BYTES:,} bytes of "
                f"{MOST_STEPS:,} steps; keep large values elsewhere, and record where"
            )
        if code not in (b"ok", b"already"):
            raise NodeCancelled(f"node '{self._attempt.claim.instance_id}' is another worker's by now")
        self._steps.note(write.entry)


def _storable(details: Any) -> Any:
    """Details as they can be stored; nothing of them if they cannot, as the step is paid for."""
    if not details:
        return {}
    try:
        return wire.loads(wire.dumps(dict(details), path="details", limit=MOST_DETAIL_BYTES))
    except (SerializationError, TypeError, ValueError) as error:
        return {"not_kept": clip(str(error), LONGEST_ERROR)}
