"""A client's completion inbox: a channel with the completions of the runs it has started, without a subscription to each.

With several partitions there is a channel in each, as a run's end is published in its partition.
"""

import secrets
from collections.abc import Sequence

MOST_RESERVED = 16
"""Completions that an inbox may reserve before a caller waits for them. A client that starts runs and does not wait has no use
for more: each would be sent to it and stay unread."""


class CompletionInbox:
    """The completions that an inbox is going to receive. Does no I/O; a subscription registry keeps it.

    The inbox is subscribed once, along with the first thing that its client waits for. A run that is started after that
    names it, so its completion cannot be missed: its waiter neither subscribes nor reads.

    Args:
        prefix: of its channel in the first partition; its name follows, which no other client has.

    Attributes:
        channels: all that it is to be subscribed to, and whether Redis has confirmed the subscription.
    """

    def __init__(self, prefix: str) -> None:
        self.name = secrets.token_urlsafe(6)
        self.channel = prefix + self.name
        self.channels = {self.channel: False}
        self._reserved: dict[str, str] = {}

    def reserve(self, prefix: str | None = None) -> str:
        """Reserve a completion for a run about to be started.

        Args:
            prefix: of the channel in the run's partition; the first one if None.

        Returns:
            The run's token: the inbox's name and the notification token of this start alone, for a completion may stay unread
            while the same run id is used again. '' if the inbox can reserve no more.
        """
        channel = self.channel if prefix is None else prefix + self.name
        if not self.channels.get(channel) or len(self._reserved) >= MOST_RESERVED:
            return ""
        notification_token = secrets.token_urlsafe(8)
        self._reserved[notification_token] = ""
        return f"{self.name}@{notification_token}"

    def learn(self, prefixes: Sequence[str]) -> None:
        """Have the channels in these partitions subscribed along with what the client waits for next."""
        if len(self.channels) < len(prefixes):
            for prefix in prefixes:
                self.channels.setdefault(prefix + self.name, False)

    def release(self, notification_token: str) -> None:
        """Release a completion that no caller waits for, or that is not going to come."""
        self._reserved.pop(notification_token, None)

    def keep(self, notification_token: str, payload: str) -> None:
        """Keep a completion that no caller waits for as yet."""
        if notification_token in self._reserved:
            self._reserved[notification_token] = payload

    def claim(self, notification_token: str) -> str | None:
        """Take a reserved completion: its payload, '' if it is still to come, None if it is not reserved here."""
        if notification_token in self._reserved:
            return self._reserved.pop(notification_token)
        if len(self._reserved) >= MOST_RESERVED:
            # This client waits for its runs: the oldest reservation makes room.
            del self._reserved[next(iter(self._reserved))]
        return None

    def discard_all(self) -> None:
        """Forget all reservations: the connection is lost, and their completions with it."""
        self.channels = dict.fromkeys(self.channels, False)
        self._reserved.clear()


def notification_token_of(token: str) -> str:
    """The notification token of a start that names an inbox, '' of another one."""
    return token.partition("@")[2]
