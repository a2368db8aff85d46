"""Replies piece by piece: a model call that runs beside the handler, and the pieces as it reads them."""

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextvars import ContextVar
from typing import Protocol

from flowcraft_sdk.node import NodeCancelled

from .calls import ModelReply

OnPiece = Callable[[str], None]
"""Called with each piece of a reply, in their order."""

OnCancel = Callable[[Callable[[], object]], None]
"""Called once a call is under way, with what ends it at once, from any thread."""


on_piece_of_call: ContextVar[OnPiece | None] = ContextVar("pieces_of_model_call", default=None)
"""Of a streamed call that is under way: takes its pieces, for what answers it in place of the provider."""


class StreamSink(Protocol):
    """Where the pieces go besides the handler, and what interrupts a plain function that waits for one."""

    def show(self, part: str, text: str) -> None:
        """Stream a piece to clients that follow the node."""

    def interrupt_with(self, interrupt: Callable[[], None] | None) -> None:
        """Have a function called when the handler is to stop; None for none any more."""


class CallCancellation:
    """Ends a call that runs in another thread, whether it is under way already or not yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._cancel: Callable[[], object] | None = None

    def under_way(self, cancel: Callable[[], object]) -> None:
        """Note how the call is ended; it is at once if that was asked for before."""
        with self._lock:
            self._cancel = cancel
            cancelled = self._cancelled
        if cancelled:
            cancel()

    def cancel(self) -> None:
        """End the call."""
        with self._lock:
            self._cancelled = True
            cancel = self._cancel
        if cancel is not None:
            cancel()


async def pieces(call: Callable[[OnPiece], Awaitable[ModelReply]]) -> AsyncGenerator[str, None]:
    """The pieces of a reply, as they come. Closing the generator cancels the call.

    A reply that comes without pieces, as from a record, is one piece.

    Args:
        call: makes the call.

    Raises:
        LLMError: or what else the call raises, once its pieces are taken.
    """
    waiting: asyncio.Queue[str | None] = asyncio.Queue()
    task = asyncio.ensure_future(call(waiting.put_nowait))
    task.add_done_callback(lambda _: waiting.put_nowait(None))
    came = False
    try:
        while (text := await waiting.get()) is not None:
            came = True
            yield text
        reply = await task
        if not came and reply.text:
            yield reply.text
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


def blocking_pieces(
    call: Callable[[OnPiece, OnCancel], ModelReply], sink: StreamSink | None = None
) -> Generator[str, None, None]:
    """As `pieces`, for a plain function; the call runs in a thread of its own.

    Raises:
        LLMError: or what else the call raises, once its pieces are taken.
        NodeCancelled: the handler is to stop.
    """
    waiting: queue.SimpleQueue[str | ModelReply | BaseException] = queue.SimpleQueue()
    cancellation = CallCancellation()

    def run() -> None:
        try:
            waiting.put(call(waiting.put, cancellation.under_way))
        except BaseException as error:
            waiting.put(error)

    def interrupt() -> None:
        waiting.put(NodeCancelled("the handler is to stop"))

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="model stream", daemon=True)
    if sink is not None:
        sink.interrupt_with(interrupt)
    came = False
    try:
        thread.start()
        while isinstance(item := waiting.get(), str):
            came = True
            yield item
        if isinstance(item, BaseException):
            raise item
        if not came and item.text:
            yield item.text
    finally:
        if sink is not None:
            sink.interrupt_with(None)
        cancellation.cancel()
