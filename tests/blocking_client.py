"""An AsyncClient that can be called like a Client, so that one test covers both."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from flowcraft_sdk import AsyncClient, AsyncHandle, AsyncHttpClient, Client


class BlockingClient:
    """Runs every call on an event loop of its own; the loop stands still in between.

    Args:
        arguments: of AsyncClient.
    """

    kind: type[AsyncClient] = AsyncClient

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.runner = asyncio.Runner()
        self.client = self.kind(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return _called(self, getattr(self.client, name))

    @property
    def schedules(self) -> "BlockingPart":
        return BlockingPart(self, self.client.schedules)

    @property
    def admin(self) -> "BlockingPart":
        return BlockingPart(self, self.client.admin)

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()

    def __enter__(self) -> "BlockingClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BlockingHttpClient(BlockingClient):
    """The same of an AsyncHttpClient."""

    kind = AsyncHttpClient


class BlockingPart:
    """A part of a BlockingClient, such as its `schedules`."""

    def __init__(self, owner: BlockingClient, part: Any) -> None:
        self.owner = owner
        self.part = part

    def __getattr__(self, name: str) -> Any:
        return _called(self.owner, getattr(self.part, name))


class BlockingHandle:
    """A handle of a BlockingClient."""

    def __init__(self, owner: BlockingClient, handle: "AsyncHandle[Any]") -> None:
        self.owner = owner
        self.handle = handle

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.handle, name)
        return _called(self.owner, found) if callable(found) else found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockingHandle) and self.handle == other.handle

    def __hash__(self) -> int:
        return hash(self.handle)


def _called(owner: BlockingClient, method: Any) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        answer = method(*map(_bare, arguments), **{name: _bare(value) for name, value in options.items()})
        if inspect.iscoroutine(answer):
            return _dressed(owner, owner.runner.run(answer))
        return _iterated(owner, answer) if hasattr(answer, "__anext__") else _dressed(owner, answer)

    return call


def _bare(value: Any) -> Any:
    if isinstance(value, list):
        return [_bare(item) for item in value]
    return value.handle if isinstance(value, BlockingHandle) else value


def _dressed(owner: BlockingClient, value: Any) -> Any:
    return BlockingHandle(owner, value) if isinstance(value, AsyncHandle) else value


def _iterated(owner: BlockingClient, items: AsyncIterator[Any]) -> Iterator[Any]:
    async def following() -> Any:
        return await anext(items)

    try:
        while True:
            try:
                item = owner.runner.run(following())
            except StopAsyncIteration:
                return
            yield _dressed(owner, item)
    finally:
        close: Any = getattr(items, "aclose", None)
        if close is not None:
            owner.runner.run(close())


BOTH = (Client, BlockingClient)


def clients(kind: Any) -> Iterator[Callable[[Any], Any]]:
    """Makes clients of test environments, of one kind; closed in the end. For fixtures."""
    opened: list[Any] = []

    def make(env: Any) -> Any:
        opened.append(kind(env.url, namespace=env.namespace))
        return opened[-1]

    yield make
    for client in opened:
        client.close()
