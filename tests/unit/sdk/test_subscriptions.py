"""The bookkeeping of who listens to what: the sync and the async subscriber share it."""

import threading
from typing import Any

from flowcraft_sdk._operations.completion_inbox import MOST_RESERVED, CompletionInbox, notification_token_of
from flowcraft_sdk._transport.subscriptions import Subscription, SubscriptionRegistry


def subscription(*channels: str, notification_token: str | None = None) -> Subscription:
    return Subscription(channels, threading.Event(), threading.Event(), notification_token=notification_token)


def registry_of_a_client() -> SubscriptionRegistry:
    """With an inbox that is subscribed, so that the tests see what else is."""
    registry, any_ear = SubscriptionRegistry(CompletionInbox("inbox:")), subscription("any")
    registry.add(any_ear)
    assert registry.changes() == (["any", registry.inbox.channel], [])
    confirm(registry, "any", registry.inbox.channel)
    registry.remove(any_ear)
    assert registry.changes() == ([], ["any"])
    return registry


def is_set(flag: Any) -> bool:
    return bool(flag.is_set())


def confirm(registry: SubscriptionRegistry, *channels: str) -> None:
    for number, channel in enumerate(channels, 1):
        registry.take([b"subscribe", channel.encode(), number])


def test_an_ear_is_ready_when_all_its_channels_are_confirmed() -> None:
    registry, mine = registry_of_a_client(), subscription("a", "b", "a")
    registry.add(mine)
    assert registry.changes() == (["a", "b"], [])
    assert registry.changes() == ([], [])
    confirm(registry, "a")
    assert not is_set(mine.ready)
    confirm(registry, "b")
    assert is_set(mine.ready)


def test_a_second_ear_on_a_confirmed_channel_is_ready_at_once() -> None:
    registry, first, second = registry_of_a_client(), subscription("a"), subscription("a")
    registry.add(first)
    registry.changes()
    confirm(registry, "a")
    registry.add(second)
    assert is_set(second.ready)
    assert registry.changes() == ([], [])


def test_a_channel_is_unsubscribed_with_its_last_ear() -> None:
    registry, first, second = registry_of_a_client(), subscription("a", "b"), subscription("a")
    registry.add(first)
    registry.add(second)
    registry.changes()
    registry.remove(first)
    assert registry.changes() == ([], ["b"])
    registry.remove(second)
    registry.remove(second)
    assert registry.changes() == ([], ["a"])
    assert not registry.busy


def test_forgotten_and_wanted_again_before_redis_received_it_needs_nothing() -> None:
    registry, first, second = registry_of_a_client(), subscription("a"), subscription("a")
    registry.add(first)
    registry.changes()
    confirm(registry, "a")
    registry.remove(first)
    registry.add(second)
    assert is_set(second.ready)
    assert registry.changes() == ([], [])


def test_only_the_last_of_several_confirmations_counts() -> None:
    registry, first, second = registry_of_a_client(), subscription("a"), subscription("a")
    registry.add(first)
    registry.changes()
    registry.remove(first)
    assert registry.changes() == ([], ["a"])
    registry.add(second)
    assert registry.changes() == (["a"], [])
    confirm(registry, "a")  # of the first request; Redis has yet to read UNSUBSCRIBE
    assert not is_set(second.ready)
    registry.take([b"unsubscribe", b"a", 0])
    confirm(registry, "a")
    assert is_set(second.ready)


def test_what_is_published_reaches_the_ears_of_the_channel() -> None:
    registry, mine, other = registry_of_a_client(), subscription("a"), subscription("b")
    for each in (mine, other):
        registry.add(each)
    registry.take([b"message", b"a", b""])
    assert (mine.take(), other.take()) == ({"a": ""}, {})
    registry.take([b"message", b"a", b"completed"])
    registry.take(["message", "a", ""])
    assert mine.take() == {"a": "completed"}
    assert mine.take() == {}
    assert not is_set(mine.notified)


def test_after_a_reconnect_everybody_looks_for_himself() -> None:
    registry, mine = registry_of_a_client(), subscription("a")
    registry.add(mine)
    registry.changes()
    confirm(registry, "a")
    mine.take()
    registry.discard_all()
    assert registry.changes() == (["a", registry.inbox.channel], [])
    assert not is_set(mine.notified)
    confirm(registry, "a")
    assert mine.take() == {"a": ""}


def test_an_ear_that_comes_while_the_connection_is_lost_waits_for_the_next() -> None:
    registry, first, second = registry_of_a_client(), subscription("a"), subscription("a")
    registry.add(first)
    registry.changes()
    confirm(registry, "a")
    registry.discard_all()
    registry.add(second)
    assert not is_set(second.ready)
    assert registry.changes() == (["a", registry.inbox.channel], [])
    confirm(registry, "a")
    assert is_set(second.ready)


def test_what_was_confirmed_on_a_lost_connection_is_to_be_confirmed_again() -> None:
    registry, mine = registry_of_a_client(), subscription("a", "b")
    registry.add(mine)
    registry.changes()
    confirm(registry, "a")
    registry.discard_all()
    registry.changes()
    confirm(registry, "b")
    assert not is_set(mine.ready)
    confirm(registry, "a")
    assert is_set(mine.ready)


def test_answers_to_a_ping_and_strangers_are_let_through() -> None:
    registry = registry_of_a_client()
    for reply in (b"PONG", [b"pong", b""], [b"message", b"nobody", b"x"], None, [b"subscribe", b"nobody", 1]):
        registry.take(reply)


def test_waking_all_notifies_every_ear() -> None:
    registry, mine = registry_of_a_client(), subscription("a", "b")
    registry.add(mine)
    registry.notify_all()
    assert mine.take() == {"a": "", "b": ""}


def expect(registry: SubscriptionRegistry) -> str:
    """The position of a start that names the inbox, '' if it does not."""
    return notification_token_of(registry.inbox.reserve())


def into_inbox(registry: SubscriptionRegistry, position: str, published: str) -> None:
    registry.take([b"message", registry.inbox.channel.encode(), f"{position} {published}".encode()])


def test_an_end_that_the_inbox_is_notified_of_needs_no_subscription() -> None:
    registry = registry_of_a_client()
    mine = subscription("a", notification_token=expect(registry))
    registry.add(mine)
    assert mine.complete
    assert is_set(mine.ready)
    into_inbox(registry, mine.notification_token or "", "completed [1]")
    assert is_set(mine.notified)
    assert mine.take() == {"a": "completed [1]"}
    registry.remove(mine)
    assert registry.changes() == ([], [])


def test_an_end_that_came_before_anybody_waited_is_reported_at_once() -> None:
    registry = registry_of_a_client()
    mine = subscription("a", notification_token=expect(registry))
    into_inbox(registry, mine.notification_token or "", "completed")
    registry.add(mine)
    mine.discard_confirmations()
    assert mine.complete
    assert is_set(mine.notified)
    assert mine.take() == {"a": "completed"}


def test_the_end_of_an_earlier_run_with_the_same_id_is_not_taken_for_this_one() -> None:
    registry = registry_of_a_client()
    earlier = expect(registry)
    registry.inbox.release(earlier)
    mine = subscription("a", notification_token=expect(registry))
    registry.add(mine)
    into_inbox(registry, earlier, "failed")
    assert not is_set(mine.notified)
    into_inbox(registry, mine.notification_token or "", "completed")
    assert mine.take() == {"a": "completed"}


def test_it_is_published_once_so_a_further_ear_subscribes_and_looks() -> None:
    registry = registry_of_a_client()
    notification_token = expect(registry)
    first, second, third = (subscription("a", notification_token=notification_token) for _ in range(3))
    registry.add(first)
    registry.add(second)
    assert second.complete, "it is still to come"
    into_inbox(registry, notification_token, "completed")
    assert is_set(second.notified)
    registry.add(third)
    assert not third.complete
    assert registry.changes() == (["a"], [])


def test_who_has_given_up_waiting_receives_nothing_and_waits_anew_with_a_subscription() -> None:
    registry = registry_of_a_client()
    notification_token = expect(registry)
    first, again = (
        subscription("a", notification_token=notification_token),
        subscription("a", notification_token=notification_token),
    )
    registry.add(first)
    registry.remove(first)
    into_inbox(registry, notification_token, "completed")
    registry.add(again)
    assert not again.complete
    assert registry.changes() == (["a"], [])


def test_who_was_not_the_one_to_start_the_run_subscribes() -> None:
    registry, other = registry_of_a_client(), subscription("a")
    expect(registry)
    registry.add(other)
    assert not other.complete
    assert registry.changes() == (["a"], [])


def test_with_the_connection_what_the_inbox_receives_is_lost() -> None:
    registry = registry_of_a_client()
    mine, later = (
        subscription("a", notification_token=expect(registry)),
        subscription("b", notification_token=expect(registry)),
    )
    registry.add(mine)
    registry.discard_all()
    assert expect(registry) == "", "not before the inbox is subscribed again"
    registry.add(later)
    assert not later.complete
    assert registry.changes() == (["a", "b", registry.inbox.channel], [])
    confirm(registry, "a", "b")
    assert is_set(mine.notified), "it may have ended meanwhile"
    confirm(registry, registry.inbox.channel)
    assert expect(registry)


def test_a_client_that_does_not_wait_is_notified_of_a_few_ends_only() -> None:
    registry = registry_of_a_client()
    positions = [expect(registry) for _ in range(3 * MOST_RESERVED)]
    assert [bool(position) for position in positions] == [True] * MOST_RESERVED + [False] * 2 * MOST_RESERVED
    registry.add(subscription("other", notification_token=""))
    assert expect(registry), "it does wait"
    assert not expect(registry)
    first = subscription("c0", notification_token=positions[0])
    registry.add(first)
    assert not first.complete, "it was the oldest and has made room"
    registry.inbox.release(positions[1])
    assert expect(registry)


def test_what_is_no_word_of_ours_in_the_inbox_is_passed_over() -> None:
    registry = registry_of_a_client()
    for published in (b"", b"word", b"unknown completed"):
        registry.take([b"message", registry.inbox.channel.encode(), published])
    mine = subscription("a", notification_token=expect(registry))
    registry.add(mine)
    assert not is_set(mine.notified)


def test_what_an_earlier_subscription_received_is_no_news() -> None:
    """An end that lay unread when its channel was unsubscribed, and the id is used again."""
    registry, first, second = registry_of_a_client(), subscription("a"), subscription("a")
    registry.add(first)
    registry.changes()
    confirm(registry, "a")
    registry.remove(first)
    assert registry.changes() == ([], ["a"])
    registry.add(second)
    owner = subscription("a", notification_token=expect(registry))
    registry.add(owner)
    assert registry.changes() == (["a"], [])
    registry.take([b"message", b"a", b"failed"])
    assert not is_set(second.notified)
    registry.take([b"unsubscribe", b"a", 0])
    confirm(registry, "a")
    assert second.take() == {"a": ""}, "it looks"
    registry.take([b"message", b"a", b"completed"])
    assert second.take() == {"a": "completed"}
    assert owner.take() == {"a": ""}, "it is reported by the inbox"
