"""The stock of claimed nodes: when somebody has to be called to look after it."""

import threading
from typing import Any

import pytest

from flowcraft_server.executor.claimed import ClaimedNodes


@pytest.fixture
def stock() -> ClaimedNodes:
    """With two nodes, from which one thread works."""
    stock = ClaimedNodes()
    stock.enter()
    stock.ask(2)
    first: Any = "first"
    second: Any = "second"
    stock.put([first, second], 2)
    return stock


def test_nobody_is_called_for_nodes_that_their_thread_is_about_to_take(stock: ClaimedNodes) -> None:
    assert (stock.take(), stock.take()) == ("first", "second")
    stock.leave_unattended()
    stock.leave()
    assert not stock.unattended.is_set()


@pytest.mark.parametrize("turn", ["leave_unattended", "share", "leave"])
def test_somebody_is_called_when_the_thread_turns_to_something_else(stock: ClaimedNodes, turn: str) -> None:
    stock.take()
    getattr(stock, turn)()
    assert stock.unattended.is_set()


def test_somebody_is_called_for_what_comes_while_all_threads_are_busy(stock: ClaimedNodes) -> None:
    assert (stock.take(), stock.take()) == ("first", "second")
    stock.beginning("slow")
    third: Any = "third"
    stock.put([third], 0)
    assert stock.unattended.is_set()


def test_a_finished_node_that_is_not_sent_counts_as_well(stock: ClaimedNodes) -> None:
    assert (stock.take(), stock.take()) == ("first", "second")
    stock.leave_unattended(finished=1)
    assert stock.unattended.is_set()


def test_a_closed_stock_takes_nothing_and_is_settled_when_what_was_asked_for_has_been_handed_back(
    stock: ClaimedNodes,
) -> None:
    assert stock.ask(1)
    assert stock.close() == ["first", "second"]
    late: Any = "late"
    assert stock.put([late], 1) is False
    assert stock.wait_settled(0.01) is False, "its lease is still to be given up"
    assert stock.put([], 1) is True
    assert stock.wait_settled(0.01) is True
    assert (stock.ask(1), stock.how_to_go_on(True), len(stock)) == (False, "", 0)


def test_who_stands_by_for_a_claim_is_told_that_it_brought_nothing(stock: ClaimedNodes) -> None:
    """It may have been woken for a node that became ready just after that claim."""
    assert (stock.take(), stock.take()) == ("first", "second")
    standing_by = threading.Thread(target=stock.wait, args=(20.0,))
    standing_by.start()
    for _ in range(100):
        stock.ask(1)
        stock.put([], 1)
        standing_by.join(0.05)
        if not standing_by.is_alive():
            return
    pytest.fail("it waits on")
