"""A failure as data: what the run records of an exception. Never the exception itself."""

import os
import sysconfig
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flowcraft_sdk
from flowcraft_sdk.errors import FlowcraftError, SerializationError
from flowcraft_sdk.node import NonRetryableError
from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.bounds import plain_text
from flowcraft_server.observability.redaction import Redactor, clip

MAX_TRACEBACK = 8_000
MAX_MESSAGE = 4_000
MAX_FRAMES = 200
MAX_LINES = 10_000
MAX_FORMATTED = 1_000_000
"""Characters of a traceback that are put together before it is shortened to `MAX_TRACEBACK`."""

MAX_PARTS = 300
"""Exceptions in groups that are shown. Formatting takes time for each path that leads to one: two to the depth, if one is in a
group twice."""

_HERE = Path(__file__).parent
_ENGINE = (f"{_HERE}{os.sep}", f"{_HERE.parent / 'worker'}{os.sep}")
_CALLED = (str(_HERE / "contexts.py"), str(_HERE / "step_calls.py"))
_PYTHON = sysconfig.get_path("stdlib") + os.sep
_PACKAGES = (f"{_HERE.parent}{os.sep}", f"{Path(flowcraft_sdk.__file__).parent}{os.sep}")
_KNOWS_NONE = Redactor()
MAX_DETAILS = 64 * 1024


class NodeTimeout(Exception):
    """A node took longer than its `timeout`."""


class UnmatchedAction(Exception):
    """A node returned an action that no edge takes, and there is no edge without an action."""


class HandlerNotFound(Exception):
    """No handler is registered under the name that the node `uses`."""


class InvalidNodeInput(Exception):
    """A built-in node was given an input or parameters that it cannot work with. `details` lists the misfits of a subflow."""

    def __init__(self, message: str, details: Any = None) -> None:
        super().__init__(message)
        self.details = details


class InvalidHandlerResult(TypeError):
    """A handler returned what is no result of a node."""


class SubflowFailed(Exception):
    """A child run did not complete. `details` holds the child's own failure."""

    def __init__(self, message: str, details: Any = None) -> None:
        super().__init__(message)
        self.details = details


class InvalidContextValue(NonRetryableError):
    """A node wrote a context key with a value of another type than the blueprint declares in `context:`."""


class LoopLimitExceeded(NonRetryableError):
    """A loop went round more often than its `maxIterations`."""


_EXPLAINED = (
    FlowcraftError, NodeTimeout, UnmatchedAction, HandlerNotFound, InvalidNodeInput, InvalidHandlerResult, SubflowFailed,
    NonRetryableError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt. `names` are the exception's class and bases, bare and dotted, for `nonRetryable`."""

    type: str
    message: str
    traceback: str
    details: Any
    retryable: bool
    names: tuple[str, ...]

    def to_json(self, node: str, attempt: int, input_hash: str) -> bytes:
        """Wire JSON of the failure."""
        record = {
            "type": self.type,
            "message": self.message,
            "node": node,
            "attempt": attempt,
            "traceback": self.traceback,
            "details": self.details,
            "retryable": self.retryable,
            "input": input_hash,
            "at": int(time.time() * 1000),
        }
        try:
            return wire.dumps(record)
        except SerializationError:
            return wire.dumps(record | {name: _storable(record[name]) for name in ("type", "message", "traceback")})


def describe(error: BaseException, redactor: Redactor = _KNOWS_NONE) -> Failure:
    """Turn an exception into data; the traceback starts in the handler's own code.

    Args:
        redactor: masks secrets in what is kept for people to read, before that is shortened.
    """
    classes = [cls for cls in type(error).__mro__ if cls not in (object, BaseException, Exception)]
    names = tuple(name for cls in classes for name in (_dotted(cls).rpartition(".")[2], _dotted(cls)))
    return Failure(
        type=_dotted(type(error)),
        message=redactor.clip(_message(error), MAX_MESSAGE),
        traceback=redactor.clip(_traceback(error), MAX_TRACEBACK),
        details=redactor.clean_value(_details(error)),
        retryable=not isinstance(error, NonRetryableError),
        names=names,
    )


def type_and_message(error: BaseException) -> tuple[str, str]:
    """The name of an error's class without its module, and what it says."""
    return _dotted(type(error)).rpartition(".")[2], clip(_message(error), MAX_MESSAGE)


def _traceback(error: BaseException) -> str:
    """The traceback; empty for an error that says what a user did wrong and has no line of the user's code."""
    try:
        if isinstance(error, _EXPLAINED) and not _has_foreign_frames(error):
            return ""
        if _has_many_parts(error):
            frames = "".join(traceback.format_tb(_own_frames(error), limit=MAX_FRAMES))
            return f"{frames}{type(error).__name__}: {_message(error)} (more than {MAX_PARTS} exceptions in it are not shown)"
        described = traceback.TracebackException(type(error), error, _own_frames(error), limit=MAX_FRAMES, compact=True)
        _leave_out_engine(described, error)
        return _joined(described.format())
    except BaseException as own:  # causes and notes of foreign exceptions have code of their own
        return f"not shown: {type(own).__name__} while it was formatted"


def _joined(lines: Iterable[str]) -> str:
    """Some lines as one text; of the notes that an exception carries there may be no end."""
    text, size = [], 0
    for number, line in enumerate(lines):
        if number >= MAX_LINES or size > MAX_FORMATTED:
            text.append("... and more\n")
            break
        text.append(str.__str__(line))
        size += len(text[-1])
    return "".join(text)


def _details(error: BaseException) -> Any:
    """What an exception carries as `details`, as plain values; a note if it cannot be stored or is too large."""
    try:
        return wire.loads(wire.dumps(getattr(error, "details", None), path="details", limit=MAX_DETAILS))
    except BaseException as own:  # whatever a foreign object may raise when it is looked into
        return _storable(clip(f"not stored: {_message(own)}", MAX_MESSAGE))


def _message(error: BaseException) -> str:
    try:
        text = str.__str__(str(error))
    except BaseException:
        text = ""
    return text or type(error).__name__


def _dotted(cls: type) -> str:
    """The name of a class with its module; a class may have been given names that are none."""
    try:
        module, name = plain_text(cls.__module__, "", ""), plain_text(cls.__qualname__, "", "")
    except BaseException:
        return "Exception"
    return name if module == "builtins" or module.startswith("flowcraft_") else f"{module}.{name}"


def _own_frames(error: BaseException) -> Any:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        if not frame.tb_frame.f_globals.get("__name__", "").startswith(
            ("flowcraft_server.engine", "flowcraft_server.worker")
        ):
            break
        frame = frame.tb_next
    return frame


def _leave_out_engine(described: traceback.TracebackException, error: BaseException) -> None:
    """Leave out how the engine came to call the handler, in the causes as well.

    Where the message says it all, as of a call that the context refuses, where in the engine it was raised is left out, too.
    """
    refused = isinstance(error, TypeError | AttributeError) and described.stack[-1:]
    explained = isinstance(error, _EXPLAINED) or bool(refused and refused[0].filename.startswith(_CALLED))
    pending, seen = [described], {id(described)}
    while pending:
        current = pending.pop()
        frames: list[traceback.FrameSummary] = list(current.stack or ())
        while frames and frames[0].filename.startswith(_ENGINE):
            del frames[0]
        if explained:
            frames = _up_to_the_handler(frames)
        if frames or (explained and current is described):
            current.stack[:] = frames
        for other in (current.__cause__, current.__context__, *(current.exceptions or ())):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                pending.append(other)
    if not described.stack:
        described.stack = None  # type: ignore[assignment]  # so that no heading of a traceback is written


def _up_to_the_handler(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Without the innermost frames, if they are those of this package and of what it calls in Python's library."""
    end = len(frames)
    while end and (frames[end - 1].filename.startswith(_PACKAGES) or _is_of_python(frames[end - 1].filename)):
        end -= 1
    while end < len(frames) and not frames[end].filename.startswith(_PACKAGES):
        end += 1  # what the handler itself calls in Python's library stays
    return frames[:end]


def _is_of_python(name: str) -> bool:
    return name.startswith((_PYTHON, "<")) and "site-packages" not in name


def _has_many_parts(error: BaseException) -> bool:
    """Whether the groups in an error, and in its causes, hold more than `MAX_PARTS` exceptions, along each path."""
    pending, count, chained = [error], 0, {id(error)}
    while pending and count <= MAX_PARTS:
        current = pending.pop()
        count += isinstance(current, BaseExceptionGroup)
        for other in (current.__cause__, current.__context__):
            if other is not None and id(other) not in chained:
                chained.add(id(other))
                pending.append(other)
        if isinstance(current, BaseExceptionGroup):
            count += len(current.exceptions)
            pending.extend(current.exceptions)
    return count > MAX_PARTS


def _has_foreign_frames(error: BaseException) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return error.__cause__ is not None or any(
        not str(frame.f_globals.get("__name__", "")).startswith("flowcraft_") for frame, _ in frames
    )


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
