"""The part of a node's context that streams text."""


class StreamsText:
    """The part of a node's context that streams text."""

    def stream_text(self, text: str, *, part: str = "") -> None:
        """Stream a piece of text to clients that follow the node with `handle.stream`. It is no part of the run's history.

        Pieces are joined for up to 20 ms. A stream is kept for ten minutes after the last piece, the latest 256 KiB of it.

        Args:
            text: The piece; sent on as soon as it is known, in the order of the calls.
            part: Which of several texts it belongs to, if the node streams several.

        Raises:
            TypeError: The text is none.
        """
        raise AttributeError("a node context comes from the engine")
