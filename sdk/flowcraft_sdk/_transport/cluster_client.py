"""Clients of a Redis Cluster, used as redis-py's clients of one server: each node has such a client, and calls are routed."""

import asyncio
import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import redis
import redis.asyncio

from flowcraft_sdk._transport.cluster import EVERYWHERE, Exchange, Pause, Place, Send, Topology, exchange

COUNTED = ("DEL", "UNLINK", "EXISTS")
"""Commands with any number of keys whose reply is a number: they are sent for each key, and the numbers are added."""


class _Words(tuple[Any, ...]):
    """A command, and how redis-py is to read its reply."""

    options: Mapping[str, Any]

    @classmethod
    def of(cls, args: Sequence[Any], options: Mapping[str, Any]) -> "_Words":
        words = cls(args)
        words.options = options
        return words


Sender = Callable[["redis.Redis", Sequence[Sequence[Any]]], list[Any]]


def drive(steps: Exchange, send: Callable[[Place, Sequence[Sequence[Any]]], list[Any]]) -> list[Any]:
    """Take an exchange with the nodes of a cluster to its end; returns its replies.

    Args:
        steps: the exchange.
        send: sends commands to a node as one pipeline; returns their replies, errors among them.
    """
    answer: list[Any] | None = None
    failure: Exception | None = None
    while True:
        try:
            step = steps.send(answer) if failure is None else steps.throw(failure)
        except StopIteration as end:
            return list(end.value)
        answer = failure = None
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            continue
        try:
            answer = send(step.place, step.commands)
        except (redis.exceptions.RedisError, OSError) as error:
            failure = error


class ClusterClient(redis.Redis):
    """A client for threads. Connects on first use; never sends a call again but where a node redirects it to.

    Args:
        topology: of the cluster, which begins with its seeds.
        pool_to: makes the pool of connections to a node.
    """

    def __init__(self, topology: Topology, pool_to: Callable[[Place], Any]) -> None:
        self.topology = topology
        self._pool_to = pool_to
        self._nodes: dict[Place, redis.Redis] = {}
        self._nodes_lock = threading.Lock()
        self._turn = itertools.count()
        super().__init__(connection_pool=pool_to(topology.places[0]))

    def node(self, place: Place) -> "redis.Redis":
        """The client of one node."""
        found = self._nodes.get(place)
        if found is None:
            with self._nodes_lock:
                found = self._nodes.setdefault(place, redis.Redis.from_pool(self._pool_to(place)))
        return found

    def any_node(self) -> "redis.Redis":
        """The client of some node that can be expected to answer, another one each time."""
        return self.node(_turn_of(self.topology, next(self._turn)))

    def primaries(self) -> list["redis.Redis"]:
        """The clients of all nodes that serve slots."""
        if self.topology.is_stale:
            self.execute_command("PING")
        return [self.node(place) for place in self.topology.primaries]

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command to the node that serves its first key, or to all primaries if it is for all."""
        if _name_of(args) in EVERYWHERE:
            return _raised([_send_singly(node, [_Words.of(args, options)])[0] for node in self.primaries()])[-1]
        if args[0] in COUNTED and len(args) > 2:
            return sum(_raised(self.send([(args[0], key) for key in args[1:]], False)))
        (reply,) = self._drive(exchange(self.topology, [_Words.of(args, options)]), _send_singly)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "redis.client.Pipeline":
        """Commands that are sent together, to each node its own. With `transaction` all keys must be in one slot."""
        return _Pipeline(self, transaction)

    def scan_iter(self, *args: Any, **options: Any) -> Iterator[Any]:
        """The keys of all primaries, one primary after the other."""
        for node in self.primaries():
            yield from node.scan_iter(*args, **options)

    def pubsub(self, **options: Any) -> "redis.client.PubSub":
        """Subscriptions at some node, another one each time: what is published reaches them all."""
        found: redis.client.PubSub = self.any_node().pubsub(**options)  # type: ignore[no-untyped-call]
        return found

    def close(self) -> None:
        """Close the connections to all nodes."""
        for node in list(self._nodes.values()):
            node.close()
        super().close()

    def send(self, commands: Sequence[Sequence[Any]], transaction: bool) -> list[Any]:
        """Send commands as one pipeline for each node; returns their replies, errors among them."""
        return self._drive(exchange(self.topology, commands), functools.partial(_send_together, transaction))

    def _drive(self, steps: Exchange, send: Sender) -> list[Any]:
        return drive(steps, lambda place, commands: send(self.node(place), commands))


class _Pipeline(redis.client.Pipeline):
    def __init__(self, client: ClusterClient, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._client = client
        self._transaction = transaction

    def execute_command(self, *args: Any, **options: Any) -> "redis.client.Pipeline":
        """Add a command."""
        return self.pipeline_execute_command(*args, **options)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send what was added.

        Raises:
            redis.exceptions.RedisError: the first error among the replies, unless errors are wanted as replies.
        """
        added, self.command_stack = list(self.command_stack), []
        commands = [_Words.of(args, options) for args, options in added]
        replies = self._client.send(commands, self._transaction) if added else []
        return _raised(replies) if raise_on_error else replies


class AsyncClusterClient(redis.asyncio.Redis):
    """The same for asyncio."""

    def __init__(self, topology: Topology, pool_to: Callable[[Place], Any]) -> None:
        self.topology = topology
        self._pool_to = pool_to
        self._nodes: dict[Place, redis.asyncio.Redis] = {}
        self._turn = itertools.count()
        super().__init__(connection_pool=pool_to(topology.places[0]))

    def node(self, place: Place) -> "redis.asyncio.Redis":
        """The client of one node."""
        found = self._nodes.get(place)
        if found is None:
            found = self._nodes[place] = redis.asyncio.Redis.from_pool(self._pool_to(place))
        return found

    def any_node(self) -> "redis.asyncio.Redis":
        """The client of some node that can be expected to answer, another one each time."""
        return self.node(_turn_of(self.topology, next(self._turn)))

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command to the node that serves its first key."""
        if _name_of(args) in EVERYWHERE:
            raise redis.exceptions.DataError(f"{args[0]} is for all nodes, and not sent here")
        (reply,) = await self._drive(exchange(self.topology, [_Words.of(args, options)]), _send_singly_async)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "redis.asyncio.client.Pipeline":
        """Commands that are sent together, to each node its own. With `transaction` all keys must be in one slot."""
        return _AsyncPipeline(self, transaction)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections to all nodes."""
        for node in list(self._nodes.values()):
            await node.aclose()
        await super().aclose(close_connection_pool)

    async def send(self, commands: Sequence[Sequence[Any]], transaction: bool) -> list[Any]:
        """Send commands as one pipeline for each node; returns their replies, errors among them."""
        return await self._drive(
            exchange(self.topology, commands), functools.partial(_send_together_async, transaction)
        )

    async def _drive(self, steps: Exchange, send: Callable[..., Any]) -> list[Any]:
        answer: Any = None
        failure: Exception | None = None
        while True:
            try:
                step: Send | Pause = steps.send(answer) if failure is None else steps.throw(failure)
            except StopIteration as end:
                return list(end.value)
            answer = failure = None
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                continue
            try:
                answer = await send(self.node(step.place), step.commands)
            except (redis.exceptions.RedisError, OSError) as error:
                failure = error


class _AsyncPipeline(redis.asyncio.client.Pipeline):
    def __init__(self, client: AsyncClusterClient, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._client = client
        self._transaction = transaction

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Add a command."""
        return self.pipeline_execute_command(*args, **options)  # type: ignore[no-untyped-call]

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send what was added."""
        added, self.command_stack = list(self.command_stack), []
        commands = [_Words.of(args, options) for args, options in added]
        replies = await self._client.send(commands, self._transaction) if added else []
        return _raised(replies) if raise_on_error else replies


def _name_of(args: Sequence[Any]) -> str:
    name = str(args[0]).upper()
    return f"{name} {str(args[1]).upper()}" if name in ("SCRIPT", "CONFIG") and len(args) > 1 else name


def _options_of(words: Sequence[Any]) -> Mapping[str, Any]:
    return words.options if isinstance(words, _Words) else {}


def _send_singly(node: "redis.Redis", commands: Sequence[Sequence[Any]]) -> list[Any]:
    replies: list[Any] = []
    for words in commands:
        try:
            replies.append(node.execute_command(*words, **_options_of(words)))  # type: ignore[no-untyped-call]
        except redis.exceptions.ResponseError as error:
            replies.append(error)
    return replies


async def _send_singly_async(node: "redis.asyncio.Redis", commands: Sequence[Sequence[Any]]) -> list[Any]:
    replies: list[Any] = []
    for words in commands:
        try:
            replies.append(await node.execute_command(*words, **_options_of(words)))  # type: ignore[no-untyped-call]
        except redis.exceptions.ResponseError as error:
            replies.append(error)
    return replies


def _send_together(transaction: bool, node: "redis.Redis", commands: Sequence[Sequence[Any]]) -> list[Any]:
    pipe = node.pipeline(transaction=transaction)
    for words in commands:
        pipe.execute_command(*words, **_options_of(words))  # type: ignore[no-untyped-call]
    try:
        return list(pipe.execute(raise_on_error=False))
    except redis.exceptions.MovedError as error:
        return [error] * len(commands)  # of a transaction, of which nothing was applied
    except (redis.exceptions.AskError, redis.exceptions.TryAgainError) as error:
        return [redis.exceptions.TryAgainError(str(error))] * len(commands)  # it waits until the slot has moved


async def _send_together_async(
    transaction: bool, node: "redis.asyncio.Redis", commands: Sequence[Sequence[Any]]
) -> list[Any]:
    pipe = node.pipeline(transaction=transaction)
    for words in commands:
        pipe.execute_command(*words, **_options_of(words))
    return list(await pipe.execute(raise_on_error=False))


def _raised(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _turn_of(topology: Topology, turn: int) -> Place:
    places = topology.primaries or topology.places
    return places[turn % len(places)]
