"""A provider that records the exchanges with an endpoint, and answers from them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loguru import logger

from .errors import LLMNotRecorded
from .openai_compatible import Endpoint, OpenAICompatible
from .recordings import Recordings

if TYPE_CHECKING:
    from .recorded_http import RecordedClient

OnMissing = Literal["auto", "fail", "record"]

_NO_KEY = "no-key-is-set"
"""Sent nowhere: without a key nothing is recorded. It is masked in errors as a key is, so it is no word of theirs."""


class Recorded(OpenAICompatible):
    """An endpoint whose answers are recorded once and given from then on. Agents and streamed replies are recorded as well.

    Args:
        name: the provider's name in `llm.providers`.
        endpoint: what is recorded; its key may be empty where all is recorded already.
        path: the file of recordings.
        on_missing: whether a request that is not in the file is made and recorded, or fails; `auto`: it is recorded if there was
            no file when the process began.
        mask: takes secrets out of what is written.

    Raises:
        LLMSettingsError: the file is wrong.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        path: Path,
        *,
        on_missing: OnMissing = "auto",
        mask: Callable[[str], str] = str,
    ) -> None:
        key = endpoint.api_key

        def masked(text: str) -> str:
            return mask(text.replace(key, "********") if key else text)

        self.recordings = Recordings(path, masked)
        self.records = on_missing == "record" or (on_missing == "auto" and not self.recordings.existed)
        self._has_key = bool(key)
        super().__init__(name, replace(endpoint, api_key=key or _NO_KEY))

    @property
    def warning(self) -> str | None:
        """Says that replies are recorded ones."""
        if self.records:
            return f"llm.providers.{self.name}: calls are recorded in {self.recordings.path}"
        return f"llm.providers.{self.name}: replies are recorded ({self.recordings.path}), no model is called"

    def _http_client(self) -> "RecordedClient":
        from .recorded_http import RecordedClient

        endpoint = self.endpoint
        return RecordedClient(self, provider=self.name, max_reply=endpoint.max_reply, timeout=endpoint.timeout)

    def check_recording(self, request: Any) -> None:
        """Make sure that a request which is not in the file may be made.

        Raises:
            LLMNotRecorded: it may not.
        """
        if self.records and self._has_key:
            logger.info("llm.providers.{}: recording a call in {}", self.name, self.recordings.path)
            return
        if self.records:
            how = "apiKey is empty, so it cannot be recorded: set it"
        else:
            how = "with `onMissing: record`, or without the file, it would be made and recorded"
        nearest = self.recordings.nearest_to(request)
        about = f"; the nearest one differs: {nearest}" if nearest else ""
        raise LLMNotRecorded(
            f"llm.providers.{self.name}: the request is not in {self.recordings.path}{about}; {how}", provider=self.name
        )


def request_of(path: str, body: bytes) -> dict[str, Any]:
    """What of a request is recorded: the last part of its path, and its body."""
    try:
        value = json.loads(body) if body else {}
    except ValueError:
        value = {"text": body.decode("utf-8", "replace")}
    return {"path": path.rsplit("/", 2)[-2:], **(value if isinstance(value, dict) else {"body": value})}
