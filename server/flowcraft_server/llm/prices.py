"""What model calls cost: by the prices of the configuration, else by those that the package `genai-prices` has."""

import importlib
from collections.abc import Mapping
from typing import Any

from flowcraft_server.config.llm_section import PriceSection

from .calls import TokenUsage

NANO_A_TOKEN = 1000
"""10^-9 USD for a token, for each US dollar for a million tokens."""


class Prices:
    """Prices of models.

    Args:
        own: those of the configuration, by model or by `PROVIDER/MODEL`.
    """

    def __init__(self, own: Mapping[str, PriceSection] | None = None) -> None:
        self._own = dict(own or {})
        self._library: Any = None

    def nano_usd(self, usage: TokenUsage, *, provider: str, model: str, api_url: str = "") -> int | None:
        """What a call costs, in 10^-9 USD; None if that is not known.

        Args:
            usage: its tokens.
            provider: the provider's name in the configuration.
            model: the model that was asked for.
            api_url: where it was asked: the same model costs something else elsewhere.
        """
        own = self._own.get(f"{provider}/{model}") or self._own.get(model)
        if own is not None:
            cached = own.input if own.cached is None else own.cached
            fresh = usage.input_tokens - usage.cached_tokens
            return round(
                NANO_A_TOKEN * (fresh * own.input + usage.cached_tokens * cached + usage.output_tokens * own.output)
            )
        return self._by_library(usage, model, api_url) if api_url else None

    @property
    def has_library(self) -> bool:
        """Whether the prices of public models are installed."""
        return self._loaded() is not None

    def _by_library(self, usage: TokenUsage, model: str, api_url: str) -> int | None:
        library = self._loaded()
        if library is None:
            return None
        tokens = library.Usage(
            input_tokens=usage.input_tokens, cache_read_tokens=usage.cached_tokens, output_tokens=usage.output_tokens
        )
        try:
            price = library.calc_price(tokens, model_ref=model, provider_api_url=api_url).total_price
        except (LookupError, ValueError):  # no such provider or model; counts that do not fit each other
            return None
        nano: int = round(price * 10**9)
        return nano

    def _loaded(self) -> Any:
        """The package, None if it is not installed."""
        if self._library is None:
            try:
                self._library = importlib.import_module("genai_prices")
            except ModuleNotFoundError as error:
                if error.name != "genai_prices":
                    raise
                self._library = False
        return self._library or None
