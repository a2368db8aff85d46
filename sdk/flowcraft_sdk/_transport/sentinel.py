"""Connections to the primary that Sentinel names: each new connection asks Sentinel, so after a failover it goes to the new one.

`_connect` is a private method of redis-py's connections. It is overridden because `connect` is not called when a connection
that was closed is used again; `tests/engine/test_sentinel.py` notices if a release of redis-py changes that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

ANSWER_SECONDS = 1.0
"""Within which a Sentinel has to answer before the next one is asked: one often dies with the machine of the primary."""

DEMOTED = "the primary has become a replica"


@dataclass(frozen=True)
class SentinelAddress:
    """What a `redis+sentinel://` address says.

    Attributes:
        sentinels: host and port of each Sentinel.
        service: the name under which Sentinel watches the primary.
        options: of connections to the primary, as redis-py takes them.
        sentinel_options: of connections to Sentinel.
        tls: whether connections to the primary are encrypted.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    options: Mapping[str, Any]
    sentinel_options: Mapping[str, Any]
    tls: bool

    def pool_options(self, timeout: float, *, asynchronous: bool) -> dict[str, Any]:
        """The class of connections to the primary and its options, for a pool of redis-py.

        Args:
            timeout: seconds within which a Sentinel has to answer; `ANSWER_SECONDS` at most.
        """
        seconds = min(timeout, ANSWER_SECONDS)
        options = {"socket_timeout": seconds, "socket_connect_timeout": seconds, **self.sentinel_options}
        # redis-py would ask a Sentinel that is away for seconds, again and again, before it asks the next one.
        options["retry"] = AsyncRetry(NoBackoff(), 0) if asynchronous else Retry(NoBackoff(), 0)
        hosts = list(self.sentinels)
        if asynchronous:
            asked: Any = redis.asyncio.sentinel.Sentinel(hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
            kind: type[Any] = _AsyncTLSConnection if self.tls else _AsyncConnection
        else:
            asked = redis.sentinel.Sentinel(hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
            kind = _TLSConnection if self.tls else _Connection
        return {**self.options, "connection_class": kind, "primary": Primary(asked, self.service)}


class Primary:
    """Where the primary of a service is.

    Args:
        sentinel: redis-py's, for threads or for asyncio.
        service: the name under which Sentinel watches the primary.
    """

    def __init__(self, sentinel: Any, service: str) -> None:
        self._sentinel = sentinel
        self._service = service

    def find(self) -> Any:
        """Host and port, or for asyncio an awaitable of them.

        Raises:
            redis.exceptions.ConnectionError: no Sentinel answers, or none knows the service.
        """
        return self._sentinel.discover_master(self._service)


class _ToPrimary:
    """Mixed into a connection of redis-py.

    Args:
        primary: asked for the address each time the connection is made.
    """

    host: str
    port: int

    def __init__(self, *, primary: Primary, **options: Any) -> None:
        self._primary = primary
        super().__init__(**options)

    def _connect(self) -> Any:
        self.host, self.port = self._primary.find()
        return super()._connect()  # type: ignore[misc]

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply; a primary that was made a replica counts as a connection that broke.

        Raises:
            redis.exceptions.ConnectionError: it was made a replica.
        """
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except redis.exceptions.ReadOnlyError:
            self.disconnect()  # type: ignore[attr-defined]
            raise redis.exceptions.ConnectionError(DEMOTED) from None


class _AsyncToPrimary:
    host: str
    port: int

    def __init__(self, *, primary: Primary, **options: Any) -> None:
        self._primary = primary
        super().__init__(**options)

    async def _connect(self) -> Any:
        self.host, self.port = await self._primary.find()
        return await super()._connect()  # type: ignore[misc]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """As for threads."""
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except redis.exceptions.ReadOnlyError:
            await self.disconnect()  # type: ignore[attr-defined]
            raise redis.exceptions.ConnectionError(DEMOTED) from None


class _Connection(_ToPrimary, redis.Connection):
    pass


class _TLSConnection(_ToPrimary, redis.SSLConnection):
    pass


class _AsyncConnection(_AsyncToPrimary, redis.asyncio.Connection):
    pass


class _AsyncTLSConnection(_AsyncToPrimary, redis.asyncio.SSLConnection):
    pass
