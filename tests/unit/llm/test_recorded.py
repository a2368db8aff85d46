"""The provider that records an endpoint's answers and gives them from then on."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from flowcraft_server.config.load import load_config
from flowcraft_server.llm import LLMSettingsError, recordings
from flowcraft_server.llm.errors import LLMNotRecorded, LLMRequestError
from flowcraft_server.llm.openai_compatible import Endpoint
from flowcraft_server.llm.recorded import Recorded
from flowcraft_server.observability.redaction import Redactor
from tests.unit.llm.chat_server import Answer, chat_server, refusal, reply

KEY = "key-of-the-endpoint"


def recorded(path: Path, url: str = "http://127.0.0.1:9/v1", key: str = KEY, **options: Any) -> Recorded:
    return Recorded("tape", Endpoint(url, key, "test"), path, **options)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_first_run_records_and_further_ones_answer_without_a_model_or_a_key(tmp_path: Path) -> None:
    path = tmp_path / "tapes" / "calls.jsonl"
    with chat_server(reply("one"), reply("two"), reply("three")) as server:
        first = recorded(path, server.url)
        assert first.complete("a", system="s", temperature=0.5) == "one"
        assert asyncio.run(first.acomplete("b")) == "two"
        assert first.complete("b") == "three"
        assert len(server.requests) == 3
        first.close()
    assert lines(path)[0] == {"flowcraft": "recordings", "version": 1}
    assert KEY not in path.read_text("utf-8")
    assert path.stat().st_mode & 0o077 == 0
    again = recorded(path, key="")
    assert again.complete("b") == "two"
    assert again.complete("b") == "three"
    assert asyncio.run(again.acomplete("b")) == "three"  # the last one, from then on
    assert again.complete("a", system="s", temperature=0.5) == "one"
    assert "no model is called" in (again.warning or "")
    again.close()


def test_a_streamed_reply_is_recorded_whole(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    pieces = [{"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in ("Hel", "lo")]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    body = "".join(f"data: {json.dumps({'id': 'c', 'model': 'test', **each})}\n\n" for each in (*pieces, end))
    streamed = Answer(body=body + "data: [DONE]\n\n", headers={"content-type": "text/event-stream"})
    with chat_server(streamed) as server:
        assert list(recorded(path, server.url).stream("greet")) == ["Hel", "lo"]
        assert list(recorded(path, key="").stream("greet")) == ["Hel", "lo"]
        assert len(server.requests) == 1


def test_a_request_that_is_not_there_fails_and_shows_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with chat_server(reply("x")) as server:
        first = recorded(path, server.url)
        first.complete("What is the capital of France?")
        first.complete("Something else altogether.")
        tape = recorded(path, server.url)
        with pytest.raises(LLMNotRecorded) as caught:
            tape.complete("What is the capital of Spain?")
        assert len(server.requests) == 2
        assert "the nearest one differs: messages[0].content is '...t is the capital of Spain?' and was" in str(
            caught.value
        )
        assert "onMissing: record" in str(caught.value)
        assert recorded(path, server.url, on_missing="record").complete("What is the capital of Spain?") == "x"
        assert len(server.requests) == 3
    assert recorded(path, key="").complete("What is the capital of Spain?") == "x"


def test_without_a_key_nothing_is_recorded(tmp_path: Path) -> None:
    with pytest.raises(LLMNotRecorded, match="apiKey is empty"):
        recorded(tmp_path / "none.jsonl", key="").complete("a")


def test_what_stands_for_the_key_masks_no_word_of_the_message(tmp_path: Path) -> None:
    with pytest.raises(LLMNotRecorded, match="apiKey is empty, so it cannot be recorded: set it"):
        recorded(tmp_path / "none.jsonl", key="").complete("a")


def test_two_processes_that_begin_to_record_at_once(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with chat_server(reply("one"), reply("two")) as server:
        recorded(path, server.url).complete("a")
        with path.open("ab") as file:  # as one that saw no file when it wrote
            file.write(path.read_bytes().splitlines(keepends=True)[0])
        recorded(path, server.url, on_missing="record").complete("b")
    again = recorded(path, key="")
    assert (again.complete("a"), again.complete("b")) == ("one", "two")


def test_failures_are_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with chat_server(refusal(400, f"bad request with {KEY}"), reply("fine")) as server:
        first = recorded(path, server.url)
        with pytest.raises(LLMRequestError):
            first.complete("a")
        assert not path.exists()
        assert first.complete("a") == "fine"
    assert recorded(path, key="").complete("a") == "fine"


def test_secrets_are_masked_and_make_no_difference(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with chat_server(reply("your password is hunter22222")) as server:
        recorded(path, server.url, mask=Redactor({"hunter22222"}).clean).complete("log in with hunter22222")
    assert "hunter22222" not in path.read_text("utf-8")
    other = recorded(path, key="", mask=Redactor({"swordfish99"}).clean)
    assert other.complete("log in with swordfish99") == "your password is ********"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n', r"calls\.jsonl:1: is no recorded exchange"),
        ('{"flowcraft": "recordings", "version": 2}\n', r"calls\.jsonl:1: version 2 of the format"),
        ('{"flowcraft": "recordings", "version": 1}\n{"request": 3, "response": {}}\n', r"calls\.jsonl:2: is no"),
        ('{"flowcraft": "recordings", "version": 1}\n' + "[" * 9_000 + "\n", r"calls\.jsonl:2: is no"),
        ("\x00\n", r"calls\.jsonl:1: is no"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text(text)
    with pytest.raises(LLMSettingsError, match=message):
        recorded(path)


HEAD = '{"flowcraft": "recordings", "version": 1}\n'


def exchange(request: str = '{"a": 1}', kind: str = '"application/json"', body: str = '"x"') -> str:
    return f'{HEAD}{{"request": {request}, "response": {{"contentType": {kind}, "body": {body}}}}}\n'


@pytest.mark.parametrize(
    "text",
    [
        exchange('{"a": ' + "[" * 900 + "]" * 900 + "}"),
        exchange(body='"\\ud800"'),
        exchange(kind='"a\\ud800"'),
        exchange(body="null"),
        exchange(kind="5"),
    ],
)
def test_an_exchange_that_cannot_be_given_again_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text(text)
    with pytest.raises(LLMSettingsError, match=r"calls.jsonl:2: is no recorded exchange"):
        recorded(path)


def test_what_is_no_file_is_neither_waited_for_nor_read_without_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(LLMSettingsError, match="cannot be read: "):
            recorded(path)


def test_a_reply_that_cannot_be_recorded_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with chat_server(reply("one")) as server:
        tape = recorded(tmp_path / "file" / "calls.jsonl", server.url)
        with pytest.raises(LLMSettingsError, match=r"calls.jsonl: a reply came, and cannot be recorded: "):
            tape.complete("a")
        assert len(server.requests) == 1
        monkeypatch.setattr(recordings, "LARGEST", 100)
        tape = recorded(tmp_path / "calls.jsonl", server.url)
        with pytest.raises(LLMSettingsError, match=r"recorded: a file of recordings has 100 bytes at most"):
            tape.complete("a")
        assert not (tmp_path / "calls.jsonl").read_bytes()


def test_names_of_a_recorded_request_are_shown_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text(exchange('{"\\u001b[31m\\ud800": 1}'))
    with pytest.raises(LLMNotRecorded) as failed:
        recorded(path, key="").complete("a")
    assert r"\x1b[31m\ud800 is" in str(failed.value)


def test_it_is_configured_in_the_file_of_the_deployment(tmp_path: Path) -> None:
    config = tmp_path / "flowcraft.yaml"
    config.write_text(
        "version: 1\nname: t\nllm:\n  default: tape\n  providers:\n"
        "    tape: {type: recorded, file: calls.jsonl, model: m, onMissing: fial}\n"
    )
    loaded = load_config(config)
    found = next(str(each) for each in loaded.diagnostics if "onMissing" in str(each))
    assert found.endswith("expected auto, fail or record, got 'fial'; did you mean 'fail'?")
