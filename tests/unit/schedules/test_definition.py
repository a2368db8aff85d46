"""What is due: missed ticks, the window in which they are made up for, jitter."""

import json

import pytest

from flowcraft_server.schedules.definition import Look, Schedule

MINUTE = 60_000
HOUR = 60 * MINUTE
T = 1_800_000_000_000 // HOUR * HOUR
"""A full hour."""


def every(ms: int, **settings: int) -> Schedule:
    return Schedule("s", "b", every=ms, **settings)


def test_nothing_is_due_before_the_next_tick() -> None:
    assert every(HOUR).look(T, T + HOUR - 1) == Look(None, None, T)
    assert every(HOUR).look(T, T + HOUR) == Look(T + HOUR, None, T + HOUR)


def test_of_missed_ticks_the_latest_is_started() -> None:
    assert every(MINUTE).look(T, T + 10 * MINUTE + 5) == Look(T + 10 * MINUTE, T + MINUTE, T + 10 * MINUTE)


@pytest.mark.parametrize("missed", [1, 50, 100_000])
def test_what_is_too_late_is_not(missed: int) -> None:
    schedule = every(24 * HOUR, catch_up=HOUR)
    begin = T // (24 * HOUR) * 24 * HOUR
    now = begin + missed * 24 * HOUR + HOUR + 1
    look = schedule.look(begin, now)
    assert (look.tick, look.missed) == (None, begin + 24 * HOUR)
    assert begin + missed * 24 * HOUR <= look.handled <= now
    assert schedule.following(look.handled)[1][0] == begin + (missed + 1) * 24 * HOUR
    assert schedule.look(begin, now - 1).tick == begin + missed * 24 * HOUR


def test_a_clock_that_was_set_back_has_nothing_due() -> None:
    assert every(MINUTE).look(T, T - 100 * HOUR) == Look(None, None, T)


def test_jitter_is_the_same_each_time_and_ends_before_the_next_tick() -> None:
    schedule, other = every(MINUTE, jitter=MINUTE), Schedule("t", "b", every=MINUTE, jitter=MINUTE)
    ticks = [T + number * MINUTE for number in range(500)]
    puts_off = [schedule.due_at(tick) - tick for tick in ticks]
    assert puts_off == [schedule.due_at(tick) - tick for tick in ticks]
    assert puts_off != [other.due_at(tick) - tick for tick in ticks]
    assert 0 <= min(puts_off) < MINUTE / 10
    assert MINUTE * 9 / 10 < max(puts_off) < MINUTE
    cron = Schedule("s", "b", "0,1 * * * *", jitter=HOUR)
    assert all(cron.due_at(tick) < tick + MINUTE for tick in range(T, T + 20 * HOUR, HOUR))


def test_with_jitter_each_tick_is_started_once_in_order() -> None:
    schedule, handled, started = every(MINUTE, jitter=MINUTE), T, []
    for now in range(T, T + HOUR, 500):
        look = schedule.look(handled, now)
        assert look.missed is None
        handled = look.handled
        if look.tick is not None:
            started.append(look.tick)
    assert started == [T + number * MINUTE for number in range(1, len(started) + 1)]
    assert len(started) >= 58


def test_as_it_is_published() -> None:
    schedule = Schedule("s", "b", "30 2 * * *", "Europe/Berlin", 0, "queue", 1, 2, {"a": [1, "ß"]}, ("t",), "low")
    assert Schedule.from_json("s", schedule.to_json()) == schedule
    assert schedule.run_id(T) == f"s~{'20270115T080000Z'}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"blueprint": "b"}',
        every(5).to_json().replace('"every": 5', '"cron": "x"'),
        "[" * 9999,
        *[
            json.dumps(json.loads(every(5_000).to_json()) | {name: value})
            for name, value in [
                ("every", 1),
                ("every", 10**30),
                ("every", float("inf")),
                ("catchUp", -1),
                ("jitter", 10**16),
                ("tags", [1]),
                ("tags", None),
                ("input", [1]),
                ("blueprint", 5),
                ("overlap", "all"),
                ("priority", 5),
                ("priority", [1]),
            ]
        ],
        json.dumps({**json.loads(every(5_000).to_json()), "every": 0, "cron": [1], "timezone": {"a": 1}}),
    ],
)
def test_a_definition_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError):
        Schedule.from_json("s", text)
