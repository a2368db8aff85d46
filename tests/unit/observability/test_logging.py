"""What is written to the log, for people and for machines, and what never is."""

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from flowcraft_server.observability.current_node import CurrentNode, working_for
from flowcraft_server.observability.logging import configure_logging
from flowcraft_server.observability.redaction import Redactor, is_secret_name


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logger.remove()
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level


def json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_carry_run_and_node() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    with working_for(lambda run: CurrentNode(run, "fetch#2"), "r1"):
        logger.info("took {} rows", 3)
    with working_for(lambda run: CurrentNode(run, "fetch#2", trace_id=f"{7:032x}"), "r1"):
        logger.info("traced")
    line, traced = json_lines(stream)
    assert "trace_id" not in line and traced["trace_id"] == f"{7:032x}"
    assert line["message"] == "took 3 rows"
    assert line["level"] == "info"
    assert line["run"] == "r1"
    assert line["node"] == "fetch#2"
    assert line["time"].count("T") == 1


def test_a_terminal_gets_lines_to_read() -> None:
    stream = Terminal()
    configure_logging(stream=stream)
    logger.bind(run="r1", node="fetch").warning("slow")
    text = stream.getvalue()
    assert "warning" in text
    assert "slow" in text
    assert "run=r1 node=fetch" in text
    assert "\x1b[" in text


def test_pretty_elsewhere_has_no_colours() -> None:
    stream = io.StringIO()
    configure_logging(format="pretty", stream=stream)
    logger.error("first\nsecond")
    assert "\x1b[" not in stream.getvalue()
    assert stream.getvalue().endswith("first\n    second\n")


def test_the_level_holds_for_everybody() -> None:
    stream = io.StringIO()
    configure_logging("warning", "json", stream=stream)
    logger.info("no")
    logging.getLogger("some.library").info("no")
    logging.getLogger("some.library").warning("yes")
    assert [(line["message"], line["logger"]) for line in json_lines(stream)] == [("yes", "some.library")]


def test_the_layout_of_graphs_is_not_logged_step_by_step() -> None:
    from fast_sugiyama import from_edges

    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    from_edges([(1, 2), (2, 3), (1, 3)])
    assert json_lines(stream) == []


def test_huey_is_logged_from_warning_on_and_at_debug_in_full() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    logging.getLogger("huey.consumer").info("no")
    logging.getLogger("huey.consumer").error("yes %s", "{braces}")
    configure_logging("debug", "json", stream=stream)
    logging.getLogger("huey").info("all of it")
    assert [line["message"] for line in json_lines(stream)] == ["yes {braces}", "all of it"]


def test_an_exception_is_one_json_line_with_its_traceback() -> None:
    stream = io.StringIO()
    configure_logging(format="json", stream=stream)
    secret_variable = "shown by no traceback"
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("lib").exception("failed")
    (line,) = json_lines(stream)
    assert line["error"]["type"] == "ValueError"
    assert line["error"]["message"] == "bad"
    assert "raise ValueError" in line["error"]["traceback"]
    assert secret_variable not in stream.getvalue()


def test_a_traceback_for_people_follows_its_line() -> None:
    stream = io.StringIO()
    configure_logging(format="pretty", stream=stream)
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("failed")
    assert "failed\nTraceback (most recent call last):" in stream.getvalue()
    assert "ValueError: bad" in stream.getvalue()


@pytest.mark.parametrize("format", ["json", "pretty"])
def test_secrets_are_masked_wherever_they_stand(format: Any) -> None:
    stream = io.StringIO()
    configure_logging(format=format, stream=stream, secrets=["s3cr3t-key"])
    logger.bind(run="r", detail="s3cr3t-key", apiKey="unknown-one").info("the key s3cr3t-key, Bearer abcdefghijkl")
    logging.getLogger("redis").warning("no answer from redis://user:hidden@host:6379/0")
    try:
        raise ValueError("s3cr3t-key")
    except ValueError:
        logger.exception("failed")
    text = stream.getvalue()
    assert "s3cr3t" not in text
    assert "abcdefghijkl" not in text
    assert "hidden" not in text
    assert "redis://user:********@host:6379/0" in text


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    stream = io.StringIO()
    configure_logging(format="json", stream=stream)
    logger.bind(thing={1}).info("x")
    assert json_lines(stream)[0]["thing"] == "{1}"


def test_numbers_that_json_does_not_know_are_written_as_text() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    logger.bind(rate=float("nan"), most={"of": [float("-inf")]}, count=10**5000, n=7, x=1.5).info("numbers")
    text = stream.getvalue()
    line = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (line["rate"], line["most"], line["n"], line["x"]) == ("NaN", {"of": ["-Infinity"]}, 7, 1.5)
    assert isinstance(line["count"], str)


def test_the_name_of_a_level_commands_no_terminal() -> None:
    stream = Terminal()
    configure_logging(stream=stream)
    logger.level("LOUD\x1b[2J" + "!" * 1000, no=35)
    logger.log("LOUD\x1b[2J" + "!" * 1000, "hello")
    line = stream.getvalue()
    assert "\x1b[2J" not in line
    assert "hello" in line
    assert len(line) < 200


def test_warnings_are_logged() -> None:
    stream = io.StringIO()
    configure_logging(format="json", stream=stream)
    warnings.warn("old way", DeprecationWarning, stacklevel=1)
    lines = json_lines(stream)
    assert not lines or "old way" in lines[0]["message"]


def test_names_of_secrets() -> None:
    assert all(map(is_secret_name, ["apiKey", "api_key", "OPENAI_API_KEY", "authToken", "dbPassword", "clientSecret"]))
    assert not any(map(is_secret_name, ["key", "name", "model", "path"]))


def test_short_texts_are_no_secrets() -> None:
    assert Redactor(["ab"]).clean("ab cab") == "ab cab"
    assert Redactor(["abcd", "abcdef"]).clean("abcdef abcd") == "******** ********"


def test_a_coroutine_that_a_handler_did_not_await_is_one_line_with_run_node_and_place() -> None:
    async def handler() -> None:
        asyncio.sleep(1)  # type: ignore[unused-coroutine]

    stream = io.StringIO()
    configure_logging(stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logging.captureWarnings(False)  # `catch_warnings` has put the function back that shows them
        logging.captureWarnings(True)
        with working_for(lambda run: CurrentNode(run, "fetch"), "r1"):
            asyncio.run(handler())
    (line,) = json_lines(stream)
    assert (line["run"], line["node"], line["level"]) == ("r1", "fetch", "warning")
    assert line["message"].startswith("coroutine 'sleep' was never awaited, so it did nothing: put `await` before it (")
    assert "test_logging.py:" in line["message"] and "\n" not in line["message"]
