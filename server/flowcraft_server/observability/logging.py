"""Logging: lines to read on a terminal, JSON lines elsewhere, run and node on each, everybody's logs in one place."""

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TextIO

from loguru import logger

from .current_node import name_current_node
from .descriptor_identity import OwnStream
from .redaction import Redactor, clip
from .terminal import plain_json, plain_text

if TYPE_CHECKING:
    from loguru import Message, Record

Format = Literal["auto", "pretty", "json"]

MOST_OF_MESSAGE = 16_000
"""Characters of a message, and of a traceback, that are written."""

MOST_OF_FIELD = 2_000
LONGEST_LEVEL = 32
MOST_FRAMES = 200

# Libraries that log each of their steps on `info`; that is `debug` for a server.
_TALKATIVE = ("huey", "uvicorn", "httpx", "httpcore", "openai", "asyncio", "rust-sugiyama", "connected_components")


def configure_logging(
    level: str = "info",
    format: Format = "auto",
    *,
    secrets: Iterable[str] = (),
    names: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Set up logging for this process; a later call replaces an earlier one.

    Args:
        level: the lowest level that is written.
        format: `pretty` for people, `json` for machines, `auto`: pretty if the stream is a terminal.
        secrets: texts that are masked wherever they would appear.
        names: patterns of the names of fields whose values are masked.
        stream: where lines go, standard error by default.
    """
    output = _own_copy(sys.stderr) if stream is None else stream
    terminal = output.isatty()
    redactor = Redactor(secrets, names=names)
    pretty = terminal if format == "auto" else format == "pretty"
    sink = _PrettyLines(output, redactor, terminal) if pretty else _JsonLines(output, redactor)
    global _output
    _output = None
    logger.remove()
    logger.configure(patcher=name_current_node)
    _output = _Output(sink, level)
    _output.add()
    _route_standard_logging(level)


def restore_logging() -> bool:
    """Write lines again after a handler has removed all sinks (`logger.remove()`); returns whether one had."""
    if _output is None or not _output.removed:
        return False
    _output.add()
    return True


class _Output:
    """Where lines go, for loguru, which says when it is removed."""

    def __init__(self, write: Callable[["Message"], None], level: str) -> None:
        self._write = write
        self._level = level
        self.removed = True

    def add(self) -> None:
        """Have loguru write here."""
        self.removed = False
        # `diagnose` would print the values of variables beside each line of a traceback, secrets among them.
        logger.add(
            self,
            level=self._level.upper(),
            format="{message}",
            backtrace=False,
            diagnose=False,
            colorize=False,
        )

    def write(self, message: "Message") -> None:
        """Write a line."""
        self._write(message)

    def stop(self) -> None:
        """Loguru has removed it."""
        self.removed = True


_output: _Output | None = None


def _own_copy(stream: TextIO) -> "TextIO | OwnStream":
    try:
        return OwnStream(stream)
    except (OSError, ValueError, AttributeError):  # it has no descriptor, as under a test's capture
        return stream


_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m", "DEBUG": "\x1b[2m"}
_DIM, _RESET = "\x1b[2m", "\x1b[0m"


class _PrettyLines:
    def __init__(self, stream: TextIO | OwnStream, redactor: Redactor, colours: bool) -> None:
        self._stream = stream
        self._redactor = redactor
        self._colours = colours

    def __call__(self, message: "Message") -> None:
        record = message.record
        name = plain_text(record["level"].name[:LONGEST_LEVEL], one_line=True)
        time = f"{record['time']:%H:%M:%S}.{record['time'].microsecond // 1000:03d}"
        # Masked before it is clipped, and before lines are indented: a secret of several lines is found as it is written.
        clean, fields = self._redactor.clip, self._redactor.clean_value(fields_of(record))
        context = " ".join(
            f"{plain_text(str(key), one_line=True)}={plain_text(clip(str(value), MOST_OF_FIELD), one_line=True)}"
            for key, value in fields.items()
        )
        text = plain_text(clean(record["message"], MOST_OF_MESSAGE)).replace("\n", "\n    ")
        if record["exception"] is not None:
            text += "\n" + plain_text(clean(traceback_of(record), MOST_OF_MESSAGE)).rstrip()
        if self._colours:
            time = f"{_DIM}{time}{_RESET}"
            context = f"{_DIM}{context}{_RESET}" if context else ""
            text = f"{_COLOURS[name]}{text}{_RESET}" if name in _COLOURS else text
        line = f"{time} {name.lower():<8} {text}" + (f"  {context}" if context else "")
        self._stream.write(line + "\n")
        self._stream.flush()


class _JsonLines:
    def __init__(self, stream: TextIO | OwnStream, redactor: Redactor) -> None:
        self._stream = stream
        self._redactor = redactor

    def __call__(self, message: "Message") -> None:
        record = message.record
        line: dict[str, Any] = {
            "time": record["time"].isoformat(timespec="milliseconds"),
            "level": record["level"].name.lower(),
            "message": self._redactor.clip(record["message"], MOST_OF_MESSAGE),
            "logger": record["extra"].get("logger", record["name"]),
            **{key: _clipped(value) for key, value in self._redactor.clean_value(fields_of(record)).items()},
        }
        error = record["exception"]
        if error is not None:
            line["error"] = {
                "type": error.type.__name__ if error.type else None,
                "message": self._redactor.clip(_text(error.value), MOST_OF_MESSAGE),
                "traceback": self._redactor.clip(traceback_of(record), MOST_OF_MESSAGE),
            }
        self._stream.write(plain_json(json.dumps(line, ensure_ascii=False)) + "\n")
        self._stream.flush()


def fields_of(record: "Record") -> dict[str, Any]:
    """The fields of a line as plain values."""
    fields = {
        key: value for key, value in record["extra"].items() if key != "logger" and value is not None and value != ""
    }
    return {key: value if isinstance(value, str) else _plain(value) for key, value in fields.items()}


def _plain(value: Any) -> Any:
    try:
        # JSON has no form for infinities and the like: programs that read a line with one would drop it.
        return json.loads(json.dumps(value, default=_text), parse_constant=str)
    except Exception:  # it holds itself, or has keys that are no text
        return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # a foreign object's own code
        return f"<{type(value).__name__}: {type(error).__name__} while it was written>"


def _clipped(value: Any) -> Any:
    """A field of a line, bounded."""
    if isinstance(value, str):
        return clip(value, MOST_OF_FIELD)
    if isinstance(value, (dict, list)) and len(text := json.dumps(value, ensure_ascii=False)) > MOST_OF_FIELD:
        return clip(text, MOST_OF_FIELD)
    return value


def traceback_of(record: "Record") -> str:
    """The traceback of the exception that a line was logged with; empty without one."""
    error = record["exception"]
    if error is None or error.value is None:
        return ""
    try:
        return "".join(traceback.format_exception(error.type, error.value, error.traceback, limit=MOST_FRAMES))
    except Exception as own:  # causes and notes of foreign exceptions have code of their own
        return f"not shown: {type(own).__name__} while it was formatted"


_NEVER_AWAITED = re.compile(r"(.+:\d+): RuntimeWarning: (coroutine '.*' was never awaited)")
"""How Python warns of a coroutine that was made and dropped, as a handler does that forgets an `await`."""


class _IntoLoguru(logging.Handler):
    """Hands the records of standard logging over, with the level and the place they came from."""

    def emit(self, record: logging.LogRecord) -> None:
        level: str | int = record.levelno
        if record.levelname in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            level = record.levelname
        bound = logger.bind(logger=record.name).opt(exception=record.exc_info)
        text = record.getMessage()
        if record.name == "py.warnings" and (forgotten := _NEVER_AWAITED.match(text)):
            place, what = forgotten.groups()
            text = f"{what}, so it did nothing: put `await` before it ({place})"
        bound.log(level, "{}", text)


def _route_standard_logging(level: str) -> None:
    number = 5 if level == "trace" else logging.getLevelName(level.upper())
    logging.basicConfig(handlers=[_IntoLoguru()], level=number, force=True)
    for name in _TALKATIVE:
        quiet = level in ("trace", "debug")
        library = logging.getLogger(name)
        library.setLevel(logging.NOTSET if quiet else max(number, logging.WARNING))
        library.handlers.clear()
        library.propagate = True
    logging.captureWarnings(True)
