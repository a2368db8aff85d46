"""What handles, administration and schedules need of the client that made them."""

from typing import Protocol

from flowcraft_sdk._operations.over_redis import RedisOperations
from flowcraft_sdk._transport.async_driver import AsyncDriver
from flowcraft_sdk._transport.driver import SyncDriver


class BaseConnection(Protocol):
    """A deployment, by name and by what can be done with it."""

    namespace: str
    operations: RedisOperations


class Connection(BaseConnection, Protocol):
    """A deployment with what runs operations in the calling thread."""

    driver: SyncDriver


class AsyncConnection(BaseConnection, Protocol):
    """A deployment with what runs operations in the calling task."""

    driver: AsyncDriver
