"""Runs one handler for a unit test: no server, no worker; the context that it gets is the engine's own."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, cast

from loguru import logger
from pydantic import ValidationError

from flowcraft_sdk import ConfigurationError
from flowcraft_sdk.node import NodeCancelled, ReportedProgress
from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.memory_scripts import Bounds, Turn
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.model import Blueprint, Node
from flowcraft_server.config.handler import Handler
from flowcraft_server.config.lifespan import resource
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.claims import Claim
from flowcraft_server.engine.contexts import AwaitedNodeContext, BlockingNodeContext
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.outcome import unpack_result
from flowcraft_server.engine.steps import AttemptSteps
from flowcraft_server.engine.values import MISSING
from flowcraft_server.llm.absent import NO_MODEL
from flowcraft_server.store.link import StoreLink
from flowcraft_server.testing.handlers import as_runnable
from flowcraft_server.testing.steps import GivenSteps, TrialSteps


@dataclass(frozen=True)
class HandlerRun:
    """What a handler did.

    Attributes:
        output: Its output, as it would be stored.
        action: The action that it returned; None without one.
        writes: The context keys that it wrote, with their values as they would be stored.
        deletes: The context keys that it deleted.
        events: Its events of its own: names and data.
        progress: Its reports of progress: fractions (None if it gave none) and texts.
        dynamic_nodes: The nodes that it added.
        started: The runs that it started: blueprint ids and start contexts.
        streamed: The pieces of text that it streamed: the names of their parts and the texts.
        steps: What its steps have given, by their names; those that were given to it are not among them.
    """

    output: Any
    action: str | None
    writes: Mapping[str, Any]
    deletes: frozenset[str]
    events: tuple[tuple[str, Any], ...]
    progress: tuple[tuple[float | None, str], ...]
    dynamic_nodes: tuple[Any, ...]
    started: tuple[tuple[str, Any], ...] = ()
    streamed: tuple[tuple[str, str], ...] = ()
    steps: Mapping[str, Any] = field(default_factory=dict)


class _Replies:
    """A language model whose replies a function gives; for functions and coroutines."""

    def __init__(self, reply: Callable[[str], str], awaited: bool) -> None:
        self._reply = reply
        self._awaited = awaited

    def complete(self, prompt: str, **_: Any) -> Any:
        """Give the function's reply to a prompt."""
        reply = self._reply(prompt)
        return _given(reply) if self._awaited else reply

    def stream(self, prompt: str, **_: Any) -> Any:
        """Give it as one piece."""
        reply = self._reply(prompt)
        return _given_in_pieces(reply) if self._awaited else iter([reply])


async def _given(reply: str) -> str:
    return reply


async def _given_in_pieces(reply: str) -> AsyncIterator[str]:
    yield reply


class _NoMemories:
    """Memories in which nothing is, and of which nothing stays."""

    def recall(self, memory_id: str) -> Sequence[Turn]:
        """Nothing."""
        return ()

    def remember(self, attempt: Attempt, memory_id: str, messages: int, bounds: Bounds, turn: bytes) -> None:
        """Keep nothing."""


class _Services:
    """The messages of the node, and a note of the runs that it starts."""

    def __init__(self, messages: Sequence[Any], steps: Mapping[str, Any]) -> None:
        self.memories = _NoMemories()
        self.given_steps = GivenSteps(steps)
        self._left = deque(wire.loads(wire.dumps(message, path="message")) for message in messages)
        self.started: list[tuple[str, Any]] = []
        self.streamed: list[tuple[str, str]] = []
        self._attempt: Attempt | None = None

    def messages_of(self, attempt: Attempt) -> Self:
        """This, as there is one attempt."""
        self._attempt = attempt
        return self

    def notify(self) -> None:
        """There is nothing to wake."""

    def steps_of(self, attempt: Attempt, runner: Any) -> AttemptSteps:
        """The steps of the attempt, of which those that are given are not called."""
        if attempt.steps is None:
            attempt.steps = TrialSteps(attempt, self.given_steps, runner, None)
        return attempt.steps

    def receive(self, timeout: float | None) -> Any:
        """The next message.

        Raises:
            NodeCancelled: the run is to stop.
            TimeoutError: none is left; nothing is waited for.
        """
        if self._attempt is not None and self._attempt.stopped:
            raise NodeCancelled("the run is to stop")
        if not self._left:
            raise TimeoutError("no message is left of those that `messages` gives")
        return self._left.popleft()

    async def receive_async(self, timeout: float | None) -> Any:
        """As `receive`."""
        return self.receive(timeout)

    def stream_text(self, attempt: Attempt, part: str, text: str) -> None:
        """Take note of the text."""
        self.streamed.append((part, text))

    def webhook_key(self, attempt: Attempt, node_id: str) -> str:
        """A key that no API takes."""
        return f"key-of-{node_id}"

    def start_child(
        self,
        attempt: Attempt,
        blueprint_id: str,
        context: Any,
        key: str | None,
        tags: Any,
        run_timeout: Any,
        on_parent_cancel: Any,
    ) -> str:
        """Take note of the run; returns an id for it."""
        self.started.append((blueprint_id, context))
        return f"{attempt.claim.run_id}~s{len(self.started)}"

    def child_result(self, run_id: str) -> tuple[Any] | None:
        """There is none.

        Raises:
            ConfigurationError: always: no run is really started.
        """
        raise ConfigurationError("run_handler starts no runs, so ctx.run_child has no result: use TestEnvironment")


class _Fields:
    """The start context in place of a run's record."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._stored = {f"c:{key}": wire.dumps(value, path=f"context.{key}") for key, value in context.items()}

    def read_fields(self, _key: str, fields: Sequence[str]) -> list[bytes | None]:
        """Fields of the record; there is none but those of the context."""
        return [self._stored.get(name) for name in fields]


class _Trial:
    """A handler with all that its one attempt takes."""

    def __init__(
        self,
        handler: Callable[..., Any],
        input: Any,
        params: Mapping[str, Any],
        context: Mapping[str, Any],
        llm: Any,
        about: Mapping[str, Any],
        cancelled: bool,
        resources: Any,
        last_progress: ReportedProgress | None,
        messages: Sequence[Any],
        steps: Mapping[str, Any],
    ) -> None:
        self.services = _Services(messages, steps)
        self.handler = as_runnable(getattr(handler, "__name__", "handler"), handler)
        _check_params(self.handler, params)
        node_id, blueprint_id = about["node_id"], about["blueprint_id"]
        node = Node(node_id, self.handler.name, params=dict(params))
        plan = compile_blueprint(Blueprint(blueprint_id, (node,)))
        item = about["item"]
        instance_id = node_id if item is None else f"{node_id}[{item}]"
        claim = Claim(
            about["run_id"], instance_id, node_id, item, plan.hash, blueprint_id, about["attempt"], "1:0", 1, 0, 0, (), 0,
            None, None, 0, (),
        )  # fmt: skip
        self.fields = _Fields(context)
        self.engine = Engine(cast("StoreLink", self.fields), Partitions("test", 1))
        self.events: list[tuple[str, Any]] = []
        self.progress: list[tuple[float | None, str]] = []
        self.attempt = self.engine.open(claim, plan, plan.nodes[node_id], replace(self.handler, params={}))
        self.attempt.input = wire.loads(wire.dumps(input, path="input"))
        if last_progress is not None:
            self.attempt.last_progress = wire.dumps([last_progress.fraction, last_progress.message])
        self.resources = resources
        self.taken = _taken(self.handler, resources)
        if cancelled:
            self.attempt.request_stop("cancel")
        by_function = callable(llm) and not hasattr(llm, "complete")
        self.llm = NO_MODEL if llm is None else _Replies(llm, self.handler.is_async) if by_function else llm

    def note(self, _attempt: Attempt, kind: str, rest: bytes) -> None:
        """Take note of progress or an event."""
        if kind == "g":
            fraction, message = wire.loads(rest)
            self.progress.append((fraction, message))
        else:
            name, _, data = rest.partition(b"|")
            self.events.append((name.decode(), wire.loads(data)))

    def ended(self, returned: Any) -> HandlerRun:
        """What the handler did, given what it returned."""
        output, action, added = unpack_result(returned, is_async=self.handler.is_async)
        values = self.attempt.values
        return HandlerRun(
            output=wire.loads(self.engine.encode_output(self.attempt, output)),
            action=action,
            writes={key: wire.loads(raw) for key, raw in values.writes.items()},
            deletes=frozenset(values.deletes),
            events=tuple(self.events),
            progress=tuple(self.progress),
            dynamic_nodes=added,
            started=tuple(self.services.started),
            streamed=tuple(self.services.streamed),
            steps=dict(self.services.given_steps.recorded),
        )

    def call(self) -> HandlerRun:
        """Call a function."""
        ctx = BlockingNodeContext(
            self.engine, self.attempt, _logger_of, self.note, self.llm, self.resources, services=self.services
        )
        return self.ended(self.handler.function(ctx, **self.taken))

    async def call_awaited(self) -> HandlerRun:
        """Call a coroutine function."""

        async def read(key: str, fields: list[str]) -> list[bytes | None]:
            return self.fields.read_fields(key, fields)

        key = self.engine.run_key(self.attempt.claim.run_id)
        ctx = AwaitedNodeContext(
            key, self.attempt, _logger_of, self.note, self.llm, read, self.resources, services=self.services
        )
        returned = await self.handler.function(ctx, **self.taken)
        ctx.context.check_awaited()
        return self.ended(returned)


def run_handler(
    handler: Callable[..., Any],
    input: Any = None,
    *,
    params: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    llm: Any = None,
    resources: Any = None,
    last_progress: ReportedProgress | None = None,
    messages: Sequence[Any] = (),
    steps: Mapping[str, Any] | None = None,
    attempt: int = 1,
    item: int | None = None,
    cancelled: bool = False,
    run_id: str = "run",
    node_id: str = "node",
    blueprint_id: str = "blueprint",
) -> HandlerRun:
    """Run a handler once, as the node of a run; what it raises is raised here.

    Example:
        ```python
        done = run_handler(greet, "Ada", params={"greeting": "Hello"}, context={"tone": "calm"})
        assert done.output == "Hello Ada"
        assert done.writes == {"greeted": True}
        ```

    Args:
        handler: The function, coroutine function or class, decorated or not.
        input: What `ctx.input` is.
        params: What `ctx.params` is.
        context: What `ctx.context` reads.
        llm: What `ctx.llm` is: an object with `complete`, or a function from prompts to replies.
        resources: What `ctx.resources` is: a mapping or an object, in the place of what the deployment's lifespan yields; the
            handler gets those that it takes by keyword, too.
        last_progress: What `ctx.last_progress` is.
        messages: What `ctx.receive` gives, one after the other; then it raises `TimeoutError`.
        steps: What steps have given in an earlier attempt, by their names: these are not called.
        attempt: What `ctx.attempt` is.
        item: What `ctx.item` is.
        cancelled: Whether the run is to stop, so that `ctx.check_cancelled()` raises.
        run_id: What `ctx.run_id` is.
        node_id: What `ctx.node_id` is.
        blueprint_id: What `ctx.blueprint_id` is.

    Returns:
        What it did.

    Raises:
        HandlerError: It cannot be a handler.
        ConfigurationError: The params do not fit its model, or it takes a resource that is not given; or it is a coroutine
            function, and an event loop is running: await `run_handler_async` there.
        SerializationError: Input, context or output cannot be stored.
    """
    about = {"attempt": attempt, "item": item, "run_id": run_id, "node_id": node_id, "blueprint_id": blueprint_id}
    trial = _Trial(
        handler,
        input,
        params or {},
        context or {},
        llm,
        about,
        cancelled,
        resources,
        last_progress,
        messages,
        steps or {},
    )
    if not trial.handler.is_async:
        return trial.call()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(trial.call_awaited())
    raise ConfigurationError("an event loop is running: write `await run_handler_async(...)`")


async def run_handler_async(
    handler: Callable[..., Any],
    input: Any = None,
    *,
    params: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    llm: Any = None,
    resources: Any = None,
    last_progress: ReportedProgress | None = None,
    messages: Sequence[Any] = (),
    steps: Mapping[str, Any] | None = None,
    attempt: int = 1,
    item: int | None = None,
    cancelled: bool = False,
    run_id: str = "run",
    node_id: str = "node",
    blueprint_id: str = "blueprint",
) -> HandlerRun:
    """Run a handler once, in the running event loop; a plain function in a thread.

    Args:
        handler: As in `run_handler`, and so are all others.
        input: What `ctx.input` is.
        params: What `ctx.params` is.
        context: What `ctx.context` reads.
        llm: What `ctx.llm` is.
        resources: What `ctx.resources` is: a mapping or an object, in the place of what the deployment's lifespan yields; the
            handler gets those that it takes by keyword, too.
        last_progress: What `ctx.last_progress` is.
        messages: What `ctx.receive` gives, one after the other; then it raises `TimeoutError`.
        steps: What steps have given in an earlier attempt, by their names: these are not called.
        attempt: What `ctx.attempt` is.
        item: What `ctx.item` is.
        cancelled: Whether the run is to stop.
        run_id: What `ctx.run_id` is.
        node_id: What `ctx.node_id` is.
        blueprint_id: What `ctx.blueprint_id` is.

    Returns:
        What it did.

    Raises:
        HandlerError: It cannot be a handler.
        ConfigurationError: The params do not fit its model, or it takes a resource that is not given.
        SerializationError: Input, context or output cannot be stored.
    """
    about = {"attempt": attempt, "item": item, "run_id": run_id, "node_id": node_id, "blueprint_id": blueprint_id}
    trial = _Trial(
        handler,
        input,
        params or {},
        context or {},
        llm,
        about,
        cancelled,
        resources,
        last_progress,
        messages,
        steps or {},
    )
    return await (trial.call_awaited() if trial.handler.is_async else asyncio.to_thread(trial.call))


def _check_params(handler: Handler, params: Mapping[str, Any]) -> None:
    """Refuse what `flowcraft-server check` would refuse."""
    model = handler.spec.params if handler.spec is not None else None
    if model is None:
        return
    try:
        model.model_validate(dict(params))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigurationError(f"params do not fit {model.__name__}: {faults}") from None


def _taken(handler: Handler, resources: Any) -> dict[str, Any]:
    """The resources that a handler takes by keyword."""
    found = {name: resource(resources, name, MISSING) for name in (*handler.resources, *handler.optional_resources)}
    missing = [name for name in handler.resources if found[name] is MISSING]
    if missing:
        raise ConfigurationError(
            f"the handler takes {', '.join(missing)}: give it as resources={{'{missing[0]}': ...}}"
        )
    return {name: value for name, value in found.items() if value is not MISSING}


def _logger_of(attempt: Attempt) -> Any:
    return logger.bind(run=attempt.claim.run_id, node=attempt.claim.instance_id)
