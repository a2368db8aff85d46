"""The sections of `flowcraft.yaml` about language models: providers, prices, budgets."""

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PlainSerializer, SecretStr, field_validator, model_validator

from flowcraft_sdk.protocol.bounds import LONGEST_TAG
from flowcraft_sdk.protocol.usage_sums import LEAST_USD, MOST_USD, tokens_of
from flowcraft_sdk.records import Budget

from .quantities import Rate, Size, format_rate, parse_rate
from .sections import Amount, Seconds, Section, Threads, mistake

AUTO = "auto"
"""The `llm.default` that leaves the choice to the server."""


def _token_rate(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    count, slash, unit = value[:40].partition("/")
    try:
        tokens = tokens_of(count)
        return parse_rate(f"{tokens}/{unit.strip()}") if slash and tokens else parse_rate(value)
    except ValueError:
        raise mistake(f"expected a number of tokens in a time, such as 200k/m, got {value[:40]!r}") from None


TokenRate = Annotated[
    float, BeforeValidator(_token_rate), Field(gt=0, le=1e9), PlainSerializer(format_rate, when_used="json")
]
"""Tokens a second; written as `200k/m`."""

RecordMode = Literal["full", "redacted", "off"]


def _tokens(value: Any) -> Any:
    try:
        return tokens_of(value)
    except ValueError as error:
        raise mistake(str(error)) from None


Tokens = Annotated[int, BeforeValidator(_tokens)]
"""A number of tokens; written as a number, or as `200k`."""


class LLMRetriesSection(Section):
    """Which failed calls are made again, and how many calls there are in all.

    Attributes:
        max_retries: How many calls in all, the first one too.
        on: Status codes, classes of them, and `timeout`: what is tried again.
    """

    max_retries: Annotated[int, Field(ge=1, le=100)] = 4
    on: tuple[int | Literal["5xx", "4xx", "timeout"], ...] = (429, "5xx", "timeout")


class ProviderLimitsSection(Section):
    """What calls of each of a provider's models may do together, over all processes. A call beyond it waits.

    Attributes:
        requests: How many calls may begin in a time: `600/m`.
        tokens: How many tokens they may use in a time, input and output together: `200k/m`.
        concurrent: How many calls are under way at once.
    """

    requests: Rate | None = None
    tokens: TokenRate | None = None
    concurrent: Amount | None = None


OFF: Literal["off"] = "off"
CACHE_BYTES = 64 * 1024 * 1024

CacheAge = Seconds | Literal["off"]
"""How old a reply may be that the cache gives, or `off`."""


class CacheSection(Section):
    """Replies that are given again to the same request; none unless `maxAge` is set. A duration in place of the section sets it.

    Attributes:
        max_age: How old a reply may be that is given again.
        max_bytes: How much is kept of all replies; those that expire first make room.
    """

    short_form = "maxAge"

    max_age: Seconds | None = None
    max_bytes: Annotated[Size, Field(ge=1024, le=64 * 1024 * 1024 * 1024)] = CACHE_BYTES


class OpenAIProviderSection(Section):
    """An endpoint that speaks OpenAI's chat protocol.

    Attributes:
        type: The kind of provider.
        base_url: Address of the endpoint.
        api_key: Its key; with an empty one each call fails.
        model: Name of the model, for calls that name none.
        timeout: Time limit of one call.
        max_concurrent: How many calls each process makes at once.
        max_reply: The largest reply that is read.
        retries: Which failed calls are made again.
        limits: What calls of each model may do together, over all processes.
        cache: How old a reply may be that is given again to the same request, or `off`; by default as `llm.cache`.
    """

    type: Literal["openai-compatible"]
    base_url: str = "https://api.openai.com/v1"
    api_key: SecretStr = SecretStr("")
    model: str
    timeout: Seconds = 60.0
    max_concurrent: Threads = 8
    max_reply: Annotated[Size, Field(ge=1024, le=512 * 1024 * 1024)] = 16 * 1024 * 1024
    retries: LLMRetriesSection = LLMRetriesSection()
    limits: ProviderLimitsSection = ProviderLimitsSection()
    cache: CacheAge | None = None

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise mistake(f"expected an http:// or https:// address, got {url!r}")
        return url


class RecordedProviderSection(OpenAIProviderSection):
    """An endpoint whose answers are recorded once, for tests and evaluations.

    Attributes:
        type: The kind of provider.
        file: The file of recordings, relative to `flowcraft.yaml`.
        on_missing: What is done with a request that is not in it: `fail`, `record`, or `auto`, which records if there was no file
            when the process began.
    """

    type: Literal["recorded"]  # type: ignore[assignment]
    file: str
    on_missing: Literal["auto", "fail", "record"] = "auto"


class ScriptedProviderSection(Section):
    """Replies from a file, for demonstrations and tests.

    Attributes:
        type: The kind of provider.
        file: The file, relative to `flowcraft.yaml`.
        cache: As of endpoints.
    """

    type: Literal["scripted"]
    file: str
    cache: CacheAge | None = None


ProviderSection = Annotated[
    OpenAIProviderSection | RecordedProviderSection | ScriptedProviderSection, Field(discriminator="type")
]


class PriceSection(Section):
    """What a model costs, in US dollars for a million tokens.

    Attributes:
        input: Of the input.
        cached: Of the input that the provider has in its cache; by default as `input`.
        output: Of the output.
    """

    input: Annotated[float, Field(ge=0, le=1_000_000)]
    cached: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    output: Annotated[float, Field(ge=0, le=1_000_000)]


class LLMSection(Section):
    """Language models for handlers, by name.

    Attributes:
        default: Name of the provider that `ctx.llm` is. Without one, or with `auto`, the first one with a key is chosen, else
            the first scripted one.
        providers: The providers, by name.
        record: What the history keeps of prompts and replies: their texts (`full`), these with values masked that follow the name
            of a secret or one of `logging.redact` (`redacted`), or none (`off`).
        prices: What models cost, by name, or by `PROVIDER/NAME`: before the prices that the extra `agents` brings.
        cache: Whether replies are kept, and given again to the same request.
    """

    default: str | None = None
    providers: dict[str, ProviderSection] = Field(default_factory=dict)
    record: RecordMode = "redacted"
    cache: CacheSection = CacheSection()
    prices: dict[Annotated[str, Field(min_length=1, max_length=200)], PriceSection] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default not in (None, AUTO, *self.providers):
            known = ", ".join([AUTO, *self.providers])
            raise mistake(f"no provider '{self.default}'; known: {known}", at="default")
        return self


class BudgetSection(Section):
    """What model calls may use at most.

    Attributes:
        usd: US dollars.
        tokens: Tokens of input and output together, such as `200k`.
    """

    usd: Annotated[float, Field(ge=LEAST_USD, le=MOST_USD)] | None = None
    tokens: Tokens | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.usd is None and self.tokens is None:
            raise mistake("a budget has usd, tokens or both")
        return self

    @property
    def budget(self) -> Budget:
        """The budget."""
        return Budget(usd=self.usd, tokens=self.tokens)


class BudgetsSection(Section):
    """What model calls of many runs may use.

    Attributes:
        tags_per_day: Of all runs with a tag, on a day (UTC), by tag.
    """

    tags_per_day: dict[Annotated[str, Field(min_length=1, max_length=LONGEST_TAG)], BudgetSection] = Field(
        default_factory=dict, max_length=1000
    )
