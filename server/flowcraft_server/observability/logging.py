"""Logging: lines to read on a terminal, JSON lines elsewhere, run and node on each, everybody's logs in one place."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TextIO

from loguru import logger

from .current_node import name_current_node
from .redaction import Redactor

if TYPE_CHECKING:
    from loguru import Message, Record

Format = Literal["auto", "pretty", "json"]

# Libraries that tell on `info` what each of their steps is; that is `debug` to whoever operates a server.
_TALKATIVE = ("huey", "httpx", "httpcore", "openai", "asyncio")


def configure_logging(
    level: str = "info", format: Format = "auto", *, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Set up logging for this process; a later call replaces an earlier one.

    Args:
        level: the lowest level that is written.
        format: `pretty` for people, `json` for machines, `auto`: pretty if the stream is a terminal.
        secrets: texts that are masked wherever they would appear.
        stream: where lines go, standard error by default.
    """
    stream = _own_copy(sys.stderr) if stream is None else stream
    terminal = stream.isatty()
    redactor = Redactor(secrets)
    pretty = terminal if format == "auto" else format == "pretty"
    sink = _PrettyLines(stream, redactor, terminal) if pretty else _JsonLines(stream, redactor)
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


def _own_copy(stream: TextIO) -> TextIO:
    """The same stream over a descriptor of our own, so that a handler that closes the other one does not end the log."""
    try:
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError, AttributeError):  # it has none, as under a test's capture
        return stream
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1)


_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m", "DEBUG": "\x1b[2m"}
_DIM, _RESET = "\x1b[2m", "\x1b[0m"


class _PrettyLines:
    def __init__(self, stream: TextIO, redactor: Redactor, colours: bool) -> None:
        self._stream = stream
        self._redactor = redactor
        self._colours = colours

    def __call__(self, message: "Message") -> None:
        record = message.record
        name = record["level"].name
        time = f"{record['time']:%H:%M:%S}.{record['time'].microsecond // 1000:03d}"
        context = " ".join(f"{key}={value}" for key, value in _context(record).items())
        text = record["message"].replace("\n", "\n    ")
        if record["exception"] is not None:
            text += "\n" + _traceback(record).rstrip()
        if self._colours:
            time = f"{_DIM}{time}{_RESET}"
            context = f"{_DIM}{context}{_RESET}" if context else ""
            text = f"{_COLOURS[name]}{text}{_RESET}" if name in _COLOURS else text
        line = f"{time} {name.lower():<8} {text}" + (f"  {context}" if context else "")
        self._stream.write(self._redactor.clean(line) + "\n")
        self._stream.flush()


class _JsonLines:
    def __init__(self, stream: TextIO, redactor: Redactor) -> None:
        self._stream = stream
        self._redactor = redactor

    def __call__(self, message: "Message") -> None:
        record = message.record
        line: dict[str, Any] = {
            "time": record["time"].isoformat(timespec="milliseconds"),
            "level": record["level"].name.lower(),
            "message": record["message"],
            "logger": record["extra"].get("logger", record["name"]),
            **_context(record),
        }
        error = record["exception"]
        if error is not None:
            line["error"] = {
                "type": error.type.__name__ if error.type else None,
                "message": str(error.value),
                "traceback": _traceback(record),
            }
        cleaned = self._redactor.clean_value(json.loads(json.dumps(line, default=str)))
        self._stream.write(json.dumps(cleaned, ensure_ascii=False) + "\n")
        self._stream.flush()


def _context(record: "Record") -> dict[str, Any]:
    return {key: value for key, value in record["extra"].items() if key != "logger" and value not in (None, "")}


def _traceback(record: "Record") -> str:
    error = record["exception"]
    if error is None or error.value is None:
        return ""
    return "".join(traceback.format_exception(error.type, error.value, error.traceback))


class _IntoLoguru(logging.Handler):
    """Hands the records of standard logging over, with the level and the place they came from."""

    def emit(self, record: logging.LogRecord) -> None:
        level: str | int = record.levelno
        if record.levelname in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            level = record.levelname
        bound = logger.bind(logger=record.name).opt(exception=record.exc_info)
        bound.log(level, "{}", record.getMessage())


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
