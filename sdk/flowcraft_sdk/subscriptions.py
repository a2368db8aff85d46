"""Who listens to which channel. Plain bookkeeping: the sync and the async hub both keep one, and do the I/O around it."""

from collections.abc import Iterable
from typing import Any, Protocol

from flowcraft_sdk.inbox import Inbox
from flowcraft_sdk.steps import Heard


class Flag(Protocol):
    """What `threading.Event` and `asyncio.Event` have in common."""

    def set(self) -> None:
        """Wake who waits."""

    def clear(self) -> None:
        """Let the next one wait."""


class Ear:
    """One operation's ear on its channels.

    Args:
        channels: what to listen to.
        told: set when there is something in `heard`.
        ready: set when Redis has confirmed all channels.
        mark: of the start, if the one channel tells the end of a run that this client has started; '' if that names no inbox.

    Attributes:
        unconfirmed: channels that Redis has yet to confirm.
        complete: whether nothing can have been said on them before that the ear has not heard.
    """

    def __init__(self, channels: Iterable[str], told: Any, ready: Any, *, mark: str | None = None) -> None:
        self.channels = tuple(dict.fromkeys(channels))
        self.mark = mark
        self.complete = False
        self.told: Flag = told
        self.ready: Flag = ready
        self.heard: Heard = {}
        self.unconfirmed = set(self.channels)
        self._over: set[str] = set()

    @property
    def has_heard_the_end(self) -> bool:
        """Whether nothing more will be said on any of the channels."""
        return len(self._over) == len(self.channels)

    def tell(self, channel: str, said: str) -> None:
        """Note what a channel said; a terminal status is never forgotten for a lesser notice."""
        self.heard[channel] = said or self.heard.get(channel, "")
        if said:
            self._over.add(channel)
        self.told.set()

    def settle(self) -> None:
        """Forget the confirmations of the channels, which are no news."""
        self.heard = {channel: said for channel, said in self.heard.items() if said}
        if not self.heard:
            self.told.clear()

    def take(self) -> Heard:
        """What was heard since the last time."""
        self.told.clear()
        heard, self.heard = self.heard, {}
        return heard


class Switchboard:
    """Ears by channel, and how far Redis is with what they want. Not thread-safe: a hub guards it."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        # Who waits for an end that the inbox is going to be told of, by the mark of the start.
        self._covered: dict[str | None, set[Ear]] = {}
        self._ears: dict[str, set[Ear]] = {}
        self._asked: set[str] = set()
        self._unanswered: dict[str, int] = {}
        self._new: dict[str, None] = {}
        self._gone: dict[str, None] = {}

    @property
    def busy(self) -> bool:
        """Whether anybody listens."""
        return bool(self._ears)

    @property
    def left(self) -> int:
        """How many channels are subscribed although nobody listens to them any more."""
        return len(self._gone)

    def add(self, ear: Ear) -> None:
        """Put an ear on its channels."""
        ear.complete = ear.mark is not None and self._in_inbox(ear, ear.mark)
        for channel in ear.channels:
            self._ears.setdefault(channel, set()).add(ear)
            self._gone.pop(channel, None)
            if ear.complete:
                ear.unconfirmed.discard(channel)
            elif channel not in self._asked:
                self._new[channel] = None
            elif channel not in self._unanswered:
                ear.unconfirmed.discard(channel)
        if not ear.unconfirmed:
            ear.ready.set()

    def _in_inbox(self, ear: Ear, mark: str) -> bool:
        """Whether the inbox has been told what an ear is to hear, or is going to be."""
        if mark in self._covered:
            self._covered[mark].add(ear)
            return True
        said = self.inbox.claim(mark)
        if said:
            ear.tell(ear.channels[0], said)
        elif said is not None:
            self._covered[mark] = {ear}
        return said is not None

    def remove(self, ear: Ear) -> None:
        """Take an ear off; what nobody listens to any more is unsubscribed next time."""
        covered = self._covered.get(ear.mark, set())
        covered.discard(ear)
        if not covered:
            self._covered.pop(ear.mark, None)
        for channel in ear.channels:
            ears = self._ears.get(channel)
            if ears is not None:
                ears.discard(ear)
                if not ears:
                    del self._ears[channel]
                    self._new.pop(channel, None)
                    if channel in self._asked:
                        self._gone[channel] = None

    def changes(self) -> tuple[list[str], list[str]]:
        """Channels to subscribe and to unsubscribe now; they count as asked for from here on."""
        if self._ears and self.inbox.channel not in self._asked:
            self._new[self.inbox.channel] = None
        new, gone = list(self._new), list(self._gone)
        self._new.clear()
        self._gone.clear()
        for channel in new:
            self._unanswered[channel] = self._unanswered.get(channel, 0) + 1
        self._asked.update(new)
        self._asked.difference_update(gone)
        return new, gone

    def take(self, reply: Any) -> None:
        """Pass on what the connection read: a notice, or the confirmation of a subscription."""
        if not isinstance(reply, list) or len(reply) != 3:
            return  # the answer to a PING
        kind, channel = _text(reply[0]), _text(reply[1])
        if kind == "message":
            said = _text(reply[2])
            if channel == self.inbox.channel:
                self._take_from_inbox(said)
            elif channel not in self._unanswered:
                self._tell(channel, said)
        elif kind == "subscribe":
            self._confirm(channel)

    def _tell(self, channel: str, said: str) -> None:
        # What comes before the confirmation that is waited for was said to a subscription before, perhaps of another run with
        # the same id; who listens is going to look. And who hears from the inbox has no need to hear it here.
        for ear in self._ears.get(channel, ()):
            if not ear.complete:
                ear.tell(channel, said)

    def _take_from_inbox(self, message: str) -> None:
        mark, _, said = message.partition(" ")
        ears = self._covered.pop(mark, None)  # it is said once: a further ear has to look
        if ears is None:
            self.inbox.note(mark, said)
        for ear in ears or ():
            ear.tell(ear.channels[0], said)

    def lost(self) -> None:
        """The connection is gone; everything is asked for again on the next one."""
        self._asked.clear()
        self._unanswered.clear()
        self._gone.clear()
        self._covered.clear()
        self.inbox.lost()
        self._new = dict.fromkeys(self._ears)
        for channel, ears in self._ears.items():
            for ear in ears:
                ear.complete = False
                ear.unconfirmed.add(channel)

    def wake_all(self) -> None:
        """Let everybody look for himself, whether Redis has confirmed his channels or not."""
        for channel, ears in self._ears.items():
            for ear in ears:
                ear.tell(channel, "")
                ear.ready.set()

    def _confirm(self, channel: str) -> None:
        # One that was unsubscribed meanwhile and asked for again counts only with its last confirmation.
        left = self._unanswered.get(channel, 1) - 1
        if left > 0:
            self._unanswered[channel] = left
            return
        self._unanswered.pop(channel, None)
        if channel == self.inbox.channel:
            self.inbox.open = True
        for ear in self._ears.get(channel, ()):
            ear.tell(channel, "")  # after a reconnect something may have been missed
            ear.unconfirmed.discard(channel)
            if not ear.unconfirmed:
                ear.ready.set()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
