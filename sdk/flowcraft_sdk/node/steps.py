"""The steps that handlers take: calls whose results are recorded in the run."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any


class StepCalls:
    """Steps of a handler that is a plain function."""

    def step(
        self,
        name: str,
        call: Callable[..., Any],
        /,
        *args: Any,
        retries: int = 0,
        timeout: float | timedelta | str | None = None,
        retry_delay: float | timedelta | str = 1.0,
        **kwargs: Any,
    ) -> Any:
        """Call a function once: its result is recorded, and answers a further attempt at the node.

        Args:
            name: What the step is called, 200 characters at most; a name that was used before gets a counter, `#2`.
            call: What is called, with `args` and `kwargs`.
            *args: What it gets.
            retries: How often it is called again when it raises.
            timeout: How long a call may take: seconds, a timedelta, or a text such as `30s`. It runs in a thread of its own then.
            retry_delay: The pause before it is called again, which doubles each time, up to 30 s.
            **kwargs: What it gets by name.

        Returns:
            Its result, as it is stored: a JSON value.

        Raises:
            StepMismatchError: An earlier attempt asked for another step here.
            StepLimitError: The node has 1,000 steps, or they have given 16 MiB.
            StepTimeoutError: The last call took too long.
            SerializationError: The result cannot be stored.
            NodeCancelled: The handler is to stop.
        """
        raise AttributeError("a node context comes from the engine")

    def gather(self, *calls: Callable[[], Any]) -> list[Any]:
        """Make calls at the same time, each in a thread, and wait for all of them. Each has an order of steps of its own.

        Example:
            ```python
            pages = ctx.gather(*[lambda url=url: ctx.step(f"fetch:{url}", fetch, url) for url in urls])
            ```

        Args:
            *calls: What is called, without arguments.

        Returns:
            Their results, in the order of the calls.

        Raises:
            Exception: What the first of them in this order has raised, once all have ended.
        """
        raise AttributeError("a node context comes from the engine")


class AsyncStepCalls:
    """Steps of a handler that is a coroutine."""

    async def step(
        self,
        name: str,
        call: Callable[..., Any],
        /,
        *args: Any,
        retries: int = 0,
        timeout: float | timedelta | str | None = None,
        retry_delay: float | timedelta | str = 1.0,
        **kwargs: Any,
    ) -> Any:
        """Call a function or a coroutine function once: its result is recorded, and answers a further attempt at the node.

        The step has its place in the order of steps by when this is called, not by when it is awaited.

        Args:
            name: What the step is called, 200 characters at most; a name that was used before gets a counter, `#2`.
            call: What is called, with `args` and `kwargs`; a plain function in a thread.
            *args: What it gets.
            retries: How often it is called again when it raises.
            timeout: How long a call may take: seconds, a timedelta, or a text such as `30s`.
            retry_delay: The pause before it is called again, which doubles each time, up to 30 s.
            **kwargs: What it gets by name.

        Returns:
            Its result, as it is stored: a JSON value.

        Raises:
            StepMismatchError: An earlier attempt asked for another step here.
            StepLimitError: The node has 1,000 steps, or they have given 16 MiB.
            StepTimeoutError: The last call took too long.
            SerializationError: The result cannot be stored.
        """
        raise AttributeError("a node context comes from the engine")

    async def gather(self, *awaitables: Awaitable[Any]) -> list[Any]:
        """Run awaitables at the same time and wait for all of them. Each has an order of steps of its own.

        Example:
            ```python
            pages = await ctx.gather(*[ctx.step(f"fetch:{url}", fetch, url) for url in urls])
            ```

        Args:
            *awaitables: Steps, or coroutines that take steps.

        Returns:
            Their results, in the order of the awaitables.

        Raises:
            Exception: What the first of them in this order has raised, once all have ended.
        """
        raise AttributeError("a node context comes from the engine")
