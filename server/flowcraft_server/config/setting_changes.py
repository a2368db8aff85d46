"""Which settings differ between two states of `flowcraft.yaml`."""

from collections.abc import Iterator, Mapping
from typing import Any

from .model import Settings

LIVE = ("blueprints.", "history.", "limits.named", "schedules", "defaults.joinStrategy")
"""What a server takes over while it runs."""

OF_THE_SERVER = ("name", "redis.", "executor.queue", "executor.workers", "executor.workerType", "executor.processes",
                 "executor.maxCrashes", "executor.lease", "executor.drainTimeout", "logging.level",
                 "logging.format", "logging.redact",
    "api.", "hooks")  # fmt: skip
"""What fresh worker processes do not take over from the file, as the server that starts them has it."""


def changed_settings(before: Settings, after: Settings) -> list[str]:
    """The dotted names of all settings that are not the same in both, sorted. What has names is named as a whole."""
    old, new = (dict(_leaves(settings.model_dump(by_alias=True))) for settings in (before, after))
    return sorted(name for name in old.keys() | new.keys() if old.get(name, _NONE) != new.get(name, _NONE))


_NONE = object()
_WHOLE = ("handlers", "llm.providers", "mcp")


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and prefix.removesuffix(".") not in _WHOLE:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def is_live(name: str) -> bool:
    """Whether a server takes over a change of this setting while it runs."""
    return name.startswith(LIVE)


def is_of_workers(name: str) -> bool:
    """Whether worker processes that are started afresh take over a change of this setting."""
    return not is_live(name) and not name.startswith(OF_THE_SERVER)
