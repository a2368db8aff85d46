"""The engine's door to Redis: script calls in one pipeline, and plain reads."""

from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ScriptCall

SOCKET_TIMEOUT = 10.0
"""Seconds after which a reply is taken for lost. Longer than any script may take."""


class StoreUnavailable(ConnectionError):
    """Redis did not answer; whether the last call was applied is unknown. Every script bears being sent again."""


def connect(url: str, *, max_connections: int = 256, decode: bool = False) -> "redis.Redis":
    """A client whose calls are never re-sent behind our back: the engine decides what is sent twice."""
    return redis.Redis.from_url(
        url,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=5.0,
        retry=Retry(NoBackoff(), 0),
        max_connections=max_connections,
        decode_responses=decode,
    )


class StoreLink:
    """Sends script calls. Thread-safe; each pipeline takes a connection of its own from the pool."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = connect(url)
        self._severed = False

    def sever(self) -> None:
        """Let nothing through any more: what a killed process would send never arrives."""
        self._severed = True

    def load_scripts(self) -> None:
        """Make all scripts known to Redis, so that the first calls need no second try."""
        pipe = self.redis.pipeline(transaction=False)
        for name in scripts.ALL:
            pipe.script_load(scripts.load(name).source)
        self._run(pipe.execute)

    def call(self, call: ScriptCall) -> Any:
        """Run one script and return its reply."""
        script = call.script
        try:
            return self._run(lambda: self.redis.evalsha(script.sha, len(call.keys), *call.keys, *call.args))
        except redis.exceptions.NoScriptError:
            source = [script.source, len(call.keys), *call.keys, *call.args]
            return self._run(lambda: self.redis.execute_command("EVAL", *source))  # type: ignore[no-untyped-call]

    def send(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """Run several scripts in one round trip. Each is atomic by itself; a failed one has its exception in the list."""
        if len(calls) == 1:
            return [self.call(calls[0])]
        pipe = self.redis.pipeline(transaction=False)
        for call in calls:
            pipe.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
        replies: list[Any] = self._run(lambda: pipe.execute(raise_on_error=False))
        return [
            self.call(call) if isinstance(reply, redis.exceptions.NoScriptError) else reply
            for call, reply in zip(calls, replies, strict=True)
        ]

    def read_fields(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        """Values of some fields of a hash, None where absent."""
        return list(self._run(lambda: self.redis.hmget(key, list(fields)))) if fields else []

    def read_hash(self, key: str) -> dict[bytes, bytes]:
        """A whole hash."""
        return dict(self._run(lambda: self.redis.hgetall(key)))

    def close(self) -> None:
        """Close all connections."""
        self.redis.close()

    def _run(self, operation: Any) -> Any:
        if self._severed:
            raise StoreUnavailable("this link is severed")
        try:
            return operation()
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
            raise StoreUnavailable(f"Redis does not answer: {error}") from error
