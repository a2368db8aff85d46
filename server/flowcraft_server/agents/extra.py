"""The extra that agents need."""

import asyncio
import importlib
import sys
import threading
from contextlib import suppress

from flowcraft_sdk.node import NonRetryableError
from flowcraft_server.config.agents_extra import NEEDED, has_extra


class AgentsNotInstalled(NonRetryableError, ImportError):
    """An agent is to run, and what it needs is not installed."""


def require_extra() -> None:
    """Make sure that pydantic-ai is installed. Does not load it.

    Raises:
        AgentsNotInstalled: it is not.
    """
    if not has_extra():
        raise AgentsNotInstalled(NEEDED)


_loading = threading.Lock()
_RUNS = "flowcraft_server.agents.agent_run"
_FIRST_USED = ("pydantic_ai.mcp", "pydantic_ai.models.openai", "openai.resources.chat")
"""What agents import where they first need it. With a busy processor that takes longer than an event loop may stand still."""


async def load_extra() -> None:
    """Load pydantic-ai where it is not loaded yet. That takes half a second, so the event loop goes on meanwhile.

    Raises:
        AgentsNotInstalled: it is not installed.
    """
    require_extra()
    if _RUNS not in sys.modules or _loading.locked():
        await asyncio.to_thread(_load)


def _load() -> None:
    # One thread at a time: pydantic-ai imports parts of itself where it first needs them, and two event loops that do so at the
    # same moment see them half imported.
    with _loading:
        importlib.import_module(_RUNS)
        for module in _FIRST_USED:
            with suppress(ImportError):  # without the packages that it needs
                importlib.import_module(module)
