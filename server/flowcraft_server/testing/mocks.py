"""What stands in for nodes in a test case: answers in place of handlers, and time that the test clock passes."""

import asyncio
import builtins
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowcraft_sdk.node import NodeResult, NonRetryableError
from flowcraft_server.blueprints.linting.test_cases import answers_of
from flowcraft_server.blueprints.model import BUILTIN_USES, Blueprint, Node
from flowcraft_server.config.handler import Handler
from flowcraft_server.engine.contexts import AwaitedNodeContext
from flowcraft_server.engine.failures import NodeTimeout

MOCK = "flowcraft.mock"
"""The handler of nodes that the engine would run itself, and of items."""

WAITS = ("wait", "webhook")
_WORKER_PARAM = {"map": "uses", "batch-scatter": "workerUsesKey"}


class NoAnswer(NonRetryableError):
    """A mocked node was run more often, or for more items, than its mock has answers for."""


@dataclass(eq=False)
class _Delayed:
    """A mocked node that waits for the test clock.

    Attributes:
        due: ms of the test clock.
    """

    due: float
    done: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop


class DelayedNodes:
    """Mocked nodes that wait for the test clock; they occupy no thread.

    Args:
        now: the time in ms, by the test clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._waiting: list[_Delayed] = []

    def __len__(self) -> int:
        with self._lock:
            return len(self._waiting)

    async def wait(self, milliseconds: float) -> None:
        """Wait until the clock was moved so far."""
        loop = asyncio.get_running_loop()
        delayed = _Delayed(await asyncio.to_thread(self._now) + milliseconds, loop.create_future(), loop)
        with self._lock:
            self._waiting.append(delayed)
        try:
            await delayed.done
        finally:
            with self._lock:
                if delayed in self._waiting:
                    self._waiting.remove(delayed)

    def next_due(self) -> float | None:
        """The time at which the first of them goes on, in ms; None if there is none."""
        with self._lock:
            return min((delayed.due for delayed in self._waiting), default=None)

    def release(self, now: float) -> None:
        """Let those go on whose time has come. They count as waiting no longer, at once."""
        with self._lock:
            due = [delayed for delayed in self._waiting if delayed.due <= now]
            self._waiting = [delayed for delayed in self._waiting if delayed.due > now]
        for delayed in due:
            delayed.loop.call_soon_threadsafe(_finish, delayed.done)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Mocks:
    """The mocks of one test case.

    Args:
        blueprint: the blueprint that is tested.
        mocks: by node what it returns, as the case has it.
        delayed: where mocked nodes wait for the test clock.
    """

    def __init__(self, blueprint: Blueprint, mocks: Mapping[str, Any], delayed: DelayedNodes) -> None:
        self._nodes = {node.id: node for node in blueprint.nodes}
        self._answers = {node: answers_of(mock) for node, mock in mocks.items()}
        self._delayed = delayed
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, int | None], int] = defaultdict(int)
        self.blueprint = blueprint

    def in_place(self, queues: Mapping[str, str]) -> Blueprint:
        """The blueprint with mocks in place of nodes.

        Args:
            queues: queues of handlers, by name.
        """
        nodes = tuple(self._mocked(node, queues) if node.id in self._answers else node for node in self.blueprint.nodes)
        return replace(self.blueprint, nodes=nodes)

    def _mocked(self, node: Node, queues: Mapping[str, str]) -> Node:
        if node.uses in WAITS:
            return node
        if any("items" in answer for answer in self._answers[node.id]):
            left_out = ("call", "inputs", "outputs")
            params = {name: value for name, value in node.params.items() if name not in left_out}
            return replace(node, params={**params, _WORKER_PARAM[node.uses]: MOCK})
        if node.uses in BUILTIN_USES:
            return replace(node, uses=MOCK)
        config = replace(node.config, queue=node.config.queue or queues.get(node.uses))
        return replace(node, uses=_mock_of(node.uses), config=config)

    def handlers(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """The handlers that stand in, by the names that the nodes now use; params and timeouts are those of the real ones."""
        own = {MOCK: Handler(MOCK, self.run, is_async=True)}
        for node_id in self._answers:
            uses = self._nodes[node_id].uses
            if uses in BUILTIN_USES:
                continue
            name, real = _mock_of(uses), handlers.get(uses)
            own[name] = (
                Handler(name, self.run, is_async=True)
                if real is None
                else replace(real, name=name, function=self.run, is_async=True, resources=(), optional_resources=())
            )
        return own

    def signal_for(self, node_id: str) -> Mapping[str, Any] | None:
        """The next answer of a node that waits; None if it has no mock, or no answer is left."""
        if node_id not in self._answers:
            return None
        answers, number = self._answers[node_id], self._next_call(node_id, None)
        return answers[min(number, len(answers) - 1)]

    def _next_call(self, node_id: str, item: int | None) -> int:
        with self._lock:
            number = self._calls[node_id, item]
            self._calls[node_id, item] += 1
        return number

    async def run(self, ctx: AwaitedNodeContext) -> Any:
        """The handler of mocked nodes and of their items."""
        answer = self._answer(ctx)
        await self._pass(ctx, answer.get("delay"))
        if "error" in answer:
            raise made_error(answer["error"])
        for key, value in (answer.get("writes") or {}).items():
            await ctx.context.set(key, value)
        output = answer.get("output")
        if ctx.item is None:
            for key, value in self._written(ctx.node_id, output):
                await ctx.context.set(key, value)
        return NodeResult(output, answer.get("action"))

    def _answer(self, ctx: AwaitedNodeContext) -> Mapping[str, Any]:
        answers = self._answers[ctx.node_id]
        number = self._next_call(ctx.node_id, ctx.item)
        if ctx.item is None:
            return answers[min(number, len(answers) - 1)]
        answer = next(answer for answer in answers if "items" in answer)
        if ctx.item >= len(answer["items"]):
            have = f"mocks.{ctx.node_id}.items has {len(answer['items'])}"
            raise NoAnswer(f"there is no answer for item {ctx.item}: {have}")
        found: Mapping[str, Any] = answer["items"][ctx.item]
        return found

    async def _pass(self, ctx: AwaitedNodeContext, delay: float | None) -> None:
        """Take the time that the answer takes, no longer than the node may."""
        if not delay:
            return
        timeout = ctx._attempt.timeout
        if timeout is None or delay < timeout * 1000:
            await self._delayed.wait(delay)
            return
        await self._delayed.wait(timeout * 1000)
        raise NodeTimeout(f"node '{ctx._attempt.claim.instance_id}' took longer than its timeout of {timeout:g} s")

    def _written(self, node_id: str, output: Any) -> Iterable[tuple[str, Any]]:
        """What the engine writes to the context when such a node completes: a subflow its outputs, a batch its list."""
        node = self._nodes[node_id]
        if node.uses == "subflow":
            outputs = node.params.get("outputs") or {}
            if len(outputs) == 1:
                return [(name, output) for name in outputs]
            if outputs and not isinstance(output, Mapping):
                names = ", ".join(outputs)
                raise NoAnswer(f"the mock of subflow '{node_id}' needs a mapping as its output, with {names}")
            return [(name, output[name]) for name in outputs if name in output]
        key = node.params.get("outputKey")
        return [(key, output)] if node.uses == "map" and isinstance(key, str) else []


def _mock_of(uses: str) -> str:
    return f"{MOCK}:{uses}"


def made_error(described: Mapping[str, Any]) -> Exception:
    """The exception that a mock describes: of a built-in type, or of one that is made for the name."""
    name, message = described.get("type") or "Exception", described.get("message") or ""
    retryable = described.get("retryable", True)
    known = getattr(builtins, name, None)
    if isinstance(known, type) and issubclass(known, Exception) and retryable:
        try:
            return known(message)
        except TypeError:  # it takes other arguments, as UnicodeDecodeError does
            pass
    module, _, bare = name.rpartition(".")
    bases = (Exception,) if retryable else (NonRetryableError,)
    made: type[Exception] = type(bare, bases, {"__module__": module or "builtins"})
    return made(message)
