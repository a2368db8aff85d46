"""Ticks: cron expressions in time zones, also on days on which the clocks change, and ticks every so often."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from freezegun import freeze_time
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft_server.schedules.timing import Every, TimingError, cron, next_after, zone_of

SPRING, AUTUMN = "2026-03-28T12:00", "2026-10-24T12:00"
"""Half a day before the clocks change in Europe/Berlin."""


def ticks(expression: str, zone: str, start: str, count: int) -> list[str]:
    where = ZoneInfo(zone)
    moment = int(datetime.fromisoformat(start).replace(tzinfo=where).timestamp() * 1000)
    found = next_after(cron(expression, zone), moment, count)
    return [f"{datetime.fromtimestamp(tick / 1000, where):%d %H:%M %Z}" for tick in found]


@pytest.mark.parametrize(
    ("expression", "start", "expected"),
    [
        ("30 2 * * *", SPRING, ["29 03:00 CEST", "30 02:30 CEST"]),
        ("30 2 * * *", AUTUMN, ["25 02:30 CEST", "26 02:30 CET"]),
        ("*/30 2 * * *", SPRING, ["29 03:00 CEST", "30 02:00 CEST", "30 02:30 CEST"]),
        ("*/30 2 * * *", AUTUMN, ["25 02:00 CEST", "25 02:30 CEST", "26 02:00 CET"]),
        ("0,30 1-3 * * *", SPRING, ["29 01:00 CET", "29 01:30 CET", "29 03:00 CEST", "29 03:30 CEST"]),
        ("0 */2 29 3 *", SPRING, ["29 00:00 CET", "29 03:00 CEST", "29 04:00 CEST"]),
        ("0 */2 25 10 *", AUTUMN, ["25 00:00 CEST", "25 02:00 CEST", "25 04:00 CET"]),
        ("30 * 29 3 *", SPRING, ["29 00:30 CET", "29 01:30 CET", "29 03:30 CEST", "29 04:30 CEST"]),
        ("30 */1 25 10 *", AUTUMN, ["25 00:30 CEST", "25 01:30 CEST", "25 02:30 CEST", "25 02:30 CET", "25 03:30 CET"]),
        ("30 0-23 25 10 *", AUTUMN, ["25 00:30 CEST", "25 01:30 CEST", "25 02:30 CEST", "25 02:30 CET"]),
        ("@daily", AUTUMN, ["25 00:00 CEST", "26 00:00 CET"]),
    ],
)
def test_days_on_which_the_clocks_change(expression: str, start: str, expected: list[str]) -> None:
    assert ticks(expression, "Europe/Berlin", start, len(expected)) == expected


def test_clocks_that_change_by_half_an_hour() -> None:
    assert ticks("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", 2) == ["04 02:30 +11", "05 02:15 +11"]
    assert ticks("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", 2) == ["05 01:45 +11", "06 01:45 +1030"]


@pytest.mark.parametrize(
    "now", ["2026-10-25T00:15", "2026-10-25T00:45", "2026-10-25T01:15", "2026-10-25T01:45", "2026-03-29T00:59:59"]
)
def test_where_one_asks_in_the_changing_hour_makes_no_difference(now: str) -> None:
    """Asked at any moment, the next tick is the first one of the list that is later."""
    with freeze_time(now):  # in UTC
        moment = int(datetime.now(UTC).timestamp() * 1000)
    for expression in ("30 2 * * *", "*/20 * * * *", "0,30 1-3 * * *", "15 */2 * * *"):
        timing = cron(expression, "Europe/Berlin")
        day_before = next_after(timing, moment - 86_400_000, 200)
        assert next_after(timing, moment, 3) == [tick for tick in day_before if tick > moment][:3]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 */5 * * *", "59 23 L * *", "0 0 29 2 *", "13 1-4/2 * * 0"]),
    st.sampled_from(
        ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia"]
    ),
    st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)),
)
def test_ticks_grow_and_do_not_depend_on_when_one_asks(expression: str, zone: str, at: datetime) -> None:
    moment = int(at.replace(tzinfo=UTC).timestamp() * 1000)
    timing = cron(expression, zone)
    found = next_after(timing, moment, 6)
    assert all(tick > moment and tick % 1000 == 0 for tick in found)
    assert all(before < after for before, after in pairwise(found))
    assert next_after(timing, found[2], 3) == found[3:]
    assert next_after(timing, found[2] - 1, 1) == [found[2]]


def test_every_counts_from_1970() -> None:
    noon = int(datetime(2026, 5, 4, 12, 7, tzinfo=UTC).timestamp() * 1000)
    found = [datetime.fromtimestamp(tick / 1000, UTC) for tick in next_after(Every(900_000), noon, 3)]
    assert found == [datetime(2026, 5, 4, 12, 15, tzinfo=UTC) + timedelta(minutes=15 * number) for number in range(3)]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "with 0 fields; write five fields"),
        ("* * * *", "with 4 fields"),
        ("0 * * * * *", "with 6 fields"),
        ("60 * * * *", "wrong minute"),
        ("0 24 * * *", "wrong hour"),
        ("0 0 32 * *", "wrong day-of-month"),
        ("0 0 * 13 *", "wrong month"),
        ("0 0 * * 8", "wrong day-of-week"),
        ("5-1 * * * *", "wrong minute"),
        ("*/0 * * * *", "wrong minute"),
        ("٣ * * * *", "wrong minute"),
        ("0 0 30 2 *", "wrong day-of-month"),
        ("0 0 */30 * MON#3", "never comes"),
        ("@sometimes", "no cron nickname '@sometimes'; known: @hourly"),
        ("1," * 200, "got 400 characters"),
        ("0 0 * * MON-", "wrong day-of-week"),
        ("0 0 LW/x * *", "wrong day-of-month"),
    ],
)
def test_what_is_no_cron_expression(expression: str, message: str) -> None:
    with pytest.raises(TimingError) as raised:
        cron(expression)
    assert message in str(raised.value)


@pytest.mark.parametrize("name", ["Berlin", "Europe/Berln", "../etc/passwd", "", "/etc/localtime"])
def test_what_is_no_time_zone(name: str) -> None:
    with pytest.raises(TimingError, match="no time zone"):
        zone_of(name)
