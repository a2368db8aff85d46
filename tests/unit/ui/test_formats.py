from datetime import UTC, datetime, timedelta, timezone

import pytest

from flowcraft_server.ui import formats

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""), (-1, "0 ms"), (0, "0 ms"), (0.85, "850 ms"), (0.9996, "1.0 s"), (12.44, "12.4 s"), (59.94, "59.9 s"),
        (59.96, "1 min 00 s"), (185, "3 min 05 s"), (3599.6, "1 h 00 min"), (7800, "2 h 10 min"), (86_399.7, "1 d 0 h"),
        (4 * 86_400 + 3 * 3600, "4 d 3 h"),
    ],
)  # fmt: skip
def test_duration(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


def test_moments() -> None:
    assert formats.moment(None, NOW) == formats.exact(None) == formats.ago(None, NOW) == ""
    assert formats.moment(NOW - timedelta(hours=2), NOW) == "10:00:00"
    assert formats.moment(NOW.astimezone(timezone(timedelta(hours=5))), NOW) == "12:00:00"
    assert formats.moment(NOW - timedelta(days=2), NOW) == "27 Feb 12:00"
    assert formats.moment(NOW - timedelta(days=200), NOW) == "2025-08-13 12:00"
    assert formats.exact(NOW) == "2026-03-01T12:00:00.000Z"


def test_spans() -> None:
    assert formats.between(None, NOW, NOW) is None
    assert formats.between(NOW - timedelta(seconds=5), None, NOW) == 5
    assert formats.between(NOW, NOW - timedelta(seconds=5), NOW) == 0, "clocks may differ"
    assert formats.ago(NOW, NOW) == "now"
    assert formats.ago(NOW - timedelta(minutes=2), NOW) == "2 min 00 s ago"
    assert formats.ago(NOW + timedelta(seconds=90), NOW) == "in 1 min 30 s"


def test_values() -> None:
    assert formats.value("a\nb") == "a\nb"
    assert formats.value({"ä": [1]}) == '{\n  "ä": [\n    1\n  ]\n}'
    assert formats.value(NOW) == '"2026-03-01 12:00:00+00:00"'
    long = formats.value("x" * (formats.LONGEST_VALUE + 1234))
    assert len(long) < formats.LONGEST_VALUE + 100
    assert long.endswith("… 1,234 more characters")
    assert formats.words("timed_out") == "timed out"


def test_what_turns_the_direction_of_text_is_shown_as_an_escape() -> None:
    assert formats.value("a\u202eb") == "a\\u202eb"
    assert formats.value({"k": "\u2066x"}) == '{\n  "k": "\\u2066x"\n}'
