"""Builds the providers of the `llm` section and decides which of them handlers get."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from flowcraft_sdk.node import AsyncLanguageModel, LanguageModel
from flowcraft_server.config.sections import AUTO, LLMSection, OpenAIProviderSection, ScriptedProviderSection

from .errors import LLMSettingsError
from .openai_compatible import Endpoint, OpenAICompatible
from .provider import Provider
from .retrying import RetryPolicy
from .scripted import Scripted


class LanguageModels:
    """The configured providers.

    Args:
        providers: by name, in the order of the file.
        default: name of the one that `ctx.llm` is, or `auto`: the first endpoint with a key, else the first that is
            scripted.

    Raises:
        LLMSettingsError: `default` names none of the providers.
    """

    def __init__(self, providers: Mapping[str, Provider], *, default: str = AUTO) -> None:
        self._providers = dict(providers)
        self.default: Provider = self._chosen() if default == AUTO else self.get(default)

    @property
    def warnings(self) -> list[str]:
        """What the operator should know about the default provider: an empty key, scripted replies."""
        return [self.default.warning] if self.default.warning else []

    def warn(self) -> None:
        """Log what the operator should know."""
        self.default.warn()

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

    def for_handler(self, *, awaited: bool, deadline: float | None = None) -> LanguageModel | AsyncLanguageModel:
        """Return the default provider as the `ctx.llm` of a handler.

        Args:
            awaited: whether the handler is a coroutine function.
            deadline: seconds of the monotonic clock at which a plain handler's calls end; a coroutine is cancelled.
        """
        if awaited:
            return self.default.asynchronous
        return self.default if deadline is None else self.default.until(deadline)

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


def build_models(settings: LLMSection, *, base: Path | None = None) -> LanguageModels:
    """Make the providers that `settings` describe. Opens no connection.

    Args:
        settings: the `llm` section.
        base: folder that the files of scripted providers are relative to; the current one if None.

    Raises:
        LLMSettingsError: a scripted provider's file is missing or wrong, or the default is none of the providers.
    """
    providers = {name: _provider(name, section, base or Path()) for name, section in settings.providers.items()}
    return LanguageModels(providers, default=settings.default or AUTO)


def _provider(name: str, section: OpenAIProviderSection | ScriptedProviderSection, base: Path) -> Provider:
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
    )
    return OpenAICompatible(name, endpoint)


class _Unconfigured(Provider):
    """Stands in when there are no providers: deployments without a language model need no `llm` section."""

    def __init__(self) -> None:
        super().__init__("none")

    def complete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Raise LLMSettingsError."""
        raise LLMSettingsError("no language model is configured: add one to llm.providers in flowcraft.yaml")

    async def acomplete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Raise LLMSettingsError."""
        return self.complete(prompt)
