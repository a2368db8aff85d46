"""The bookkeeping of who listens to what: the sync and the async hub share it."""

import threading
from typing import Any

from flowcraft_sdk.inbox import MOST_EXPECTED, Inbox, mark_of
from flowcraft_sdk.switchboard import Ear, Switchboard


def ear(*channels: str, mark: str | None = None) -> Ear:
    return Ear(channels, threading.Event(), threading.Event(), mark=mark)


def board_of_a_client() -> Switchboard:
    """With an inbox that is subscribed, so that the tests see what else is."""
    board, any_ear = Switchboard(Inbox("inbox:")), ear("any")
    board.add(any_ear)
    assert board.changes() == (["any", board.inbox.channel], [])
    confirm(board, "any", board.inbox.channel)
    board.remove(any_ear)
    assert board.changes() == ([], ["any"])
    return board


def is_set(flag: Any) -> bool:
    return bool(flag.is_set())


def confirm(board: Switchboard, *channels: str) -> None:
    for number, channel in enumerate(channels, 1):
        board.take([b"subscribe", channel.encode(), number])


def test_an_ear_is_ready_when_all_its_channels_are_confirmed() -> None:
    board, mine = board_of_a_client(), ear("a", "b", "a")
    board.add(mine)
    assert board.changes() == (["a", "b"], [])
    assert board.changes() == ([], [])
    confirm(board, "a")
    assert not is_set(mine.ready)
    confirm(board, "b")
    assert is_set(mine.ready)


def test_a_second_ear_on_a_confirmed_channel_is_ready_at_once() -> None:
    board, first, second = board_of_a_client(), ear("a"), ear("a")
    board.add(first)
    board.changes()
    confirm(board, "a")
    board.add(second)
    assert is_set(second.ready)
    assert board.changes() == ([], [])


def test_a_channel_is_unsubscribed_with_its_last_ear() -> None:
    board, first, second = board_of_a_client(), ear("a", "b"), ear("a")
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
    board, first, second = board_of_a_client(), ear("a"), ear("a")
    board.add(first)
    board.changes()
    confirm(board, "a")
    board.remove(first)
    board.add(second)
    assert is_set(second.ready)
    assert board.changes() == ([], [])


def test_only_the_last_of_several_confirmations_counts() -> None:
    board, first, second = board_of_a_client(), ear("a"), ear("a")
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
    board, mine, other = board_of_a_client(), ear("a"), ear("b")
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
    board, mine = board_of_a_client(), ear("a")
    board.add(mine)
    board.changes()
    confirm(board, "a")
    mine.take()
    board.lost()
    assert board.changes() == (["a", board.inbox.channel], [])
    assert not is_set(mine.told)
    confirm(board, "a")
    assert mine.take() == {"a": ""}


def test_an_ear_that_comes_while_the_connection_is_lost_waits_for_the_next() -> None:
    board, first, second = board_of_a_client(), ear("a"), ear("a")
    board.add(first)
    board.changes()
    confirm(board, "a")
    board.lost()
    board.add(second)
    assert not is_set(second.ready)
    assert board.changes() == (["a", board.inbox.channel], [])
    confirm(board, "a")
    assert is_set(second.ready)


def test_what_was_confirmed_on_a_lost_connection_is_to_be_confirmed_again() -> None:
    board, mine = board_of_a_client(), ear("a", "b")
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
    board = board_of_a_client()
    for reply in (b"PONG", [b"pong", b""], [b"message", b"nobody", b"x"], None, [b"subscribe", b"nobody", 1]):
        board.take(reply)


def test_waking_all_tells_every_ear() -> None:
    board, mine = board_of_a_client(), ear("a", "b")
    board.add(mine)
    board.wake_all()
    assert mine.take() == {"a": "", "b": ""}


def expect(board: Switchboard) -> str:
    """The mark of a start that names the inbox, '' if it does not."""
    return mark_of(board.inbox.expect())


def into_inbox(board: Switchboard, mark: str, said: str) -> None:
    board.take([b"message", board.inbox.channel.encode(), f"{mark} {said}".encode()])


def test_an_end_that_the_inbox_is_told_of_needs_no_subscription() -> None:
    board = board_of_a_client()
    mine = ear("a", mark=expect(board))
    board.add(mine)
    assert mine.complete
    assert is_set(mine.ready)
    into_inbox(board, mine.mark or "", "completed [1]")
    assert is_set(mine.told)
    assert mine.take() == {"a": "completed [1]"}
    board.remove(mine)
    assert board.changes() == ([], [])


def test_an_end_that_came_before_anybody_waited_is_told_at_once() -> None:
    board = board_of_a_client()
    mine = ear("a", mark=expect(board))
    into_inbox(board, mine.mark or "", "completed")
    board.add(mine)
    mine.settle()
    assert mine.complete
    assert is_set(mine.told)
    assert mine.take() == {"a": "completed"}


def test_the_end_of_an_earlier_run_with_the_same_id_is_not_taken_for_this_one() -> None:
    board = board_of_a_client()
    earlier = expect(board)
    board.inbox.dismiss(earlier)
    mine = ear("a", mark=expect(board))
    board.add(mine)
    into_inbox(board, earlier, "failed")
    assert not is_set(mine.told)
    into_inbox(board, mine.mark or "", "completed")
    assert mine.take() == {"a": "completed"}


def test_it_is_said_once_so_a_further_ear_subscribes_and_looks() -> None:
    board = board_of_a_client()
    mark = expect(board)
    first, second, third = (ear("a", mark=mark) for _ in range(3))
    board.add(first)
    board.add(second)
    assert second.complete, "it is still to come"
    into_inbox(board, mark, "completed")
    assert is_set(second.told)
    board.add(third)
    assert not third.complete
    assert board.changes() == (["a"], [])


def test_who_has_given_up_waiting_hears_nothing_and_waits_anew_with_a_subscription() -> None:
    board = board_of_a_client()
    mark = expect(board)
    first, again = ear("a", mark=mark), ear("a", mark=mark)
    board.add(first)
    board.remove(first)
    into_inbox(board, mark, "completed")
    board.add(again)
    assert not again.complete
    assert board.changes() == (["a"], [])


def test_who_was_not_the_one_to_start_the_run_subscribes() -> None:
    board, other = board_of_a_client(), ear("a")
    expect(board)
    board.add(other)
    assert not other.complete
    assert board.changes() == (["a"], [])


def test_with_the_connection_what_the_inbox_is_told_is_lost() -> None:
    board = board_of_a_client()
    mine, later = ear("a", mark=expect(board)), ear("b", mark=expect(board))
    board.add(mine)
    board.lost()
    assert expect(board) == "", "not before the inbox is subscribed again"
    board.add(later)
    assert not later.complete
    assert board.changes() == (["a", "b", board.inbox.channel], [])
    confirm(board, "a", "b")
    assert is_set(mine.told), "it may have ended meanwhile"
    confirm(board, board.inbox.channel)
    assert expect(board)


def test_a_client_that_does_not_wait_is_told_of_a_few_ends_only() -> None:
    board = board_of_a_client()
    marks = [expect(board) for _ in range(3 * MOST_EXPECTED)]
    assert [bool(mark) for mark in marks] == [True] * MOST_EXPECTED + [False] * 2 * MOST_EXPECTED
    board.add(ear("other", mark=""))
    assert expect(board), "it does wait"
    assert not expect(board)
    first = ear("c0", mark=marks[0])
    board.add(first)
    assert not first.complete, "it was the oldest and has made room"
    board.inbox.dismiss(marks[1])
    assert expect(board)


def test_what_is_no_word_of_ours_in_the_inbox_is_passed_over() -> None:
    board = board_of_a_client()
    for said in (b"", b"word", b"unknown completed"):
        board.take([b"message", board.inbox.channel.encode(), said])
    mine = ear("a", mark=expect(board))
    board.add(mine)
    assert not is_set(mine.told)


def test_what_an_earlier_subscription_was_told_is_no_news() -> None:
    """An end that lay unread when its channel was unsubscribed, and the id is used again."""
    board, first, second = board_of_a_client(), ear("a"), ear("a")
    board.add(first)
    board.changes()
    confirm(board, "a")
    board.remove(first)
    assert board.changes() == ([], ["a"])
    board.add(second)
    owner = ear("a", mark=expect(board))
    board.add(owner)
    assert board.changes() == (["a"], [])
    board.take([b"message", b"a", b"failed"])
    assert not is_set(second.told)
    board.take([b"unsubscribe", b"a", 0])
    confirm(board, "a")
    assert second.take() == {"a": ""}, "it looks"
    board.take([b"message", b"a", b"completed"])
    assert second.take() == {"a": "completed"}
    assert owner.take() == {"a": ""}, "it is told by the inbox"
