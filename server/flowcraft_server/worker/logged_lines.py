"""What attempts log, on its way to their runs: it goes ahead of the outcome, or earlier if the attempt takes long."""

import json
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.observability.logging import fields_of, traceback_of
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.worker.commit_batcher import CommitBatcher
from flowcraft_server.worker.settings import LineCapture

if TYPE_CHECKING:
    from loguru import Record

SEND_AFTER = 0.5
"""Seconds after which a line is sent, if the attempt has not ended before."""

LOOK_AGAIN = 3600.0
MOST_OF_MESSAGE = 4_000
MOST_OF_TRACEBACK = 8_000
MOST_OF_FIELDS = 2_000
_LEVEL = re.compile(r"[A-Za-z0-9 ._-]{1,32}")


class LoggedLines:
    """What one attempt has logged, as far as its run keeps it. Any thread may add to it.

    Args:
        capture: how much of it is kept.
        redactor: masks secrets in it.
    """

    def __init__(self, attempt: Attempt, partitions: Partitions, capture: LineCapture, redactor: Redactor) -> None:
        self._attempt = attempt
        self._partitions = partitions
        self._capture = capture
        self.redactor = redactor
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, str, bytes]] = []
        self._sent = 0
        self._bytes = 0
        self._left_out = 0

    def add(self, record: "Record") -> bool:
        """Add a line; returns whether it is the first one that waits."""
        capture = self._capture
        if self._sent + len(self._waiting) >= capture.lines or self._bytes >= capture.bytes:
            self._left_out += 1
            return False
        try:
            body = self._encoded(record)
        except Exception as error:  # foreign values have code of their own, and the handler only wanted to log
            body = _dumped({"message": f"a line that cannot be kept: {type(error).__name__}"})
        with self._lock:
            if self._bytes + len(body) > capture.bytes or self._sent + len(self._waiting) >= capture.lines:
                self._bytes = max(self._bytes, capture.bytes)  # what comes later is left out, too: no gap in between
                self._left_out += 1
                return False
            self._bytes += len(body)
            self._waiting.append((clock(), level_of(record), body))
            return len(self._waiting) == 1

    def take(self, *, last: bool = False) -> ScriptCall | None:
        """The call that keeps what waits; None if nothing does.

        Args:
            last: the attempt has ended: say how many lines were left out.
        """
        with self._lock:
            lines, self._waiting = self._waiting, []
            first, self._sent = self._sent, self._sent + len(lines)
            left_out = self._left_out if last else 0
            if left_out:
                self._left_out = 0
                notice = f"{left_out:,} further lines of this attempt were not kept (logging.capture)"
                lines.append((clock(), "warning", _dumped({"message": notice})))
        if not lines:
            return None
        claim, now = self._attempt.claim, clock()
        rounds = ".".join(map(str, claim.iterations))
        return scripts.keep_lines(
            self._partitions.for_run(claim.run_id),
            run_id=claim.run_id,
            instance_id=claim.instance_id,
            label=claim.instance_id + (f"#{rounds}" if rounds else ""),
            fencing_token=claim.fencing_token,
            first=first,
            most_bytes=self._capture.run_bytes,
            lines=[(max(0, round((now - at) * 1000)), level, body) for at, level, body in lines],
        )

    def _encoded(self, record: "Record") -> bytes:
        clean = self.redactor
        line: dict[str, Any] = {"message": clean.clip(record["message"], MOST_OF_MESSAGE)}
        fields = {key: value for key, value in fields_of(record).items() if key not in ("run", "node")}
        if fields:
            fields = clean.clean_value(fields)
            text = json.dumps(fields, ensure_ascii=False)
            line["fields"] = fields if len(text) <= MOST_OF_FIELDS else {"...": clean.clip(text, MOST_OF_FIELDS)}
        if record["exception"] is not None:
            line["traceback"] = clean.clip(traceback_of(record), MOST_OF_TRACEBACK)
        return _dumped(line)


def level_of(record: "Record") -> str:
    """The name of a line's level; the number of one that a handler has added under a name which is none."""
    level = record["level"]
    return level.name.lower() if _LEVEL.fullmatch(level.name) else f"level {level.no}"


def _dumped(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace")


class LineKeeper:
    """Takes what attempts log.

    Args:
        capture: how much of it is kept.
        redactor: masks secrets in it.

    Attributes:
        redactor: the same.
        wake: has `step` called, which has nothing to do until then.
    """

    def __init__(
        self, partitions: Partitions, capture: LineCapture, redactor: Redactor, commit_batcher: CommitBatcher
    ) -> None:
        self._partitions = partitions
        self._capture = capture
        self.redactor = redactor
        self._commit_batcher = commit_batcher
        self._least = logger.level(capture.level.upper()).no if capture.level != "none" else None
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[float, Attempt]] = {}
        self._sleeping = threading.Event()
        self.wake: Callable[[], None] = self._sleeping.clear

    def logger_of(self, attempt: Attempt) -> Any:
        """A logger that names the run and the node on each line."""
        bound = logger.bind(run=attempt.claim.run_id, node=attempt.claim.instance_id)
        return bound if self._least is None else bound.patch(partial(self.keep, attempt))

    def keep(self, attempt: Attempt, record: "Record") -> None:
        """Keep a line that was logged for an attempt. Called by loguru, in the thread that logs."""
        if self._least is None or record["level"].no < self._least or attempt.has_ended:
            return
        lines = attempt.lines
        if lines is None:
            with self._lock:
                lines = attempt.lines = attempt.lines or LoggedLines(
                    attempt, self._partitions, self._capture, self.redactor
                )
        if lines.add(record):
            with self._lock:
                self._waiting[id(attempt)] = (clock() + SEND_AFTER, attempt)
            if self._sleeping.is_set():
                self._sleeping.clear()
                self.wake()

    def step(self) -> float:
        """Send lines of attempts that take long; returns the pause in seconds."""
        with self._lock:
            now = clock()
            due = [attempt for at, attempt in self._waiting.values() if at <= now or attempt.has_ended]
            for attempt in due:
                del self._waiting[id(attempt)]
            if not self._waiting:
                self._sleeping.set()
        for attempt in due:
            # Set before it is looked at: an outcome that is handed in from now on goes behind these lines, on their lane.
            attempt.has_emitted = True
            if not attempt.has_ended and attempt.lines is not None:
                self._commit_batcher.put(attempt.lines.take, _ignore)
        return SEND_AFTER if self._waiting else LOOK_AGAIN


def _ignore(reply: Any) -> None:
    if isinstance(reply, Exception):
        logger.warning("lines that a node has logged are not kept: {}", reply)
