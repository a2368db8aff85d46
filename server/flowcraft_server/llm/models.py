"""Builds the providers of the `llm` section and decides which of them handlers get."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from flowcraft_server.config.llm_section import (
    AUTO,
    CACHE_BYTES,
    OFF,
    LLMSection,
    OpenAIProviderSection,
    RecordedProviderSection,
    RecordMode,
    ScriptedProviderSection,
)

from .call_gate import CallLimit
from .calls import ModelReply, ModelRequest, TokenUsage
from .errors import LLMSettingsError
from .layers import AsyncHandlerModel, CallLayer, HandlerModel
from .openai_compatible import Endpoint, OpenAICompatible
from .prices import Prices
from .provider import Provider
from .recorded import Recorded
from .retrying import RetryPolicy
from .scripted import Scripted
from .streaming import StreamSink


class LanguageModels:
    """The configured providers.

    Args:
        providers: by name, in the order of the file.
        default: name of the one that `ctx.llm` is, or `auto`: the first endpoint with a key, else the first that is
            scripted.
        prices: what models cost.
        record: what the history keeps of prompts and replies.
        cache_bytes: of all replies that are kept.

    Raises:
        LLMSettingsError: `default` names none of the providers.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        *,
        default: str = AUTO,
        prices: Prices | None = None,
        record: RecordMode = "redacted",
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.record: RecordMode = record
        self.cache_bytes = cache_bytes
        self._providers = dict(providers)
        self._prices = prices or Prices()
        self.default: Provider = self._chosen() if default == AUTO else self.get(default)

    @property
    def warnings(self) -> list[str]:
        """What the operator should know about the default provider: an empty key, scripted replies."""
        return [self.default.warning] if self.default.warning else []

    def warn(self) -> None:
        """Log what the operator should know."""
        self.default.warn()

    @property
    def providers(self) -> list[Provider]:
        """The providers."""
        return list(self._providers.values())

    @property
    def names(self) -> list[str]:
        """Names of the configured providers."""
        return list(self._providers)

    def get(self, name: str) -> Provider:
        """Return the provider called `name`.

        Raises:
            LLMSettingsError: there is none; the message names the ones there are.
        """
        try:
            return self._providers[name]
        except KeyError:
            close = get_close_matches(name, self._providers, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(self._providers) or 'none'}"
            raise LLMSettingsError(f"llm: no provider {name!r}; {hint}") from None

    def for_handler(
        self,
        *,
        awaited: bool,
        deadline: float | None = None,
        layers: Sequence[CallLayer] = (),
        sink: StreamSink | None = None,
    ) -> HandlerModel | AsyncHandlerModel:
        """Return the default provider as the `ctx.llm` of a handler.

        Args:
            awaited: whether the handler is a coroutine function.
            deadline: seconds of the monotonic clock at which a plain handler's calls end; a coroutine is cancelled.
            layers: what is around each call, from outside to inside.
            sink: where the pieces of streamed replies go besides the handler.
        """
        if awaited:
            return AsyncHandlerModel(self.default, layers, sink, self._providers)
        return HandlerModel(self.default, layers, deadline, sink)

    def price_of(self, provider: Provider, model: str, usage: TokenUsage) -> int | None:
        """What a call costs, in 10^-9 USD; None if that is not known. Without a price of its own a scripted reply is free."""
        price = self._prices.nano_usd(usage, provider=provider.name, model=model, api_url=provider.api_url)
        return 0 if price is None and provider.scripted else price

    def has_price(self, provider: Provider, model: str) -> bool:
        """Whether it is known what calls of a model cost."""
        return self.price_of(provider, model, TokenUsage(1, 0, 1)) is not None

    @property
    def has_public_prices(self) -> bool:
        """Whether the prices of public models are installed."""
        return self._prices.has_library

    @property
    def keeps_replies(self) -> bool:
        """Whether a provider's replies are kept."""
        return any(provider.cache_age is not None for provider in self._providers.values())

    def keep_no_replies(self) -> None:
        """Have each call be made, whatever the configuration says: for evaluations, whose runs are to differ."""
        for provider in self._providers.values():
            provider.cache_age = None

    def close(self) -> None:
        """Close the providers' connections."""
        for provider in self._providers.values():
            provider.close()

    def _chosen(self) -> Provider:
        real = [provider for provider in self._providers.values() if not provider.scripted]
        usable = [provider for provider in real if provider.warning is None]
        made_up = [provider for provider in self._providers.values() if provider.scripted]
        for candidates in (usable, made_up, real):
            if candidates:
                return candidates[0]
        return _Unconfigured()


def build_models(settings: LLMSection, *, base: Path | None = None, mask: Callable[[str], str] = str) -> LanguageModels:
    """Make the providers that `settings` describe. Opens no connection.

    Args:
        settings: the `llm` section.
        base: folder that the files of scripted and recorded providers are relative to; the current one if None.
        mask: takes secrets out of what recorded providers write.

    Raises:
        LLMSettingsError: a provider's file is missing or wrong, or the default is none of the providers.
    """
    providers = {}
    for name, section in settings.providers.items():
        providers[name] = provider = _provider(name, section, base or Path(), mask)
        own = section.cache
        provider.cache_age = settings.cache.max_age if own is None else None if own == OFF else own
    return LanguageModels(
        providers,
        default=settings.default or AUTO,
        prices=Prices(settings.prices),
        record=settings.record,
        cache_bytes=settings.cache.max_bytes,
    )


def _provider(
    name: str, section: OpenAIProviderSection | ScriptedProviderSection, base: Path, mask: Callable[[str], str]
) -> Provider:
    if isinstance(section, ScriptedProviderSection):
        return Scripted.from_file(name, base / section.file)
    endpoint = Endpoint(
        base_url=section.base_url,
        api_key=section.api_key.get_secret_value(),
        model=section.model,
        timeout=section.timeout,
        max_concurrent=section.max_concurrent,
        retries=RetryPolicy(max_attempts=section.retries.max_retries, on=section.retries.on),
        max_reply=section.max_reply,
        limit=CallLimit(section.limits.requests, section.limits.tokens, section.limits.concurrent),
    )
    if isinstance(section, RecordedProviderSection):
        return Recorded(name, endpoint, base / section.file, on_missing=section.on_missing, mask=mask)
    return OpenAICompatible(name, endpoint)


class _Unconfigured(Provider):
    """Stands in when there are no providers: deployments without a language model need no `llm` section."""

    def __init__(self) -> None:
        super().__init__("none")

    def call(self, request: ModelRequest, *, deadline: float | None = None) -> ModelReply:
        """Raise LLMSettingsError."""
        raise LLMSettingsError("no language model is configured: add one to llm.providers in flowcraft.yaml")

    async def acall(self, request: ModelRequest) -> ModelReply:
        """Raise LLMSettingsError."""
        return self.call(request)
