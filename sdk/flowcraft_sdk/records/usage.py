"""What model calls have used, and what they may use at most."""

from datetime import date
from typing import Literal

from flowcraft_sdk.records.base import Record
from flowcraft_sdk.records.counts import counted


class Usage(Record):
    """What the model calls of a node, a run or a day have used. Calls that were not answered are not in it.

    Attributes:
        calls: How many calls were answered.
        input_tokens: Tokens that were sent, the cached ones too.
        cached_tokens: Tokens of these that the provider had in its cache.
        output_tokens: Tokens of the replies.
        usd: What they cost, in US dollars; calls without a known price count as 0.
        unpriced_calls: Calls among them whose price is not known.
        seconds: How long they took, added up.
        cache_hits: How many more calls were answered from the cache of replies; nothing else of these is counted.
    """

    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    unpriced_calls: int = 0
    seconds: float = 0.0
    cache_hits: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of input and output together."""
        return self.input_tokens + self.output_tokens

    @property
    def cost(self) -> str:
        """The price, such as `$0.0031`; a `?` behind it says that the price of some calls is not known."""
        return dollars(self.usd) + ("?" if self.unpriced_calls else "")

    @property
    def text(self) -> str:
        """Calls, tokens and price in one line, such as `3 calls, 1,204 tokens, $0.0031`."""
        calls = counted(self.calls, "call")
        unknown = f", {self.unpriced_calls:,} without a known price" if self.unpriced_calls else ""
        cached = f", {self.cache_hits:,} more from the cache" if self.cache_hits else ""
        return f"{calls}, {counted(self.tokens, 'token')}, {dollars(self.usd)}{unknown}{cached}"


class UsageOfDay(Record):
    """What the model calls of a day have used, of a blueprint, a tag or a model.

    Attributes:
        day: The day, in UTC.
        kind: What it is the sum of: `all`, `blueprint`, `tag`, `model`, or `rest` for what was beyond the names that are kept.
        name: Id of the blueprint, the tag or the model; empty for `all` and `rest`.
        usage: The sum.
    """

    day: date
    kind: Literal["all", "blueprint", "tag", "model", "rest"]
    name: str = ""
    usage: Usage


class UsageTotal(Record):
    """What model calls have used since the deployment began. Which blueprints and models have a sum of their own never changes.

    Attributes:
        kind: What it is the sum of: `all`, `blueprint` or `model`.
        name: Id of the blueprint or of the model; empty for `all`.
        usage: The sum; it only grows.
    """

    kind: Literal["all", "blueprint", "model"]
    name: str = ""
    usage: Usage


class Budget(Record):
    """What model calls may use at most. A call is made as long as less was used.

    Attributes:
        usd: US dollars; None for any amount.
        tokens: Tokens of input and output together; None for any number.
    """

    usd: float | None = None
    tokens: int | None = None


def dollars(usd: float) -> str:
    """An amount as people read it: `$12.50`, `$0.0031`."""
    return f"${usd:,.2f}" if usd >= 1 or usd == 0 else f"${usd:.4f}" if usd >= 0.0001 else "under $0.0001"
