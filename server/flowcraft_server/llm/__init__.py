"""Language models for handlers: any OpenAI-compatible endpoint, or scripted replies without one."""

from .errors import (
    LLMAuthError,
    LLMError,
    LLMRateLimited,
    LLMRedirectError,
    LLMReplyError,
    LLMReplyTooLarge,
    LLMRequestError,
    LLMSettingsError,
    LLMTimeout,
    LLMUnreachable,
)
from .models import LanguageModels, build_models
from .openai_compatible import Endpoint, OpenAICompatible
from .provider import Provider
from .retrying import RetryPolicy
from .scripted import Scripted

__all__ = [
    "Endpoint",
    "LLMAuthError",
    "LLMError",
    "LLMRateLimited",
    "LLMRedirectError",
    "LLMReplyError",
    "LLMReplyTooLarge",
    "LLMRequestError",
    "LLMSettingsError",
    "LLMTimeout",
    "LLMUnreachable",
    "LanguageModels",
    "OpenAICompatible",
    "Provider",
    "RetryPolicy",
    "Scripted",
    "build_models",
]
