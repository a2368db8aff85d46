"""Subscriptions by channel. Does no I/O: the sync and the async subscriber both keep a registry, and do the I/O around it."""

from collections.abc import Iterable
from typing import Any, Protocol

from flowcraft_sdk._operations.completion_inbox import CompletionInbox
from flowcraft_sdk._operations.effects import Notifications


class Flag(Protocol):
    """What `threading.Event` and `asyncio.Event` have in common."""

    def set(self) -> None:
        """Wake the waiter."""

    def clear(self) -> None:
        """Let the next waiter wait."""


class Subscription:
    """One operation's subscription to its channels.

    Args:
        channels: what to subscribe to.
        notified: set when there is something in `pending`.
        ready: set when Redis has confirmed all channels.
        notification_token: of the start, if the one channel is that of a run which this client has started; '' without one.

    Attributes:
        pending: by channel the payloads that were received and not yet taken.
        unconfirmed: channels that Redis has yet to confirm.
        complete: whether the subscription cannot have missed an earlier notification.
    """

    def __init__(
        self, channels: Iterable[str], notified: Any, ready: Any, *, notification_token: str | None = None
    ) -> None:
        self.channels = tuple(dict.fromkeys(channels))
        self.notification_token = notification_token
        self.complete = False
        self.notified: Flag = notified
        self.ready: Flag = ready
        self.pending: Notifications = {}
        self.unconfirmed = set(self.channels)
        self._ended_channels: set[str] = set()

    @property
    def has_ended(self) -> bool:
        """Whether all of the channels have had their last notification."""
        return len(self._ended_channels) == len(self.channels)

    def notify(self, channel: str, payload: str) -> None:
        """Add a notification; one without a status never replaces a terminal status."""
        self.pending[channel] = payload or self.pending.get(channel, "")
        if payload:
            self._ended_channels.add(channel)
        self.notified.set()

    def discard_confirmations(self) -> None:
        """Drop the notifications that only confirm a channel."""
        self.pending = {channel: payload for channel, payload in self.pending.items() if payload}
        if not self.pending:
            self.notified.clear()

    def take(self) -> Notifications:
        """Take the pending notifications."""
        self.notified.clear()
        pending, self.pending = self.pending, {}
        return pending


class SubscriptionRegistry:
    """Subscriptions by channel, and which channels Redis has confirmed. Not thread-safe: a subscriber guards it."""

    def __init__(self, inbox: CompletionInbox) -> None:
        self.inbox = inbox
        # Subscriptions that wait for a completion in the inbox, by the notification token of the start.
        self._awaited: dict[str | None, set[Subscription]] = {}
        self._by_channel: dict[str, set[Subscription]] = {}
        self._requested: set[str] = set()
        self._unconfirmed: dict[str, int] = {}
        self._new: dict[str, None] = {}
        self._gone: dict[str, None] = {}

    @property
    def busy(self) -> bool:
        """Whether there is any subscription."""
        return bool(self._by_channel)

    @property
    def left(self) -> int:
        """How many channels are still subscribed without need."""
        return len(self._gone)

    def add(self, subscription: Subscription) -> None:
        """Add a subscription to its channels."""
        subscription.complete = subscription.notification_token is not None and self._is_in_inbox(
            subscription, subscription.notification_token
        )
        for channel in subscription.channels:
            self._by_channel.setdefault(channel, set()).add(subscription)
            self._gone.pop(channel, None)
            if subscription.complete:
                subscription.unconfirmed.discard(channel)
            elif channel not in self._requested:
                self._new[channel] = None
            elif channel not in self._unconfirmed:
                subscription.unconfirmed.discard(channel)
        if not subscription.unconfirmed:
            subscription.ready.set()

    def _is_in_inbox(self, subscription: Subscription, notification_token: str) -> bool:
        """Whether the inbox has the completion that a subscription waits for, or is going to receive it."""
        if notification_token in self._awaited:
            self._awaited[notification_token].add(subscription)
            return True
        payload = self.inbox.claim(notification_token)
        if payload:
            subscription.notify(subscription.channels[0], payload)
        elif payload is not None:
            self._awaited[notification_token] = {subscription}
        return payload is not None

    def remove(self, subscription: Subscription) -> None:
        """Remove a subscription; channels without any are unsubscribed next time."""
        awaited = self._awaited.get(subscription.notification_token, set())
        awaited.discard(subscription)
        if not awaited:
            self._awaited.pop(subscription.notification_token, None)
        for channel in subscription.channels:
            subscriptions = self._by_channel.get(channel)
            if subscriptions is not None:
                subscriptions.discard(subscription)
                if not subscriptions:
                    del self._by_channel[channel]
                    self._new.pop(channel, None)
                    if channel in self._requested:
                        self._gone[channel] = None

    def changes(self) -> tuple[list[str], list[str]]:
        """Channels to subscribe and to unsubscribe now; they count as requested from here on."""
        if self._by_channel:
            for channel in list(self.inbox.channels):
                if channel not in self._requested:
                    self._new[channel] = None
        new, gone = list(self._new), list(self._gone)
        self._new.clear()
        self._gone.clear()
        for channel in new:
            self._unconfirmed[channel] = self._unconfirmed.get(channel, 0) + 1
        self._requested.update(new)
        self._requested.difference_update(gone)
        return new, gone

    def take(self, reply: Any) -> None:
        """Handle what the connection read: a notification, or the confirmation of a subscription."""
        if not isinstance(reply, list) or len(reply) != 3:
            return  # the answer to a PING
        kind, channel = _text(reply[0]), _text(reply[1])
        if kind == "message":
            payload = _text(reply[2])
            if channel in self.inbox.channels:
                self._take_from_inbox(payload)
            elif channel not in self._unconfirmed:
                self._notify(channel, payload)
        elif kind == "subscribe":
            self._confirm(channel)

    def _notify(self, channel: str, payload: str) -> None:
        # A notification that precedes the awaited confirmation belongs to an earlier subscription, perhaps of another run with
        # the same id; the waiter reads the run itself. A waiter that the inbox notifies needs none from here.
        for subscription in self._by_channel.get(channel, ()):
            if not subscription.complete:
                subscription.notify(channel, payload)

    def _take_from_inbox(self, message: str) -> None:
        notification_token, _, payload = message.partition(" ")
        subscriptions = self._awaited.pop(
            notification_token, None
        )  # it is published once: a further waiter has to read the run
        if subscriptions is None:
            self.inbox.keep(notification_token, payload)
        for subscription in subscriptions or ():
            subscription.notify(subscription.channels[0], payload)

    def discard_all(self) -> None:
        """Forget what the lost connection had subscribed; the next one subscribes to everything again."""
        self._requested.clear()
        self._unconfirmed.clear()
        self._gone.clear()
        self._awaited.clear()
        self.inbox.discard_all()
        self._new = dict.fromkeys(self._by_channel)
        for channel, subscriptions in self._by_channel.items():
            for subscription in subscriptions:
                subscription.complete = False
                subscription.unconfirmed.add(channel)

    def notify_all(self) -> None:
        """Notify all waiters, so that each reads its run, whether Redis has confirmed the channels or not."""
        for channel, subscriptions in self._by_channel.items():
            for subscription in subscriptions:
                subscription.notify(channel, "")
                subscription.ready.set()

    def _confirm(self, channel: str) -> None:
        # One that was unsubscribed meanwhile and asked for again counts only with its last confirmation.
        left = self._unconfirmed.get(channel, 1) - 1
        if left > 0:
            self._unconfirmed[channel] = left
            return
        self._unconfirmed.pop(channel, None)
        if channel in self.inbox.channels:
            self.inbox.channels[channel] = True
        for subscription in self._by_channel.get(channel, ()):
            subscription.notify(channel, "")  # after a reconnect something may have been missed
            subscription.unconfirmed.discard(channel)
            if not subscription.unconfirmed:
                subscription.ready.set()


def _text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
