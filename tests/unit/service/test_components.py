"""The loop that runs the parts of a server process: order, health, drain, stop, and parts that raise."""

import pytest

from flowcraft_server.service.components import serve
from flowcraft_server.service.stopping import StopRequests


class Part:
    """A component that writes down what is called.

    Args:
        runs: how often `drain` finds that something still runs.
        raises: the name of the call that raises.
    """

    def __init__(self, name: str, calls: list[str], stop: StopRequests, runs: int = 0, raises: str = "") -> None:
        self.name, self.calls, self.requests, self.runs, self.raises = name, calls, stop, runs, raises
        self.deadlines: list[float] = []

    def _note(self, call: str) -> None:
        if self.calls[-1:] != [f"{self.name}.{call}"]:
            self.calls.append(f"{self.name}.{call}")
        if call == self.raises:
            raise RuntimeError(call)

    def start(self) -> None:
        self._note("start")

    def health(self) -> list[str]:
        self._note("health")
        if not self.requests.drain:
            self.requests.request()
        return []

    def drain(self, deadline: float) -> bool:
        self._note("drain")
        self.deadlines.append(deadline)
        self.runs -= 1
        return self.runs < 0

    def stop(self) -> bool:
        self._note("stop")
        return self.runs < 0


@pytest.fixture
def calls() -> list[str]:
    return []


def test_parts_start_in_order_and_stop_in_the_reverse_order(calls: list[str]) -> None:
    stop = StopRequests()
    assert serve([Part("a", calls, stop), Part("b", calls, stop)], stop, 5)
    assert calls == ["a.start", "b.start", "a.health", "b.health", "a.drain", "b.drain", "b.stop", "a.stop"]


def test_a_second_request_hands_back_what_still_runs(calls: list[str]) -> None:
    stop = StopRequests()
    part = Part("a", calls, stop, runs=1_000_000)
    original = part.drain

    def drain(deadline: float) -> bool:
        if len(part.deadlines) == 2:
            stop.request()
        return original(deadline)

    part.drain = drain  # type: ignore[method-assign]
    assert not serve([part], stop, 60)
    first, *_, last = part.deadlines
    assert last < first, "past the second request the deadline is now"


def test_a_part_that_raises_stops_the_others(calls: list[str]) -> None:
    stop = StopRequests()
    with pytest.raises(RuntimeError, match="health"):
        serve([Part("a", calls, stop), Part("b", calls, stop, raises="health")], stop, 5)
    assert calls[-2:] == ["b.stop", "a.stop"]


def test_a_part_that_does_not_start_is_not_stopped(calls: list[str]) -> None:
    stop = StopRequests()
    with pytest.raises(RuntimeError, match="start"):
        serve([Part("a", calls, stop), Part("b", calls, stop, raises="start")], stop, 5)
    assert calls == ["a.start", "b.start", "a.stop"]


def test_a_part_that_cannot_be_stopped_keeps_no_other_from_it(calls: list[str]) -> None:
    stop = StopRequests()
    assert not serve([Part("a", calls, stop), Part("b", calls, stop, raises="stop")], stop, 5)
    assert calls[-2:] == ["b.stop", "a.stop"]
