"""The prefetch of claimed nodes: when somebody has to be called to look after it."""

import threading
from typing import Any

import pytest

from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.scripts import ClaimMode
from flowcraft_server.worker.prefetch import PrefetchBuffer


@pytest.fixture
def prefetch() -> PrefetchBuffer:
    """With two nodes, from which one thread works."""
    prefetch = PrefetchBuffer()
    prefetch.enter()
    prefetch.ask(2)
    first: Any = "first"
    second: Any = "second"
    prefetch.put([first, second], 2)
    return prefetch


def test_nobody_is_called_for_nodes_that_their_thread_is_about_to_take(prefetch: PrefetchBuffer) -> None:
    assert (prefetch.take(clock()), prefetch.take(clock())) == ("first", "second")
    prefetch.leave_unattended()
    prefetch.leave()
    assert not prefetch.unattended.is_set()


@pytest.mark.parametrize("turn", ["leave_unattended", "share", "leave"])
def test_somebody_is_called_when_the_thread_turns_to_something_else(prefetch: PrefetchBuffer, turn: str) -> None:
    prefetch.take(clock())
    getattr(prefetch, turn)()
    assert prefetch.unattended.is_set()


def test_somebody_is_called_for_what_comes_while_all_threads_are_busy(prefetch: PrefetchBuffer) -> None:
    assert (prefetch.take(clock()), prefetch.take(clock())) == ("first", "second")
    prefetch.beginning("slow")
    third: Any = "third"
    prefetch.put([third], 0)
    assert prefetch.unattended.is_set()


def test_a_finished_node_that_is_not_sent_counts_as_well(prefetch: PrefetchBuffer) -> None:
    assert (prefetch.take(clock()), prefetch.take(clock())) == ("first", "second")
    prefetch.leave_unattended(finished=1)
    assert prefetch.unattended.is_set()


def test_a_closed_stock_takes_nothing_and_is_settled_when_what_was_asked_for_has_been_handed_back(
    prefetch: PrefetchBuffer,
) -> None:
    assert prefetch.ask(1)
    assert prefetch.close() == ["first", "second"]
    late: Any = "late"
    assert prefetch.put([late], 1) is False
    assert prefetch.wait_settled(0.01) is False, "its lease is still to be given up"
    assert prefetch.put([], 1) is True
    assert prefetch.wait_settled(0.01) is True
    assert (prefetch.ask(1), prefetch.claim_mode(True), len(prefetch)) == (False, ClaimMode.NONE, 0)


def test_who_stands_by_for_a_claim_is_notified_that_it_brought_nothing(prefetch: PrefetchBuffer) -> None:
    """It may have been woken for a node that became ready just after that claim."""
    assert (prefetch.take(clock()), prefetch.take(clock())) == ("first", "second")
    standing_by = threading.Thread(target=prefetch.wait, args=(20.0,))
    standing_by.start()
    for _ in range(100):
        prefetch.ask(1)
        prefetch.put([], 1)
        standing_by.join(0.05)
        if not standing_by.is_alive():
            return
    pytest.fail("it waits on")
