"""Stop signals: the first drains, the second hands back; handlers are put back afterwards."""

import os
import signal
import threading
import time

from flowcraft_server.service.stopping import StopRequests


def test_one_request_drains_and_two_hand_back() -> None:
    stop = StopRequests()
    assert not stop.wait(0)
    stop.request()
    assert stop.wait(0)
    assert stop.drain
    assert not stop.now
    stop.request()
    assert stop.now
    stop.close()


def test_a_wait_ends_with_the_signal_not_with_the_time() -> None:
    stop = StopRequests()
    before = signal.getsignal(signal.SIGTERM)
    with stop.on_signals():
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM)).start()
        began = time.monotonic()
        assert stop.wait(60)
        assert time.monotonic() - began < 50
        os.kill(os.getpid(), signal.SIGINT)
        stop.wait(1)
        assert stop.now
    assert signal.getsignal(signal.SIGTERM) is before
    stop.close()


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = StopRequests()
    try:
        with stop.on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.wait(0.01)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with stop.on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.wait(60)
    finally:
        signal.signal(signal.SIGHUP, before)
        stop.close()


def test_after_the_first_request_a_wait_sleeps_until_the_second() -> None:
    stop = StopRequests()
    stop.request()
    stop.wait(1)
    began = time.monotonic()
    assert stop.wait(0.02)
    assert time.monotonic() - began >= 0.015
    stop.close()


def test_any_number_of_requests_is_borne() -> None:
    stop = StopRequests()
    for _ in range(100_000):
        stop.request()
    assert stop.now
    stop.close()


def test_a_server_with_more_than_a_thousand_descriptors_waits_as_well() -> None:
    taken = [os.dup(0) for _ in range(1100)]
    try:
        stop = StopRequests()
        assert not stop.wait(0.01)
        stop.request()
        assert stop.wait(60)
        stop.close()
    finally:
        for descriptor in taken:
            os.close(descriptor)
