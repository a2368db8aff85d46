"""The `ctx` that handlers get: plain calls in a function, awaited ones in a coroutine."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from datetime import timedelta
from itertools import islice
from threading import get_ident
from typing import Any, Protocol

from flowcraft_sdk._operations.start import OnParentCancel
from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.node import (
    AsyncNodeContext,
    AsyncRunContext,
    NodeCancelled,
    NodeContext,
    ReportedProgress,
    RunContext,
)
from flowcraft_sdk.node.method_names import called_as
from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.bounds import (
    LONGEST_MESSAGE,
    LONGEST_NAME,
    MOST_EVENT_BYTES,
    MOST_KEYS,
    check_key,
    check_span,
    check_text,
    shown,
)
from flowcraft_server.blueprints.suggestions import did_you_mean
from flowcraft_server.engine.attempt import Attempt, Messages
from flowcraft_server.engine.context_calls import ContextCall, UnawaitedCall
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.memories import Memories
from flowcraft_server.engine.step_calls import AwaitedStepCalls, BlockingStepCalls
from flowcraft_server.engine.step_sequences import runner_now
from flowcraft_server.engine.steps import AttemptSteps
from flowcraft_server.engine.values import MISSING

EventSink = Callable[[Attempt, str, bytes], None]
Seconds = float | timedelta | str
SHORTEST_CHILD_PAUSE, LONGEST_CHILD_PAUSE = 0.02, 1.0
"""Seconds between two looks whether a child run has ended."""

AsyncRead = Callable[[str, list[str]], Awaitable[list[bytes | None]]]


class HandlerServices(Protocol):
    """What a context asks of the worker that it is in."""

    @property
    def memories(self) -> Memories:
        """What agents keep of their conversations."""

    def messages_of(self, attempt: Attempt) -> Messages:
        """What takes the messages that are sent to the node of an attempt."""

    def stream_text(self, attempt: Attempt, part: str, text: str) -> None:
        """Stream text of an attempt to clients that follow it."""

    def steps_of(self, attempt: Attempt, runner: Any) -> AttemptSteps:
        """The steps of an attempt.

        Args:
            runner: the task, or the number of the thread, in which its handler runs.
        """

    def webhook_key(self, attempt: Attempt, node_id: str) -> str:
        """The key of a `webhook` node of the run."""

    def start_child(
        self,
        attempt: Attempt,
        blueprint_id: str,
        context: Any,
        key: str | None,
        tags: Iterable[str],
        run_timeout: Seconds | None,
        on_parent_cancel: OnParentCancel,
    ) -> str:
        """Start a run below that of an attempt; returns its id."""

    def child_result(self, run_id: str) -> tuple[Any] | None:
        """The result of a run that `start_child` has started, None while it has not ended.

        Raises:
            RunUnsuccessfulError: it has not completed.
        """


class _NoMapping:
    """Says how a run's context is read and written to handlers that take it for a dict: its values are in Redis."""

    _call = "{}"

    def __getitem__(self, key: Any) -> Any:
        raise TypeError(f"ctx.context is no dict: write {self._call.format(f'ctx.context.get({key!r:.60})')}")

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(f"ctx.context is no dict: write {self._call.format(f'ctx.context.set({key!r:.60}, ...)')}")

    def __contains__(self, key: Any) -> bool:
        raise TypeError(f"ctx.context is no dict: write {self._call.format(f'ctx.context.has({key!r:.60})')}")

    def __iter__(self) -> Any:
        raise TypeError(
            f"ctx.context is no dict: name what is read, {self._call.format('ctx.context.get_many([...])')}"
        )


@called_as("ctx.context")
class BlockingContext(_NoMapping, RunContext):
    """The run's context for a plain function."""

    def __init__(self, engine: Engine, attempt: Attempt) -> None:
        self._engine = engine
        self._attempt = attempt

    def get(self, key: str, default: Any = None) -> Any:
        key = check_key(key)
        value = self._engine.read(self._attempt, [key])[key]
        return default if value is MISSING else value

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        found = self._engine.read(self._attempt, _checked(keys))
        return {key: value for key, value in found.items() if value is not MISSING}

    def has(self, key: str) -> bool:
        key = check_key(key)
        return self._engine.read(self._attempt, [key])[key] is not MISSING

    def set(self, key: str, value: Any) -> None:
        self._attempt.values.set(key, value)

    def delete(self, key: str) -> None:
        self._attempt.values.delete(key)


def _checked(keys: Iterable[str]) -> list[str]:
    """Context keys that are to be read, as plain texts; what gives them may never end."""
    wanted = [check_key(key) for key in islice(keys, MOST_KEYS + 1)]
    if len(wanted) > MOST_KEYS:
        raise ConfigurationError(f"{MOST_KEYS:,} context keys can be read at most at once")
    return wanted


@called_as("ctx.context")
class AwaitedContext(_NoMapping, AsyncRunContext):
    """The run's context for a coroutine: reads do not hold up the loop."""

    _call = "await {}"

    def __init__(self, run_key: str, attempt: Attempt, read: AsyncRead) -> None:
        self._run_key = run_key
        self._values = attempt.values
        self._read = read
        self._waiting: set[ContextCall[Any]] = set()
        self.waiting_steps: set[ContextCall[Any]] = set()

    def unawaited(self, raised: Exception | None = None) -> UnawaitedCall | None:
        """The error about a call that the handler did not await; None if it awaited each of them.

        Args:
            raised: what the handler raised: what else it was about to await is no mistake then, unless it was used as a value.
        """
        used = raised is None or isinstance(raised, TypeError | AttributeError)
        waiting = [(call.place, f"context.{call.shown}") for call in self._waiting]
        waiting += [(call.place, call.shown) for call in self.waiting_steps if used]
        if not waiting:
            return None
        (line, file), call = min(waiting)
        where = f"line {line} of {os.path.basename(file)}"
        return UnawaitedCall(f"ctx.{call} was not awaited, so it did nothing: put `await` before it ({where})")

    def check_awaited(self) -> None:
        """Make sure that the handler awaited each of its calls.

        Raises:
            UnawaitedCall: it did not.
        """
        if (error := self.unawaited()) is not None:
            raise error

    async def _find(self, keys: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        ask: dict[str, tuple[str, ...]] = {}
        for key in keys:
            own = self._values.own(key)
            if own is not MISSING or key in self._values.deletes:
                found[key] = own
            elif self._values.knows(self._values.fields(key)):
                found[key] = self._values.known(key)
            else:
                ask[key] = self._values.fields(key)
        if ask:
            wanted = list(dict.fromkeys(field for fields in ask.values() for field in fields))
            created, *values = await self._read(self._run_key, ["cr", *wanted])
            self._values.claim.check_incarnation(created)
            got = dict(zip(wanted, values, strict=True))
            found.update({key: self._values.pick(key, got) for key in ask})
        return found

    def get(self, key: str, default: Any = None) -> ContextCall[Any]:
        async def call() -> Any:
            name = check_key(key)
            value = (await self._find([name]))[name]
            return default if value is MISSING else value

        return ContextCall(f"get({shown(key)})", self._waiting, call)

    def get_many(self, keys: Iterable[str]) -> ContextCall[dict[str, Any]]:
        async def call() -> dict[str, Any]:
            return {key: value for key, value in (await self._find(_checked(keys))).items() if value is not MISSING}

        return ContextCall("get_many(...)", self._waiting, call)

    def has(self, key: str) -> ContextCall[bool]:
        async def call() -> bool:
            name = check_key(key)
            return (await self._find([name]))[name] is not MISSING

        return ContextCall(f"has({shown(key)})", self._waiting, call)

    def set(self, key: str, value: Any) -> ContextCall[None]:
        async def call() -> None:
            self._values.set(key, value)

        return ContextCall(f"set({shown(key)}, ...)", self._waiting, call)

    def delete(self, key: str) -> ContextCall[None]:
        async def call() -> None:
            self._values.delete(key)

        return ContextCall(f"delete({shown(key)})", self._waiting, call)


_FIELDS = (
    "input",
    "params",
    "run_id",
    "node_id",
    "blueprint_id",
    "attempt",
    "item",
    "fencing_token",
    "context",
    "llm",
    "resources",
)


@called_as("ctx")
class _Shared:
    """What both kinds of context have in common."""

    _services: HandlerServices

    def __init__(
        self,
        attempt: Attempt,
        make_logger: Callable[[Attempt], Any],
        emit: EventSink,
        services: HandlerServices,
        resources: Any,
        runner: Any,
    ) -> None:
        claim = attempt.claim
        self.input = attempt.input
        self.params: Mapping[str, Any] = attempt.params
        self.run_id = claim.run_id
        self.node_id = claim.node_id
        self.blueprint_id = claim.blueprint_id
        self.attempt = claim.attempt
        self.item = claim.item
        self.fencing_token = claim.claims
        self.resources = resources
        self._make_logger = make_logger
        self._attempt = attempt
        self._emit = emit
        self._services = services
        self._runner = runner

    @property
    def _steps(self) -> AttemptSteps:
        return self._services.steps_of(self._attempt, self._runner)

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there.

        Raises:
            AttributeError: always, with the name that was probably meant.
        """
        known = [each for each in dir(type(self)) if not each.startswith("_")] + [*_FIELDS]
        if name in ("get", "set", "has", "delete", "get_many"):
            raise AttributeError(f"the ctx of a handler has no '{name}'; did you mean 'ctx.context.{name}'?")
        raise AttributeError(f"the ctx of a handler has no '{name}'{did_you_mean(name, known)}")

    @property
    def last_progress(self) -> ReportedProgress | None:
        raw = self._attempt.last_progress
        return None if raw is None else ReportedProgress(*wire.loads(raw))

    @property
    def actions(self) -> tuple[str, ...]:
        if self._attempt.claim.item is not None:
            return ()
        taken = (edge.action for edge in self._attempt.node.edges)
        return tuple(dict.fromkeys(action for action in taken if action is not None))

    @property
    def iteration(self) -> int:
        return self._attempt.claim.iteration

    @property
    def idempotency_key(self) -> str:
        return self._attempt.claim.idempotency_key

    @property
    def logger(self) -> Any:
        return self._make_logger(self._attempt)

    @property
    def cancelled(self) -> bool:
        return self._attempt.stopped

    def check_cancelled(self) -> None:
        if self._attempt.stopped:
            raise NodeCancelled(f"node '{self.node_id}' of run {self.run_id} is to stop: {self._attempt.stop_reason}")

    def progress(self, fraction: float | None, message: str = "") -> None:
        done = None if fraction is None else float(fraction)
        if done is not None and not 0.0 <= done <= 1.0:
            raise ValueError(f"progress is a fraction from 0 to 1, got {shown(fraction)}")
        text = str.__str__(message if issubclass(type(message), str) else str(message))
        self._emit(self._attempt, "g", wire.dumps([done, text[:LONGEST_MESSAGE]]))

    def emit(self, name: str, data: Any = None) -> None:
        name = check_text(name, "an event name", LONGEST_NAME)
        if "|" in name:
            raise ValueError(f"an event name is text without '|', got {name!r}")
        encoded = wire.dumps(data, path=f"event '{name}'", limit=MOST_EVENT_BYTES)
        self._emit(self._attempt, "e", name.encode() + b"|" + encoded)

    def stream_text(self, text: str, *, part: str = "") -> None:
        if not isinstance(text, str):
            raise TypeError(f"stream_text takes a text, got {shown(text)}")
        name = check_text(part, "the name of a part", LONGEST_NAME) if part else ""
        if text:
            self._services.stream_text(self._attempt, name, str.__str__(text))


@called_as("ctx")
class BlockingNodeContext(_Shared, BlockingStepCalls, NodeContext):
    """The `ctx` of a plain function."""

    def __init__(
        self,
        engine: Engine,
        attempt: Attempt,
        make_logger: Callable[[Attempt], Any],
        emit: EventSink,
        llm: Any,
        resources: Any = None,
        *,
        services: HandlerServices,
    ) -> None:
        _Shared.__init__(self, attempt, make_logger, emit, services, resources, get_ident())
        self.context = BlockingContext(engine, attempt)
        self.llm = llm

    def start_child(
        self,
        blueprint_id: str,
        ctx: Any = None,
        *,
        key: str | None = None,
        tags: Iterable[str] = (),
        run_timeout: float | timedelta | str | None = None,
        on_parent_cancel: OnParentCancel = "cancel",
    ) -> str:
        return self._services.start_child(self._attempt, blueprint_id, ctx, key, tags, run_timeout, on_parent_cancel)

    def webhook_key(self, node_id: str) -> str:
        return self._services.webhook_key(self._attempt, node_id)

    def receive(self, timeout: Seconds | None = None) -> Any:
        return self._services.messages_of(self._attempt).receive(check_span(timeout, "timeout"))


class _Nothing:
    """What `progress` and `emit` give in a coroutine: they are done already, and may be awaited all the same."""

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


_DONE = _Nothing()


@called_as("ctx")
class AwaitedNodeContext(_Shared, AwaitedStepCalls, AsyncNodeContext):
    """The `ctx` of a coroutine."""

    context: AwaitedContext

    def __init__(
        self,
        run_key: str,
        attempt: Attempt,
        make_logger: Callable[[Attempt], Any],
        emit: EventSink,
        llm: Any,
        read: AsyncRead,
        resources: Any = None,
        *,
        services: HandlerServices,
    ) -> None:
        _Shared.__init__(self, attempt, make_logger, emit, services, resources, runner_now())
        self.context = AwaitedContext(run_key, attempt, read)
        self._unawaited_steps = self.context.waiting_steps
        self.llm = llm

    async def start_child(
        self,
        blueprint_id: str,
        ctx: Any = None,
        *,
        key: str | None = None,
        tags: Iterable[str] = (),
        run_timeout: float | timedelta | str | None = None,
        on_parent_cancel: OnParentCancel = "cancel",
    ) -> str:
        arguments = (self._attempt, blueprint_id, ctx, key, tags, run_timeout, on_parent_cancel)
        return await asyncio.to_thread(self._services.start_child, *arguments)

    async def run_child(
        self,
        blueprint_id: str,
        ctx: Any = None,
        *,
        key: str | None = None,
        tags: Iterable[str] = (),
        run_timeout: float | timedelta | str | None = None,
        on_parent_cancel: OnParentCancel = "cancel",
    ) -> Any:
        run_id = await self.start_child(
            blueprint_id, ctx, key=key, tags=tags, run_timeout=run_timeout, on_parent_cancel=on_parent_cancel
        )
        pause = SHORTEST_CHILD_PAUSE
        while (found := await asyncio.to_thread(self._services.child_result, run_id)) is None:
            await asyncio.sleep(pause)  # no thread is held meanwhile
            self.check_cancelled()
            pause = min(pause * 1.5, LONGEST_CHILD_PAUSE)
        return found[0]

    async def webhook_key(self, node_id: str) -> str:
        return await asyncio.to_thread(self._services.webhook_key, self._attempt, node_id)

    async def receive(self, timeout: Seconds | None = None) -> Any:
        return await self._services.messages_of(self._attempt).receive_async(check_span(timeout, "timeout"))

    def progress(self, fraction: float | None, message: str = "") -> Any:
        """Report progress; the call may be awaited, and need not be."""
        _Shared.progress(self, fraction, message)
        return _DONE

    def emit(self, name: str, data: Any = None) -> Any:
        """Add an event; the call may be awaited, and need not be."""
        _Shared.emit(self, name, data)
        return _DONE

    def stream_text(self, text: str, *, part: str = "") -> Any:
        """Stream text; the call may be awaited, and need not be."""
        _Shared.stream_text(self, text, part=part)
        return _DONE
