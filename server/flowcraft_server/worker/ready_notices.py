"""Notices of ready nodes in a deployment of several partitions: what they say is noted, and threads are woken for it."""

from collections.abc import Collection
from typing import Any

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.worker.home_partitions import HomePartitions
from flowcraft_server.worker.ready_partitions import ReadyPartitions
from flowcraft_server.worker.wake_ups import LocalWakeUps


class ReadyNotices:
    """Takes the notices of the partitions that the worker is at home in, and of those where nodes wait for long.

    All over one connection: the listener's.
    """

    def __init__(
        self,
        partitions: Partitions,
        homes: HomePartitions,
        queues: Collection[str],
        ready: ReadyPartitions,
        wake_ups: LocalWakeUps,
    ) -> None:
        self._partitions = partitions
        self._homes = homes
        self._queues = frozenset(queue.encode() for queue in queues)
        self._ready = ready
        self._wake_ups = wake_ups
        self._channels: dict[bytes, Keys] = {}
        for keys in partitions.all:
            self._channels[keys.wake_channel.encode()] = self._channels[keys.help_channel.encode()] = keys
        self._subscribed: set[str] = set()
        self._version = -1

    def begin(self) -> None:
        """A connection has been made, which is subscribed to nothing of this yet."""
        self._subscribed = set()
        self._version = -1

    def subscribe(self, pubsub: Any) -> None:
        """Subscribe to what the worker is to be notified of, if that has changed; look into what is new there."""
        if self._version == self._homes.version:
            return
        self._version, home = self._homes.version, self._homes.home
        wanted = {keys.help_channel for keys in self._partitions.all} | {keys.wake_channel for keys in home}
        new, gone = wanted - self._subscribed, self._subscribed - wanted
        if new:
            pubsub.subscribe(*sorted(new))
        if gone:
            pubsub.unsubscribe(*sorted(gone))
        self._subscribed = wanted
        missed = [
            keys for keys in home if keys.wake_channel in new
        ]  # no worker was notified here of what became ready before
        if missed:
            self._ready.note(*missed)
            self._wake_ups.notify(1)

    def take(self, channel: bytes, data: bytes) -> bool:
        """Take a message `COUNT QUEUE`; False if it is none of a channel of ready nodes."""
        keys = self._channels.get(channel)
        if keys is None:
            return False
        count, _, queue = data.partition(b" ")
        if queue in self._queues and count.isdigit():
            self._ready.note(keys)
            self._wake_ups.notify(int(count))
        return True
