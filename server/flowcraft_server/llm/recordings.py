"""The file of a `recorded` provider: requests to an endpoint and what it answered, a line of JSON each.

The first line names the format. What was asked is compared as it is sent, without headers; what is masked when it is written is
masked before it is compared, so that secrets make no difference. A request that was made several times has its answers in their
order, the last one from then on.
"""

import difflib
import errno
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowcraft_sdk._config.regular_file import read_regular_file

from .errors import LLMSettingsError

VERSION = 1
LARGEST = 256 * 1024 * 1024
"""Bytes of a file."""

_HEAD = {"flowcraft": "recordings", "version": VERSION}
_COMPARED = 2_000
"""Characters of a request that are compared to find the one most like it."""

_MOST_COMPARED = 1_000
_SHOWN = 60
_LONGEST_PATH = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered: always a success.

    Attributes:
        content_type: Of the body.
        body: Its text.
    """

    content_type: str
    body: str


@dataclass(slots=True)
class _Exchange:
    request: Mapping[str, Any]
    answers: list[Answer] = field(default_factory=list)
    given: int = 0


class Recordings:
    """The exchanges of one file. For many threads.

    Args:
        path: the file; it need not be there.
        mask: takes secrets out of a text before it is written or compared.

    Raises:
        LLMSettingsError: the file cannot be read, or a line of it is no exchange.
    """

    def __init__(self, path: Path, mask: Callable[[str], str] = str) -> None:
        self.path = path
        self.existed = os.path.lexists(path)
        self._mask = mask
        self._lock = threading.Lock()
        self._exchanges: dict[str, _Exchange] = {}
        if self.existed:
            self._read()

    def answer_to(self, request: Mapping[str, Any], *, repeat: bool = True) -> Answer | None:
        """The next recorded answer to a request; None if there is none.

        Args:
            request: What is sent, as a JSON value.
            repeat: Whether the last answer is given again when there are no more.
        """
        with self._lock:
            exchange = self._exchanges.get(self._key(request))
            if exchange is None or (not repeat and exchange.given >= len(exchange.answers)):
                return None
            answer = exchange.answers[min(exchange.given, len(exchange.answers) - 1)]
            exchange.given += 1
            return answer

    def add(self, request: Mapping[str, Any], answer: Answer) -> None:
        """Record an answer. The line is written in one piece, so several processes may record into one file.

        Raises:
            LLMSettingsError: the file cannot be written, or is full.
        """
        masked = _masked(request, self._mask)
        answer = Answer(answer.content_type, self._mask(answer.body))
        line = {"request": masked, "response": {"contentType": answer.content_type, "body": answer.body}}
        with self._lock:
            try:
                self._write(_line(line))
            except OSError as error:
                raise LLMSettingsError(
                    f"{self.path}: a reply came, and cannot be recorded: {error.strerror or type(error).__name__}"
                ) from None
            exchange = self._exchanges.setdefault(self._key(request), _Exchange(masked))
            exchange.answers.append(answer)
            exchange.given = len(exchange.answers)

    def _write(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A FIFO without a reader would be waited at for ever.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            written = (b"" if size else _line(_HEAD)) + line
            if size + len(written) > LARGEST:
                raise OSError(errno.EFBIG, f"a file of recordings has {LARGEST:,} bytes at most")
            # Not in pieces: those of other processes would come between.
            if os.write(descriptor, written) < len(written):
                raise OSError(errno.ENOSPC, "it could not be written whole")
        finally:
            os.close(descriptor)

    def nearest_to(self, request: Mapping[str, Any]) -> str:
        """How the recorded request that is most like this one differs from it; empty if nothing is recorded."""
        asked = _masked(request, self._mask)
        text = _compared(asked)
        best: tuple[float, Mapping[str, Any]] | None = None
        with self._lock:
            recorded = [exchange.request for exchange in self._exchanges.values()][:_MOST_COMPARED]
        for each in recorded:
            alike = difflib.SequenceMatcher(None, _compared(each), text, autojunk=False).quick_ratio()
            if best is None or alike > best[0]:
                best = alike, each
        return "" if best is None else _difference(best[1], asked)

    def _key(self, request: Mapping[str, Any]) -> str:
        return json.dumps(_masked(request, self._mask), sort_keys=True, ensure_ascii=False)

    def _read(self) -> None:
        try:
            lines = read_regular_file(self.path, LARGEST).splitlines()
        except OSError as error:
            raise LLMSettingsError(f"{self.path}: cannot be read: {error.strerror or type(error).__name__}") from None
        for number, raw in enumerate(lines, start=1):
            try:
                line = json.loads(raw)
                if number == 1 or line == _HEAD:  # two processes that begin at once both write it
                    self._check_head(line)
                    continue
                request, response = line["request"], line["response"]
                answer = Answer(response["contentType"], response["body"])
                answer.content_type.encode("ascii")
                answer.body.encode()  # no half characters
                if not isinstance(request, dict):
                    raise TypeError(request)
                key = self._key(request)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise LLMSettingsError(
                    f"{self.path}:{number}: is no recorded exchange; take the line out, or record the file again"
                ) from None
            self._exchanges.setdefault(key, _Exchange(request)).answers.append(answer)

    def _check_head(self, line: Any) -> None:
        if not isinstance(line, dict) or line.get("flowcraft") != _HEAD["flowcraft"]:
            raise ValueError(line)
        if line.get("version") != VERSION:
            raise LLMSettingsError(
                f"{self.path}:1: version {line.get('version')!r:.20} of the format; this server reads version {VERSION}"
            )


def _masked(value: Any, mask: Callable[[str], str]) -> Any:
    """A JSON value whose texts are masked."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: _masked(each, mask) for key, each in value.items()}
    return [_masked(each, mask) for each in value] if isinstance(value, list) else value


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _compared(request: Mapping[str, Any]) -> str:
    """The end of a request's messages: it is what changes from one to the next."""
    return json.dumps(request.get("messages"), ensure_ascii=False)[-_COMPARED:]


def _difference(recorded: Any, asked: Any, path: str = "") -> str:
    """The first place where two JSON values differ."""
    if isinstance(recorded, dict) and isinstance(asked, dict):
        for key in sorted({*recorded, *asked}):
            if recorded.get(key) != asked.get(key):
                return _difference(recorded.get(key), asked.get(key), f"{path}.{key}" if path else str(key))
    if isinstance(recorded, list) and isinstance(asked, list):
        for index in range(max(len(recorded), len(asked))):
            pair = [values[index] if index < len(values) else None for values in (recorded, asked)]
            if pair[0] != pair[1]:
                return _difference(pair[0], pair[1], f"{path}[{index}]")
    texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in (recorded, asked)]
    same = next((i for i, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1]), min(map(len, texts)))
    begin = max(0, same - _SHOWN // 3)
    was, now = (("..." if begin else "") + text[begin : begin + _SHOWN] for text in texts)
    return f"{repr(path)[1:-1][:_LONGEST_PATH]} is {now!r} and was {was!r}"
