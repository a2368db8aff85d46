"""A client's inbox: one channel on which it hears how the runs that it has started end, without subscribing to each."""

import secrets

MOST_EXPECTED = 16
"""Ends that an inbox may be told of before anybody waits for them. A client that starts runs and does not wait has no use for
more: each would be sent to it, and lie there."""


class Inbox:
    """Which ends an inbox is going to be told of. Plain bookkeeping, kept by a switchboard.

    The inbox is subscribed once, along with the first thing that its client waits for. A run that is started after that
    names it, and cannot end unheard: who waits for it neither subscribes nor looks.

    Args:
        prefix: of its channel; its name follows, which no other client has.

    Attributes:
        open: whether Redis has confirmed the subscription.
    """

    def __init__(self, prefix: str) -> None:
        self.name = secrets.token_urlsafe(6)
        self.channel = prefix + self.name
        self.open = False
        self._expected: dict[str, str] = {}

    def expect(self) -> str:
        """A token for a run about to be started, which names the inbox; '' if it can expect no more.

        Behind the name stands a mark of this start alone: an end may lie unread while the same run id is used again.
        """
        if not self.open or len(self._expected) >= MOST_EXPECTED:
            return ""
        mark = secrets.token_urlsafe(8)
        self._expected[mark] = ""
        return f"{self.name}@{mark}"

    def dismiss(self, mark: str) -> None:
        """Nobody is going to wait for an end, or it is not going to be told."""
        self._expected.pop(mark, None)

    def note(self, mark: str, said: str) -> None:
        """An end that nobody waits for as yet."""
        if mark in self._expected:
            self._expected[mark] = said

    def claim(self, mark: str) -> str | None:
        """Somebody waits for an end now: what was said of it, '' if that is still to come, None if it is not expected here."""
        if mark in self._expected:
            return self._expected.pop(mark)
        if len(self._expected) >= MOST_EXPECTED:
            # This client does wait for its runs: the oldest makes room for another one.
            del self._expected[next(iter(self._expected))]
        return None

    def lost(self) -> None:
        """The connection is gone, and what would have been said on it."""
        self.open = False
        self._expected.clear()


def mark_of(token: str) -> str:
    """The mark of a start that names an inbox, '' of another one."""
    return token.partition("@")[2]
