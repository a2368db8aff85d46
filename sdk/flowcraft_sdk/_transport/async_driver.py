"""The async driver: the only place where the async client does I/O."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

import redis

from flowcraft_sdk._operations.effects import (
    Batch,
    Command,
    Effect,
    Operation,
    ReleaseNotification,
    ReserveNotification,
    Subscribe,
    WaitForNotification,
    Yield,
    returning,
)
from flowcraft_sdk._operations.phrases import asked_of
from flowcraft_sdk._transport.async_subscriber import AsyncSubscriber
from flowcraft_sdk._transport.connector import Attempts, ClientSettings, async_client, borne, listening_connection
from flowcraft_sdk._transport.subscriptions import Subscription
from flowcraft_sdk.errors import BackendUnavailableError, ConfigurationError, ForeignKeyError, RunBrokenError
from flowcraft_sdk.protocol.script_call import ScriptCall

T = TypeVar("T")


class AsyncDriver:
    """Drives operations over redis-py's asyncio half. Belongs to the event loop that uses it first.

    Args:
        url: of Redis.
        settings: time-outs and sizes.
        inbox_prefix: of the channel of the client's inbox.
        client: a redis-py client of the caller's own, used for commands and as the pattern of the subscriber connection.
    """

    def __init__(self, url: str, settings: ClientSettings, inbox_prefix: str, client: Any = None) -> None:
        self.url = url
        self.settings = settings
        self._own = client is None
        self.redis = commands = async_client(url, settings) if client is None else client
        self.subscriber = AsyncSubscriber(lambda: listening_connection(commands), inbox_prefix)
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end and return its value."""
        async with aclosing(self.stream(returning(operation), asked_of(operation))) as stream:
            result: T = await anext(stream)
        return result

    async def stream(self, operation: Operation[Any], asked: str = "") -> AsyncGenerator[Any, None]:
        """Run an operation and yield its items. An error of Redis is raised inside the operation first.

        Args:
            asked: what it is to do, for messages; by default its name.
        """
        asked = asked or asked_of(operation)
        subscriptions: list[Subscription] = []
        answer: Any = None
        error: BackendUnavailableError | ForeignKeyError | RunBrokenError | None = None
        self._check_loop()
        cancels = _cancels()
        try:
            while True:
                try:
                    step = operation.send(answer) if error is None else operation.throw(error)
                except StopIteration:
                    return
                answer = error = None
                if isinstance(step, Yield):
                    yield step.item
                    continue
                try:
                    answer = await self._do(step, subscriptions, asked)
                except (BackendUnavailableError, ForeignKeyError, RunBrokenError) as away:
                    error = away
                if _cancels() > cancels:  # on Python 3.11, redis-py's wait_for may have swallowed it
                    raise asyncio.CancelledError
        finally:
            operation.close()
            for subscription in subscriptions:
                self.subscriber.unsubscribe(subscription)

    async def close(self) -> None:
        """Close all connections. What still waits ends with an error."""
        self._closed = True
        await self.subscriber.close()
        if self._own:
            await self.redis.aclose()

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise ConfigurationError("this AsyncClient belongs to another event loop; make one client for each loop")

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError("this client is closed")

    async def _do(self, step: Effect, subscriptions: list[Subscription], asked: str) -> Any:
        self._check_open()
        if isinstance(step, Subscribe):
            subscriptions.append(
                await self.subscriber.subscribe(step.channels, step.seconds, notification_token=step.notification_token)
            )
            return subscriptions[-1].complete
        if isinstance(step, ReserveNotification):
            return self.subscriber.reserve(step.inbox_prefix, step.inbox_prefixes)
        if isinstance(step, ReleaseNotification):
            return self.subscriber.release(step.notification_token)
        if isinstance(step, WaitForNotification):
            if subscriptions:
                return await self.subscriber.wait(subscriptions[-1], step.seconds)
            await asyncio.sleep(step.seconds)
            return {}
        assert isinstance(step, Command | Batch | ScriptCall)
        attempts = Attempts(step, self.url, self.settings, asked)
        while True:
            try:
                return await self._send(step)
            except Exception as error:
                self._check_open()  # under a call in flight, closing breaks redis-py in whatever way
                if not isinstance(error, redis.exceptions.RedisError | OSError):
                    raise
                pause = attempts.failed(error)
            await asyncio.sleep(pause)
            self._check_open()

    async def _send(self, step: Command | Batch | ScriptCall) -> Any:
        if isinstance(step, Command):
            return await self.redis.execute_command(step.name, *step.args)
        if isinstance(step, Batch):
            pipe = self.redis.pipeline(transaction=step.atomic)
            for part in step.commands:
                pipe.execute_command(part.name, *part.args)
            return borne(await pipe.execute(raise_on_error=not step.bearing))
        call = (len(step.keys), *step.keys, *step.args)
        try:
            return await self.redis.execute_command("EVALSHA", step.script.sha, *call)
        except redis.exceptions.NoScriptError:
            return await self.redis.execute_command("EVAL", step.script.source, *call)


def _cancels() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
