"""The cache of model replies: what was answered is given again to the same request, for as long as the configuration says."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_server.llm.calls import ModelReply, ModelRequest
from flowcraft_server.llm.models import LanguageModels
from flowcraft_server.llm.provider import Provider
from flowcraft_server.observability.redaction import Redactor

LARGEST_REPLY = 1024 * 1024
"""Characters of a reply that is kept."""

WHOLE = frozenset({"stop", "tool_call", "tool_calls", "function_call"})
"""Why a model stops whose reply is whole: what was cut off or filtered is not kept."""


class ReplyCache:
    """Makes the entries of the cache. A request lies in the partition that its digest says.

    Args:
        partitions: the deployment's.
        models: its providers.
        redactor: knows the secrets, which are not kept.
    """

    def __init__(self, partitions: Partitions, models: LanguageModels, redactor: Redactor) -> None:
        self._partitions = partitions
        self._most_bytes = -(-models.cache_bytes // partitions.count)
        self._redactor = redactor

    def entry(self, provider: Provider, request: ModelRequest) -> "CacheEntry | None":
        """The entry of a request; None if replies of its provider are not kept."""
        if provider.cache_age is None:
            return None
        digest = digest_of(provider, request)
        age_ms = max(1, round(provider.cache_age * 1000))
        return CacheEntry(self._partitions.for_run(digest), digest, age_ms, self._most_bytes, self._redactor)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """Where the reply to a request is kept.

    Attributes:
        keys: of its partition.
        digest: of the request.
        age_ms: how old the reply may be.
        most_bytes: of all replies in the partition.
        redactor: knows the secrets.
    """

    keys: Keys
    digest: str
    age_ms: int
    most_bytes: int
    redactor: Redactor

    def find(self) -> ScriptCall:
        """The call that looks for the reply."""
        return scripts.find_reply(self.keys, digest=self.digest, age_ms=self.age_ms)

    def keep(self, reply: ModelReply) -> ScriptCall | None:
        """The call that keeps a reply; None for one that is not to be kept: cut off, empty, too large, or with a secret in it."""
        text = reply.text
        if reply.finish_reason not in WHOLE or not text or len(text) > LARGEST_REPLY:
            return None
        written = json.dumps(replace(reply, request_id="", from_cache=False).to_json(), separators=(",", ":"))
        if self.redactor.clean(text) != text or self.redactor.clean(written) != written:
            return None
        return scripts.keep_reply(
            self.keys, digest=self.digest, reply=written, age_ms=self.age_ms, most_bytes=self.most_bytes
        )

    def take_out(self) -> ScriptCall:
        """The call that takes the reply out."""
        return scripts.keep_reply(
            self.keys, digest=self.digest, reply="", age_ms=self.age_ms, most_bytes=self.most_bytes
        )


def digest_of(provider: Provider, request: ModelRequest) -> str:
    """What a request is known by: provider, its address, the model, and all that is asked."""
    asked = [provider.name, provider.api_url, request.to_json(), request.also_asked]
    text = json.dumps(asked, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_reply(found: Any) -> ModelReply | None:
    """The reply that the script has found; None for none, or for what no release has written."""
    if isinstance(found, Exception):
        logger.warning("the cache of model replies: {}", found)
        return None
    if found is None:
        return None
    try:
        return replace(ModelReply.from_json(json.loads(found)), from_cache=True, latency_ms=0)
    except (ValueError, KeyError, TypeError):
        return None
