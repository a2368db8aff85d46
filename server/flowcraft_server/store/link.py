"""The engine's connection to Redis: script calls in one pipeline, and plain reads."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flowcraft_sdk._transport.cluster import Place, Topology, exchange
from flowcraft_sdk._transport.cluster_client import ClusterClient, drive
from flowcraft_sdk._transport.connector import client_of
from flowcraft_sdk.errors import ForeignKeyError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import type_of_key
from flowcraft_sdk.protocol.script_call import ScriptCall, load, messages
from flowcraft_server.store.descriptors import guarded
from flowcraft_server.store.own_connection import OwnConnection, UnsendableError

SOCKET_TIMEOUT = 10.0
"""Seconds after which a reply is taken for lost. Longer than any script may take."""


RETRY_SECONDS = 10.0
"""Seconds for which a read, or a call that may be sent twice, is tried again before the caller gets an error."""


class StoreUnavailable(ConnectionError):
    """Redis did not answer; whether the last call was applied is unknown. Every script is idempotent."""


class _Naming:
    """Mixed into a client of redis-py: its errors about a key of another type say which key that is."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command."""
        try:
            return super().execute_command(*args, **options)  # type: ignore[misc]
        except redis.exceptions.ResponseError as error:
            key = text_of(args[1]) if len(args) > 1 else ""
            expected = type_of_key(key)
            if expected is None or not str(error).startswith("WRONGTYPE"):
                raise
            raise redis.exceptions.ResponseError(f"WRONGTYPE {ForeignKeyError(key, expected)}") from error


class _NamingRedis(_Naming, redis.Redis):
    pass


class _NamingCluster(_Naming, ClusterClient):
    pass


def text_of(name: Any) -> str:
    """The name of a key as text."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def connect(url: str, *, max_connections: int = 256, decode: bool = False) -> "redis.Redis":
    """A client that never sends a call again by itself: the engine decides what is sent twice."""
    return client_of(
        url,
        redis.ConnectionPool,
        kinds=(_NamingRedis, _NamingCluster),
        prepare=_guard,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=5.0,
        retry=Retry(NoBackoff(), 0),
        max_connections=max_connections,
        decode_responses=decode,
        protocol=2,  # no push messages: a thread's own connection reads replies and nothing else
    )


def _guard(pool: Any) -> Any:
    pool.connection_class = guarded(pool.connection_class)
    return pool


class StoreLink:
    """Sends script calls. Thread-safe: each thread has a connection of its own for them, and plain reads share a pool.

    Attributes:
        on_unanswered: is called with calls that were not answered, which may have been applied.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = connect(url)
        self._topology: Topology | None = self.redis.topology if isinstance(self.redis, ClusterClient) else None
        self.on_unanswered: Callable[[Sequence[ScriptCall]], None] | None = None
        self._severed = False
        self._own = threading.local()
        self._opened: list[OwnConnection] = []
        self._asleep: set[OwnConnection] = set()

    def sever(self) -> None:
        """Let nothing through any more: what a killed process would send never arrives."""
        self._severed = True

    def load_scripts(self) -> None:
        """Make all scripts known to Redis, so that the first calls need no second try."""

        def send() -> None:
            for node in self.redis.primaries() if isinstance(self.redis, ClusterClient) else [self.redis]:
                pipe = node.pipeline(transaction=False)
                for name in scripts.ALL:
                    pipe.script_load(load(name).source)
                pipe.execute()

        self.read_with_retry(send)

    def call(self, call: ScriptCall) -> Any:
        """Run one script and return its reply.

        Raises:
            redis.exceptions.ResponseError: Redis refused it.
        """
        reply = self.send([call])[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def send(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """Run several scripts in one round trip. Each call is atomic by itself; a refused one has its exception in the list.

        A call that cannot be sent has an `UnsendableError` there, and keeps no other one from being sent.
        """
        try:
            sent = messages(calls)
            answers = self._exchange([("EVALSHA", message.script.sha, *message.words) for message in sent])
        except StoreUnavailable:
            if self.on_unanswered is not None:
                self.on_unanswered(calls)
            raise
        except UnsendableError as error:
            return [error] if len(calls) == 1 else [reply for call in calls for reply in self.send([call])]
        replies: list[Any] = []
        for message, answer in zip(sent, answers, strict=True):
            if isinstance(answer, redis.exceptions.NoScriptError):
                answer = self._exchange([("EVAL", message.script.source, *message.words)])[0]
            if message.joined is None:
                replies.append(answer)
            else:
                replies += [answer] * message.joined if isinstance(answer, Exception) else answer
        return replies

    def read_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send plain commands in one round trip, on the calling thread's own connection.

        Raises:
            StoreUnavailable: Redis does not answer.
            redis.exceptions.ResponseError: Redis refused one of them.
        """
        replies = self.read_each(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def read_each(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Like `read_all`, with an exception in the list for each command that Redis refused."""
        return self._exchange(list(commands)) if commands else []

    def call_with_retry(self, call: ScriptCall) -> Any:
        """Like `call`, for a node under way: tried again for `RETRY_SECONDS` seconds when Redis does not answer."""
        return self._with_retry(lambda: self.call(call))

    def sleep(self, lists: Sequence[str], seconds: float) -> bytes | None:
        """Sleep until there is a message in one of some lists and take it, the first list first; None after `seconds`.

        Raises:
            StoreUnavailable: Redis does not answer, or `wake_sleepers` was called.
            redis.exceptions.ResponseError: Redis refused it.
        """
        found = self._exchange([("BRPOP", *lists, f"{seconds:.3f}")], asleep=True)[0]
        if isinstance(found, Exception):
            raise found
        return None if found is None else bytes(found[1])

    def wake_sleepers(self) -> None:
        """End each `sleep`, by cutting its connection; the caller makes sure that no other one begins."""
        for connection in list(self._asleep):
            connection.cut()

    def read_fields_once(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        """Values of some fields of a hash, None where absent.

        Raises:
            StoreUnavailable: Redis does not answer; it is not tried again.
        """
        return list(self.read_all([("HMGET", key, *fields)])[0]) if fields else []

    def read_fields(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        """Values of some fields of a hash, None where absent. Tried again for `RETRY_SECONDS` seconds."""
        if not fields:
            return []
        if getattr(self._own, "pid", None) != os.getpid():  # a thread of a handler's own, or a process that it forked
            return list(self.read_with_retry(lambda: self.redis.hmget(key, list(fields))))
        found = self._with_retry(lambda: self._exchange([("HMGET", key, *fields)]))[0]
        if isinstance(found, Exception):
            raise found
        return list(found)

    def read_hash(self, key: str) -> dict[bytes, bytes]:
        """A whole hash. Tried again for `RETRY_SECONDS` seconds."""
        return dict(self.read_with_retry(lambda: self.redis.hgetall(key)))

    def read_with_retry(self, operation: Callable[[], Any]) -> Any:
        """Run commands of the plain client that are idempotent. Tried again for `RETRY_SECONDS` seconds."""
        return self._with_retry(lambda: self.call_once(operation))

    def call_once(self, operation: Callable[[], Any]) -> Any:
        """Run commands of the plain client, and try nothing again.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        if self._severed:
            raise StoreUnavailable("this link is severed")
        try:
            return operation()
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
            raise StoreUnavailable(f"Redis does not answer: {error}") from error

    def close(self) -> None:
        """Close all connections."""
        for connection in self._opened:
            connection.close()
        self.redis.close()

    def _exchange(self, commands: list[tuple[Any, ...]], *, asleep: bool = False) -> list[Any]:
        if self._severed:
            raise StoreUnavailable("this link is severed")
        try:
            if self._topology is not None:
                return drive(
                    exchange(self._topology, commands),
                    lambda place, words: self._send(self._connection(place), words, asleep),
                )
            return self._send(self._connection(), commands, asleep)
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
            raise StoreUnavailable(f"Redis does not answer: {error}") from error

    def _send(self, connection: OwnConnection, commands: Sequence[Sequence[Any]], asleep: bool) -> list[Any]:
        if not asleep:
            return connection.exchange(commands)
        self._asleep.add(connection)
        try:
            return connection.exchange(commands)
        finally:
            self._asleep.discard(connection)

    def _connection(self, place: Place | None = None) -> OwnConnection:
        """The calling thread's own, to a node of a cluster or to the one server."""
        connections: dict[Place | None, OwnConnection] | None = getattr(self._own, "connections", None)
        if connections is None:
            connections = self._own.connections = {}
            self._own.pid = os.getpid()
        connection = connections.get(place)
        if connection is None:
            client = self.redis.node(place) if isinstance(self.redis, ClusterClient) and place else self.redis
            connection = connections[place] = OwnConnection(client.connection_pool.make_connection())
            self._opened.append(connection)
        return connection

    def _with_retry(self, operation: Callable[[], Any]) -> Any:
        until, pause = clock() + RETRY_SECONDS, 0.02
        while True:
            try:
                return operation()
            except StoreUnavailable:
                if self._severed or clock() > until:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 0.5)
