"""The bookkeeping of who listens to what: the sync and the async hub share it."""

import threading
from typing import Any

from flowcraft_sdk.switchboard import Ear, Switchboard


def ear(*channels: str) -> Ear:
    return Ear(channels, threading.Event(), threading.Event())


def is_set(flag: Any) -> bool:
    return bool(flag.is_set())


def confirm(board: Switchboard, *channels: str) -> None:
    for number, channel in enumerate(channels, 1):
        board.take([b"subscribe", channel.encode(), number])


def test_an_ear_is_ready_when_all_its_channels_are_confirmed() -> None:
    board, mine = Switchboard(), ear("a", "b", "a")
    board.add(mine)
    assert board.changes() == (["a", "b"], [])
    assert board.changes() == ([], [])
    confirm(board, "a")
    assert not is_set(mine.ready)
    confirm(board, "b")
    assert is_set(mine.ready)


def test_a_second_ear_on_a_confirmed_channel_is_ready_at_once() -> None:
    board, first, second = Switchboard(), ear("a"), ear("a")
    board.add(first)
    board.changes()
    confirm(board, "a")
    board.add(second)
    assert is_set(second.ready)
    assert board.changes() == ([], [])


def test_a_channel_is_unsubscribed_with_its_last_ear() -> None:
    board, first, second = Switchboard(), ear("a", "b"), ear("a")
    board.add(first)
    board.add(second)
    board.changes()
    board.remove(first)
    assert board.changes() == ([], ["b"])
    board.remove(second)
    board.remove(second)
    assert board.changes() == ([], ["a"])
    assert not board.busy


def test_forgotten_and_wanted_again_before_redis_heard_of_it_needs_nothing() -> None:
    board, first, second = Switchboard(), ear("a"), ear("a")
    board.add(first)
    board.changes()
    confirm(board, "a")
    board.remove(first)
    board.add(second)
    assert is_set(second.ready)
    assert board.changes() == ([], [])


def test_only_the_last_of_several_confirmations_counts() -> None:
    board, first, second = Switchboard(), ear("a"), ear("a")
    board.add(first)
    board.changes()
    board.remove(first)
    assert board.changes() == ([], ["a"])
    board.add(second)
    assert board.changes() == (["a"], [])
    confirm(board, "a")  # of the first request; Redis has yet to read UNSUBSCRIBE
    assert not is_set(second.ready)
    board.take([b"unsubscribe", b"a", 0])
    confirm(board, "a")
    assert is_set(second.ready)


def test_what_is_said_reaches_the_ears_of_the_channel() -> None:
    board, mine, other = Switchboard(), ear("a"), ear("b")
    for each in (mine, other):
        board.add(each)
    board.take([b"message", b"a", b""])
    assert (mine.take(), other.take()) == ({"a": ""}, {})
    board.take([b"message", b"a", b"completed"])
    board.take(["message", "a", ""])
    assert mine.take() == {"a": "completed"}
    assert mine.take() == {}
    assert not is_set(mine.told)


def test_after_a_reconnect_everybody_looks_for_himself() -> None:
    board, mine = Switchboard(), ear("a")
    board.add(mine)
    board.changes()
    confirm(board, "a")
    mine.take()
    board.lost()
    assert board.changes() == (["a"], [])
    assert not is_set(mine.told)
    confirm(board, "a")
    assert mine.take() == {"a": ""}


def test_an_ear_that_comes_while_the_connection_is_lost_waits_for_the_next() -> None:
    board, first, second = Switchboard(), ear("a"), ear("a")
    board.add(first)
    board.changes()
    confirm(board, "a")
    board.lost()
    board.add(second)
    assert not is_set(second.ready)
    assert board.changes() == (["a"], [])
    confirm(board, "a")
    assert is_set(second.ready)


def test_what_was_confirmed_on_a_lost_connection_is_to_be_confirmed_again() -> None:
    board, mine = Switchboard(), ear("a", "b")
    board.add(mine)
    board.changes()
    confirm(board, "a")
    board.lost()
    board.changes()
    confirm(board, "b")
    assert not is_set(mine.ready)
    confirm(board, "a")
    assert is_set(mine.ready)


def test_answers_to_a_ping_and_strangers_are_let_through() -> None:
    board = Switchboard()
    for reply in (b"PONG", [b"pong", b""], [b"message", b"nobody", b"x"], None, [b"subscribe", b"nobody", 1]):
        board.take(reply)


def test_waking_all_tells_every_ear() -> None:
    board, mine = Switchboard(), ear("a", "b")
    board.add(mine)
    board.wake_all()
    assert mine.take() == {"a": "", "b": ""}
