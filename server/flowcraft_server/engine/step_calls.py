"""`ctx.step` and `ctx.gather`, for functions and for coroutines."""

import asyncio
import inspect
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.node.method_names import called_as
from flowcraft_sdk.node.steps import AsyncStepCalls, StepCalls
from flowcraft_sdk.protocol.bounds import check_count, check_span, shown
from flowcraft_server.engine.context_calls import ContextCall
from flowcraft_server.engine.step_sequences import Sequence, enter, leave
from flowcraft_server.engine.step_threads import call_in_thread, call_together
from flowcraft_server.engine.steps import AttemptSteps

MOST_RETRIES = 1_000
MOST_BRANCHES = 1_000

Span = float | timedelta | str


@called_as("ctx")
class BlockingStepCalls(StepCalls):
    """Steps of a plain function."""

    @property
    @abstractmethod
    def _steps(self) -> AttemptSteps:
        """The steps of the attempt."""

    def step(
        self,
        name: str,
        call: Callable[..., Any] | None = None,
        /,
        *args: Any,
        retries: int = 0,
        timeout: Span | None = None,
        retry_delay: Span = 1.0,
        **kwargs: Any,
    ) -> Any:
        call, tries = _checked(name, call, retries, timeout, retry_delay)
        if inspect.iscoroutinefunction(call):
            raise TypeError(f"step {shown(name)} calls a coroutine function: make the handler one, too (async def)")
        return self._steps.begin(name).run(partial(call, *args, **kwargs), **tries)

    def gather(self, *calls: Callable[[], Any]) -> list[Any]:
        for call in calls:
            if not callable(call):
                raise TypeError(
                    f"ctx.gather takes functions without arguments, got {shown(call)}: write ctx.gather(lambda: ctx.step(...))"
                )
        branches = self._steps.branches(_count(len(calls)))
        return call_together([partial(_in_branch, branch, call) for branch, call in zip(branches, calls, strict=True)])


def _in_branch(branch: Sequence, call: Callable[[], Any]) -> Any:
    token = enter(branch)
    try:
        return call()
    finally:
        leave(token)


@called_as("ctx")
class AwaitedStepCalls(AsyncStepCalls):
    """Steps of a coroutine."""

    @property
    @abstractmethod
    def _steps(self) -> AttemptSteps:
        """The steps of the attempt."""

    _unawaited_steps: set[ContextCall[Any]]

    def step(
        self,
        name: str,
        call: Callable[..., Any] | None = None,
        /,
        *args: Any,
        retries: int = 0,
        timeout: Span | None = None,
        retry_delay: Span = 1.0,
        **kwargs: Any,
    ) -> ContextCall[Any]:
        call, tries = _checked(name, call, retries, timeout, retry_delay)
        step = self._steps.begin(name)
        execute = partial(_called, partial(call, *args, **kwargs), inspect.iscoroutinefunction(call))
        return ContextCall(f"step({shown(name)}, ...)", self._unawaited_steps, lambda: step.arun(execute, **tries))

    def gather(self, *awaitables: Awaitable[Any]) -> ContextCall[list[Any]]:
        for awaitable in awaitables:
            if not inspect.isawaitable(awaitable):
                raise TypeError(
                    f"ctx.gather takes awaitables, got {shown(awaitable)}: write ctx.gather(ctx.step(...), ...)"
                )
        branches = self._steps.branches(_count(len(awaitables)))
        return ContextCall("gather(...)", self._unawaited_steps, lambda: _gathered(branches, awaitables))


async def _called(call: Callable[[], Any], is_coroutine: bool) -> Any:
    value = call() if is_coroutine else await call_in_thread(call)
    return await value if inspect.isawaitable(value) else value


async def _gathered(branches: list[Sequence], awaitables: tuple[Awaitable[Any], ...]) -> list[Any]:
    """Run them all to their ends: what another one fails with ends no call that is paid for."""
    tasks = [asyncio.ensure_future(_branch(*each)) for each in zip(branches, awaitables, strict=True)]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
    for task in tasks:
        if not task.cancelled():
            task.exception()  # so that none is reported as never retrieved
    return [task.result() for task in tasks]


async def _branch(branch: Sequence, awaitable: Awaitable[Any]) -> Any:
    enter(branch)  # for this task alone
    return await awaitable


def _count(count: int) -> int:
    if count > MOST_BRANCHES:
        raise ConfigurationError(f"ctx.gather takes {MOST_BRANCHES:,} at most, got {count:,}")
    return count


def _checked(
    name: Any, call: Any, retries: Any, timeout: Any, retry_delay: Any
) -> tuple[Callable[..., Any], dict[str, Any]]:
    if callable(name):
        called = getattr(name, "__name__", "function")
        raise TypeError(
            f"a step begins with its name: write ctx.step({called!r}, {called}, ...), not ctx.step({called})"
        )
    if inspect.iscoroutine(call):
        called = call.__name__
        call.close()
        raise TypeError(f"a step calls the function itself: write ctx.step(name, {called}, ...), not {called}(...)")
    if not callable(call):
        raise TypeError(
            f"a step takes a function and its arguments, got {'none' if call is None else shown(call)}: "
            "write ctx.step(name, function, ...)"
        )
    return call, {
        "retries": check_count(retries, "retries", MOST_RETRIES),
        "timeout": check_span(timeout, "timeout"),
        "retry_delay": check_span(retry_delay, "retry_delay") or 0.0,
    }
