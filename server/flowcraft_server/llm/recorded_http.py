"""The HTTP client of a `recorded` provider."""

import asyncio
from typing import TYPE_CHECKING, Any

import httpx2

from .bounded_http import BoundedClient
from .recorded import request_of
from .recordings import Answer

if TYPE_CHECKING:
    from .recorded import Recorded


class RecordedClient(BoundedClient):
    """Answers from the recordings, and records what is not among them. Failures are never recorded.

    Args:
        recorded: the provider.
        options: those of `BoundedClient`.
    """

    def __init__(self, recorded: "Recorded", **options: Any) -> None:
        super().__init__(**options)
        self._recorded = recorded

    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request, unless its answer is recorded.

        Raises:
            LLMNotRecorded: it is not, and none may be made.
            LLMSettingsError: its answer cannot be recorded.
        """
        asked = request_of(request.url.path, request.content)
        answer = self._recorded.recordings.answer_to(asked, repeat=not self._recorded.records)
        if answer is None:
            # In a thread: to find the recorded request that is most like this one takes a second where there are many.
            await asyncio.to_thread(self._recorded.check_recording, asked)
            response = await super().send(request, **options)
            if not response.is_success:
                return response
            # Whole, also if it is streamed: a reply that breaks off is none.
            body = await response.aread()
            answer = Answer(response.headers.get("content-type", "application/json"), body.decode("utf-8", "replace"))
            self._recorded.recordings.add(asked, answer)
        headers = {"content-type": answer.content_type}
        return httpx2.Response(200, headers=headers, content=answer.body.encode(), request=request)
