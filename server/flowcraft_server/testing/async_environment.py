"""`TestEnvironment` for tests that are coroutines: what waits is awaited, and the client is an `AsyncClient`."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flowcraft_sdk import AsyncClient
from flowcraft_server.testing.clock import TestClock
from flowcraft_server.testing.environment import TestEnvironment
from flowcraft_server.testing.sources import BlueprintSource
from flowcraft_server.worker.settings import WorkerSettings
from flowcraft_server.worker.worker import Worker


class AsyncTestClock:
    """The clock that the scripts read, as `TestClock` has it."""

    __test__ = False

    def __init__(self, clock: TestClock) -> None:
        self._clock = clock

    async def now(self) -> datetime:
        """Read the time as the scripts see it.

        Returns:
            The time, in UTC.
        """
        return await asyncio.to_thread(self._clock.now)

    async def advance(self, by: timedelta | float | str, *, keep_leases: bool = True) -> None:
        """Move the clock forward. Workers do at once what falls due.

        Args:
            by: Seconds, a timedelta, or a text such as `2d` or `1h30m`.
            keep_leases: Whether running nodes stay with their workers; False: all workers were silent for that time.

        Raises:
            ConfigurationError: `by` is no duration.
        """
        await asyncio.to_thread(self._clock.advance, by, keep_leases=keep_leases)

    async def advance_to_next_timer(self) -> timedelta:
        """Wait until nothing is ready or running, and move the clock to the timer that is due first.

        Returns:
            How far the clock was moved.

        Raises:
            LookupError: There is no timer.
            TimeoutError: A node is still running.
        """
        return await asyncio.to_thread(self._clock.advance_to_next_timer)

    async def until_next_timer(self) -> timedelta | None:
        """Look how far the clock has to be moved for the timer that is due first.

        Returns:
            The time, None if no timer is set.
        """
        return await asyncio.to_thread(self._clock.until_next_timer)


class AsyncTestEnvironment:
    """The real engine for a test that is a coroutine. Use it as an asynchronous context manager.

    Example:
        ```python
        async with AsyncTestEnvironment(blueprints="blueprints", handlers={"greet": greet}) as env:
            run = await env.client.start("greeting", {"name": "Ada"})
            await env.clock.advance("30d")
            assert await run.result(timeout=10) == "Hello Ada"
        ```

    Args:
        options: The arguments of `TestEnvironment`.

    Raises:
        ValueError: On entering, a blueprint has errors; the message lists them.
        HandlerError: A value of `handlers` cannot be a handler.
    """

    __test__ = False

    def __init__(self, **options: Any) -> None:
        self._put(TestEnvironment(**options))

    def _put(self, env: TestEnvironment) -> None:
        self.sync = env
        env._form = "async with AsyncTestEnvironment(...) as env:"
        self.clock = AsyncTestClock(env.clock)
        self._client: AsyncClient | None = None

    @classmethod
    def from_config(cls, path: str | Path = "flowcraft.yaml", **options: Any) -> Self:
        """Make the environment of a deployment, as `TestEnvironment.from_config` does.

        Args:
            path: Path of its `flowcraft.yaml`.
            options: Further arguments of `TestEnvironment.from_config`.

        Returns:
            The environment, which is to be entered.

        Raises:
            ConfigurationError: The file, a handler or a blueprint has errors; the message lists them.
        """
        env = cls.__new__(cls)
        env._put(TestEnvironment.from_config(path, **options))
        return env

    @property
    def client(self) -> AsyncClient:
        """An SDK client of this environment.

        Raises:
            ConfigurationError: The environment was not entered, or was left: nothing is published, and no worker runs.
        """
        self.sync.check_entered()
        if self._client is None:
            self._client = AsyncClient(self.sync.url, namespace=self.sync.namespace)
            self._client.deployment.test_clock = True
        return self._client

    @property
    def handlers(self) -> dict[str, Any]:
        """The handlers, by the name that nodes `use`."""
        return self.sync.handlers

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.sync.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()
        await asyncio.to_thread(self.sync.__exit__, kind, error, trace)

    async def publish(self, sources: BlueprintSource | Iterable[BlueprintSource]) -> dict[str, str]:
        """Publish blueprints.

        Args:
            sources: As the argument `blueprints` of `TestEnvironment`.

        Returns:
            The plan hash of each, by id.

        Raises:
            ValueError: One of them has errors; the message lists them.
        """
        return await asyncio.to_thread(self.sync.publish, sources)

    async def add_worker(self, settings: WorkerSettings | None = None) -> Worker:
        """Start another worker.

        Args:
            settings: Its settings; by default those of the environment.

        Returns:
            The worker.
        """
        return await asyncio.to_thread(self.sync.add_worker, settings)

    async def kill_worker(self, worker: Worker | None = None) -> None:
        """Drop a worker without clean-up, as kill -9 would: nothing more of it reaches Redis.

        Args:
            worker: The worker; None for the one that was started last.

        Raises:
            ConfigurationError: It is none of the environment's workers.
        """
        await asyncio.to_thread(self.sync.kill_worker, worker)

    def override(self, type: str, handler: Callable[..., Any]) -> AbstractContextManager[None]:
        """Replace a handler for as long as the `with` block that this call stands in.

        Args:
            type: Its name, as nodes `use` it.
            handler: The function that runs in its place.

        Returns:
            A context manager, for a plain `with`.

        Raises:
            ConfigurationError: There is no such handler, and no node uses one.
            HandlerError: What was given cannot be a handler.
        """
        return self.sync.override(type, handler)

    async def run_until_idle(self, timeout: float = 10.0) -> None:
        """Wait until nothing is ready or running, and no timer is due.

        Args:
            timeout: Seconds to wait.

        Raises:
            TimeoutError: A node is still running.
        """
        await asyncio.to_thread(self.sync.run_until_idle, timeout)
