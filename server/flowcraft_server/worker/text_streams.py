"""Text that handlers stream while they run: joined for a moment, then added to the streams in Redis."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.streamed_text import StreamedText
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.worker.commit_batcher import CommitBatcher
from flowcraft_server.worker.liveness import thread_runs

JOINED_FOR = 0.02
"""Seconds between two additions to streams: what comes meanwhile is added together."""

LONGEST_ENTRY = 256
"""Characters of an entry."""

MOST_WAITING = 256 * 1024
"""Characters of a stream that wait to be sent; what came before them is left out, which readers see as a gap."""

KEPT_BYTES = 256 * 1024
"""Of a stream, the latest."""

KEPT_MS = 10 * 60 * 1000
"""For which a stream is kept that nothing is added to."""

PART_SIZE = 64
"""Characters that a part counts for among what waits, besides its text and its name."""

MOST_A_CALL = 64
"""Streams that one call adds to."""

MOST_ENTRIES_A_CALL = 128
"""Entries after which a call is full, and those of one stream in a call: Redis serves no other client while it adds them."""


class TextStream:
    """What an attempt streams, and what of it waits to be sent. The writer that it belongs to guards it.

    Attributes:
        under_way: whether a call is that adds to it.
        over: nothing is added any more: it was finished, or the node is another worker's.
    """

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.under_way = False
        self.over = False
        self._parts: dict[str, list[str]] = {}
        self._entries: deque[tuple[str, str]] = deque()  # what waits without secrets, ahead of `_parts`
        self._size = 0
        self._next = 1

    @property
    def waits(self) -> bool:
        """Whether text of it waits to be sent."""
        return bool(self._parts or self._entries)

    def add(self, part: str, text: str) -> None:
        """Add text to a part; the beginning of what waits goes if it is too much."""
        text = text[-MOST_WAITING:]
        size = len(text) + (0 if part in self._parts else len(part) + PART_SIZE)
        if self._size + size > MOST_WAITING:
            self._parts.clear()
            self._entries.clear()
            self._size = 0
            self._next += 1  # its number stays free, so that readers see that something is missing
        self._parts.setdefault(part, []).append(text)
        self._size += size

    def take(self, redactor: Redactor, *, all_of_it: bool) -> StreamedText | None:
        """The first of what waits, without secrets, as it is sent in one call; None if that is nothing.

        Args:
            all_of_it: whether a last bit counts, too, that may be the beginning of a secret.
        """
        if len(self._entries) < MOST_ENTRIES_A_CALL:
            self._clean(redactor, all_of_it)
        entries = [self._entries.popleft() for _ in range(min(len(self._entries), MOST_ENTRIES_A_CALL))]
        if not entries:
            return None
        self._size -= sum(len(text) for _, text in entries)
        first, self._next = self._next, self._next + len(entries)
        claim = self.attempt.claim
        return StreamedText(
            claim.run_id,
            claim.instance_id,
            claim.fencing_token,
            claim.attempt,
            first,
            [(part, text.encode("utf-8", "replace")) for part, text in entries],
        )

    def _clean(self, redactor: Redactor, all_of_it: bool) -> None:
        taken = []
        for part, pieces in self._parts.items():
            text = "".join(pieces)
            held_back = 0 if all_of_it else redactor.unfinished(text)
            taken.append((part, redactor.clean(text[: len(text) - held_back]), text[len(text) - held_back :]))
        self._parts = {part: [rest] for part, _, rest in taken if rest}
        self._entries.extend(
            (part, text[at : at + LONGEST_ENTRY])
            for part, text, _ in taken
            for at in range(0, len(text), LONGEST_ENTRY)
        )
        self._size = sum(len(text) for _, text in self._entries) + sum(len(rest) for _, _, rest in taken)


class StreamWriter:
    """Adds what attempts stream to their streams, many in one call, on the lane on which their outcomes follow.

    Its thread begins with the first text. Streams help to follow a run and are no part of it: what Redis has no room for is left
    out, and no attempt fails for it.
    """

    def __init__(self, partitions: Partitions, commit_batcher: CommitBatcher, redactor: Redactor) -> None:
        self._partitions = partitions
        self._commit_batcher = commit_batcher
        self._redactor = redactor
        self._order = threading.Lock()  # from taking what waits of a stream to handing it to the batcher
        self._lock = (
            threading.Lock()
        )  # guards streams and what follows here; held for a moment only, as event loops wait for it
        self._waiting: dict[TextStream, None] = {}
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def write(self, attempt: Attempt, part: str, text: str) -> None:
        """Stream text of a running node. Never waits; does nothing once the attempt is over."""
        if attempt.has_ended:
            return
        with self._lock:
            stream = attempt.text_stream
            if stream is None:
                stream = attempt.text_stream = TextStream(attempt)
            assert isinstance(stream, TextStream)
            if stream.over:
                return
            stream.add(part, text)
            attempt.has_emitted = True  # its outcome is sent on the lane of these calls
            if not stream.under_way:
                self._waiting[stream] = None
            if self._thread is None or not thread_runs(self._thread):
                self._thread = threading.Thread(target=self._run, name="stream writer", daemon=True)
                self._thread.start()
        self._wanted.set()

    def finish(self, attempt: Attempt) -> None:
        """Send the rest of what an attempt has streamed, ahead of its outcome."""
        stream = attempt.text_stream
        if stream is None:
            return
        assert isinstance(stream, TextStream)
        with self._order:
            with self._lock:
                rest = []
                while not stream.over and (text := stream.take(self._redactor, all_of_it=True)) is not None:
                    rest.append(text)
                stream.over = True
                self._waiting.pop(stream, None)
            for text in rest:
                self._send(self._keys_of(stream), [(stream, text)])

    def _run(self) -> None:
        flushed = 0.0
        pause = threading.Event()
        while True:
            self._wanted.wait()
            if (left := flushed + JOINED_FOR - clock()) > 0:
                pause.wait(left)
            self._wanted.clear()
            flushed = clock()
            try:
                self._flush()
            except Exception:  # the next text is tried again
                logger.exception("streams could not be sent")

    def _flush(self) -> None:
        with self._order:
            with self._lock:
                waiting, self._waiting = self._waiting, {}
            groups: dict[Keys, list[tuple[TextStream, StreamedText]]] = {}
            for stream in waiting:
                with self._lock:
                    text = None if stream.over else stream.take(self._redactor, all_of_it=False)
                    stream.under_way = text is not None
                if text is not None:
                    groups.setdefault(self._keys_of(stream), []).append((stream, text))
            for keys, group in groups.items():
                for some in _bounded(group):
                    self._send(keys, some)

    def _keys_of(self, stream: TextStream) -> Keys:
        return self._partitions.for_run(stream.attempt.claim.run_id)

    def _send(self, keys: Keys, group: list[tuple[TextStream, StreamedText]]) -> None:
        """Have a call sent, after those before."""
        call = scripts.add_text(keys, ttl_ms=KEPT_MS, most_bytes=KEPT_BYTES, streams=[text for _, text in group])
        self._commit_batcher.put(call, lambda reply: self._sent([stream for stream, _ in group], reply))

    def _sent(self, streams: list[TextStream], reply: Any) -> None:
        # An error is as good as `full`: the numbers of what is left out stay free, and readers see that it is missing.
        codes = reply if isinstance(reply, list) else [b"full"] * len(streams)
        with self._lock:
            for stream, code in zip(streams, codes, strict=True):
                stream.under_way = False
                stream.over = stream.over or code == b"lost"
                if stream.waits and not stream.over:
                    self._waiting[stream] = None
            waits = bool(self._waiting)
        if waits:
            self._wanted.set()


class AttemptSink:
    """Where the replies that a handler streams go besides the handler.

    Args:
        write: the writer's.
    """

    def __init__(self, attempt: Attempt, write: Callable[[Attempt, str, str], None]) -> None:
        self._attempt = attempt
        self._write = write

    def show(self, part: str, text: str) -> None:
        """Stream a piece to clients that follow the node."""
        self._write(self._attempt, part, text)

    def interrupt_with(self, interrupt: Callable[[], None] | None) -> None:
        """Have a function called when the handler is to stop; at once if it already is."""
        self._attempt.interrupt = interrupt
        if interrupt is not None and self._attempt.stopped:
            interrupt()


def _bounded(group: list[tuple[TextStream, StreamedText]]) -> Iterable[list[tuple[TextStream, StreamedText]]]:
    """The group in pieces: Redis serves no other client while it runs a call."""
    piece: list[tuple[TextStream, StreamedText]] = []
    size = 0
    for each in group:
        piece.append(each)
        size += len(each[1].entries)
        if len(piece) == MOST_A_CALL or size >= MOST_ENTRIES_A_CALL:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
