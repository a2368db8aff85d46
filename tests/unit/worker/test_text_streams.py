"""What waits to be sent of a stream is bounded, and so is each call that sends it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from flowcraft_sdk.protocol.streamed_text import StreamedText
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.worker import text_streams
from flowcraft_server.worker.text_streams import MOST_ENTRIES_A_CALL, MOST_WAITING, TextStream

SECRET = "sk-a-secret-of-the-file"


@pytest.fixture
def stream() -> TextStream:
    claim = SimpleNamespace(run_id="r", instance_id="a", fencing_token="1:1", attempt=1)
    return TextStream(cast("Any", SimpleNamespace(claim=claim)))


def taken(stream: TextStream, secrets: tuple[str, ...] = ()) -> list[StreamedText]:
    redactor, found = Redactor(secrets), []
    while (text := stream.take(redactor, all_of_it=True)) is not None:
        found.append(text)
    return found


def test_a_call_adds_few_entries_however_much_waits(stream: TextStream) -> None:
    for number in range(2_000):
        stream.add(f"p{number}", "x")
    stream.add("long", "y" * 100_000)
    calls = taken(stream)
    assert max(len(call.entries) for call in calls) == MOST_ENTRIES_A_CALL
    assert [call.first for call in calls] == [1 + number * MOST_ENTRIES_A_CALL for number in range(len(calls))]
    assert [part for call in calls for part, _ in call.entries][:2_000] == [f"p{number}" for number in range(2_000)]
    assert sum(len(text) for call in calls for part, text in call.entries if part == "long") == 100_000
    assert not stream.waits
    stream.add("p", "more")
    (last,) = taken(stream)
    assert last.first == sum(len(call.entries) for call in calls) + 1


def test_names_of_parts_count_for_what_waits(stream: TextStream) -> None:
    for number in range(100_000):
        stream.add(f"{number:0200d}", "x")
    waiting = sum(len(call.entries) for call in taken(stream))
    assert 0 < waiting * 200 <= MOST_WAITING


def test_what_is_left_over_counts_for_what_waits(stream: TextStream) -> None:
    redactor = Redactor()
    for _ in range(30):
        stream.add("p", "x" * 100_000)
        stream.take(redactor, all_of_it=False)
    waiting = sum(len(text) for call in taken(stream) for _, text in call.entries)
    assert waiting <= MOST_WAITING


def test_a_secret_that_calls_would_cut_is_masked(stream: TextStream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_streams, "MOST_ENTRIES_A_CALL", 1)
    monkeypatch.setattr(text_streams, "LONGEST_ENTRY", 8)
    stream.add("p", f"the key is {SECRET}, so")
    calls = taken(stream, (SECRET,))
    assert len(calls) > 1
    assert b"".join(text for call in calls for _, text in call.entries) == b"the key is ********, so"
