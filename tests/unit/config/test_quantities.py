"""Durations and sizes: with a unit in files, numbers in code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcraft_sdk.protocol.durations import parse_duration
from flowcraft_server.config.quantities import format_duration, format_rate, format_size, parse_rate, parse_size
from flowcraft_server.config.sections import ExecutorSection, LimitsSection


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("500ms", 0.5),
        ("5m", 300),
        ("2h", 7200),
        ("7d", 604800),
        ("1w", 604800),
        ("1h30m", 5400),
        (" 1.5 s ", 1.5),
        ("0s", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "30 sec", "-5s", "1h x", "1.s", "soon"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="write 30s or 500ms"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("1B", 1), ("64KiB", 65536), ("16MiB", 16 * 1024**2), ("1GB", 10**9), ("1.5 KiB", 1536)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "12", "KiB", "1 TB", "-1KiB", "64kib"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="write 64KiB or 16MiB"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=10**10))
def test_what_is_shown_of_a_duration_can_be_written(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(
        milliseconds / 1000, abs=1e-6, rel=1e-5
    )


@given(st.integers(min_value=0, max_value=2**40))
def test_what_is_shown_of_a_size_can_be_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_in_code_numbers_are_seconds_and_bytes() -> None:
    assert ExecutorSection(lease=2.5).lease == 2.5
    assert LimitsSection(max_value=4096).max_value == 4096


@pytest.mark.parametrize(
    ("text", "rate"), [("10/s", 10), ("90/m", 1.5), ("1000 / h", 1000 / 3600), ("1/d", 1 / 86_400), ("0.5/s", 0.5)]
)
def test_rates(text: str, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)
    assert parse_rate(format_rate(rate)) == pytest.approx(rate, rel=1e-4)


@pytest.mark.parametrize("text", ["", "10", "10/w", "-1/s", "s/10", "0/s", "1e9/s"])
def test_no_rates(text: str) -> None:
    with pytest.raises(ValueError, match=r"write 10/s|a rate is"):
        parse_rate(text)
