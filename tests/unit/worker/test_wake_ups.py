"""What is logged of an outage of Redis: that it began, that it is over and how long it took; each once."""

from collections.abc import Iterator

import pytest
from loguru import logger

from flowcraft_server.store.link import StoreLink, StoreUnavailable
from flowcraft_server.worker import wake_ups
from flowcraft_server.worker.wake_ups import WakeUps


@pytest.fixture
def reported() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]))
    yield lines
    logger.remove(sink)


def test_an_outage_is_reported_once_and_its_end_with_its_length(
    monkeypatch: pytest.MonkeyPatch, reported: list[str]
) -> None:
    now = 100.0
    answers: list[bytes | StoreUnavailable | None] = [
        None, StoreUnavailable("refused"), StoreUnavailable("refused"), b"message", None, StoreUnavailable("gone"), None,
    ]  # fmt: skip
    expected = [None, None, None, b"message", None, None, None]

    def answer(*_: object) -> bytes | None:
        nonlocal now
        now += 1.5
        given = answers.pop(0)
        if isinstance(given, StoreUnavailable):
            raise given
        return given

    link = StoreLink("redis://localhost:1")
    monkeypatch.setattr(link, "sleep", answer)
    monkeypatch.setattr(wake_ups, "clock", lambda: now)
    monkeypatch.setattr(wake_ups, "AWAY_PAUSE", 0.0)
    wakes = WakeUps(link, ["list"])
    assert [wakes.wait(1.0) for _ in range(7)] == expected
    assert reported == [
        "Redis is away, no work can be waited for: refused",
        "Redis is back after 3.0 s",
        "Redis is away, no work can be waited for: gone",
        "Redis is back after 1.5 s",
    ]
