"""Language models for handlers: any OpenAI-compatible endpoint, or scripted replies without one.

Imported by: agents, cli, demo, evals, pytest_plugin, service, testing, worker.
"""

from .calls import Message, ModelReply, ModelRequest, TokenUsage
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
from .layers import AsyncHandlerModel, CallLayer, HandlerModel
from .models import LanguageModels, build_models
from .openai_compatible import Endpoint, OpenAICompatible
from .provider import Provider
from .retrying import RetryPolicy
from .scripted import Scripted

__all__ = [
    "AsyncHandlerModel",
    "CallLayer",
    "Endpoint",
    "HandlerModel",
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
    "Message",
    "ModelReply",
    "ModelRequest",
    "OpenAICompatible",
    "Provider",
    "RetryPolicy",
    "Scripted",
    "TokenUsage",
    "build_models",
]
