"""Reads a node's `config` and a blueprint's `defaults`."""

import re
from collections.abc import Collection
from dataclasses import fields, replace
from typing import Any

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk._config.yaml_tree import Fields, Scalar, Tree
from flowcraft_sdk.protocol.usage_sums import tokens_of, usd_of
from flowcraft_sdk.records import Budget
from flowcraft_server.blueprints.loading.keys import BUDGET_KEYS, RETRY_DELAY_KEYS
from flowcraft_server.blueprints.loading.load_context import LoadContext, is_null, kind_or_text
from flowcraft_server.blueprints.node_config import LARGEST_FACTOR, MOST_ATTEMPTS, NOTHING_SET, NodeConfig, RetryDelay

QUEUE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""The same that `executor.queue` of a server takes: a queue that no server could name would never be served."""

LIMIT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""The same that `limits.named` of a deployment takes."""

MOST_ERROR_NAMES = 100
"""Of `nonRetryable`: a blueprint's defaults give them to each of its nodes."""

_ERROR_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def read_config(reading: LoadContext, tree: Tree, path: Path, known: Collection[str]) -> NodeConfig:
    """The config that a mapping lays down."""
    entries = reading.fields(tree, path, known)
    values: dict[str, Any] = {}
    for key, entry in entries.items():
        reading.positions.put((*path, key), entry.value.position, entry.key_position)
        name, value = _setting(reading, key, entry.value, (*path, key))
        if value is not None:
            values[name] = value
    if (*path, "maxRetries") in reading.meant:  # reported: that there is no second attempt is not reported as well
        values.setdefault("max_retries", 2)
    return NodeConfig(**values) if values else NOTHING_SET


def with_defaults(config: NodeConfig, defaults: NodeConfig) -> NodeConfig:
    """The config, completed by the blueprint's defaults."""
    if defaults is NOTHING_SET or defaults == NOTHING_SET:
        return config
    if config is NOTHING_SET:
        return defaults
    missing = {}
    if config.timeout_ms is not None or config.timeout_from is not None:
        defaults = replace(defaults, timeout_ms=None, timeout_from=None)
    for field in fields(NodeConfig):
        if getattr(config, field.name) in (None, ()):
            missing[field.name] = getattr(defaults, field.name)
    return replace(config, **missing)


def _setting(reading: LoadContext, key: str, tree: Tree, path: Path) -> tuple[str, Any]:
    if key == "maxRetries":
        return "max_retries", reading.whole_number(tree, path, 1, MOST_ATTEMPTS)
    if key == "retryDelay":
        return "retry_delay", _retry_delay(reading, tree, path)
    if key == "timeout" and (expression := reading.expression(tree, path)) is not None:
        return "timeout_from", expression
    if key == "timeout":
        return "timeout_ms", _timeout(reading, tree, path)
    if key == "joinStrategy":
        return "join", reading.choice(tree, path, ("all", "any"))
    if key == "onItemError":
        return "on_item_error", reading.choice(tree, path, ("fail", "collect"))
    if key == "onParentCancel":
        return "on_parent_cancel", reading.choice(tree, path, ("cancel", "abandon"))
    if key in ("fallback", "compensate"):
        return key, reading.text(tree, path, "the id of a node")
    if key == "queue":
        return "queue", _queue(reading, tree, path)
    if key == "limit":
        return "limit", _limit(reading, tree, path)
    if key == "budget":
        return "budget", read_budget(reading, tree, path)
    return "non_retryable", _error_names(reading, tree, path)


def read_budget(reading: LoadContext, tree: Tree, path: Path) -> Budget | None:
    """What model calls may use: a mapping with `usd`, `tokens` or both."""
    entries = reading.fields(tree, path, BUDGET_KEYS) if not is_null(tree) else {}
    values: dict[str, Any] = {}
    for key, entry in entries.items():
        reading.positions.put((*path, key), entry.value.position, entry.key_position)
        written: Any = entry.value.value if isinstance(entry.value, Scalar) else []
        try:
            values[key] = usd_of(written) if key == "usd" else tokens_of(written)
        except ValueError as error:
            reading.error(entry.value.position, (*path, key), str(error))
    if isinstance(tree, Fields) and not tree.entries:  # a key that is none is reported by itself
        reading.error(tree.position, path, "a budget has usd, tokens or both, such as {usd: 0.5, tokens: 200k}")
    return Budget(**values) if values else None


def _timeout(reading: LoadContext, tree: Tree, path: Path) -> int | None:
    duration = reading.duration(tree, path)
    if duration == 0:
        reading.error(tree.position, path, "a timeout is longer than 0; leave it out for the deployment's default")
        return None
    return duration


def _retry_delay(reading: LoadContext, tree: Tree, path: Path) -> RetryDelay | None:
    if (expression := reading.expression(tree, path)) is not None:
        return RetryDelay(0, initial_from=expression)
    if not isinstance(tree, Fields):
        fixed = reading.duration(tree, path)
        return None if fixed is None else RetryDelay(fixed)
    entries = reading.fields(tree, path, RETRY_DELAY_KEYS)
    if "initial" not in entries:
        reading.error(tree.position, path, "needs 'initial', the first pause, such as 1s")
    values: dict[str, Any] = {"initial_ms": 0}
    for key, entry in entries.items():
        place = (*path, key)
        reading.positions.put(place, entry.value.position, entry.key_position)
        if key == "initial" and (expression := reading.expression(entry.value, place)) is not None:
            values["initial_from"] = expression
            continue
        if key in ("initial", "max"):
            value: float | None = reading.duration(entry.value, place)
        elif key == "factor":
            value = reading.number(entry.value, place, 1, LARGEST_FACTOR)
        else:
            value = reading.number(entry.value, place, 0, 1)
        if value is not None:
            values[key if key in ("factor", "jitter") else f"{key}_ms"] = value
    delay = RetryDelay(**values)
    if delay.max_ms is not None and delay.initial_from is None and delay.max_ms < delay.initial_ms:
        reading.error(entries["max"].value.position, (*path, "max"), "is shorter than 'initial'")
    return delay


def _queue(reading: LoadContext, tree: Tree, path: Path) -> str | None:
    name = reading.text(tree, path, "the name of a queue")
    if name is not None and not QUEUE_NAME.fullmatch(name):
        reading.error(
            tree.position, path, f"{kind_or_text(tree)} is no name for a queue; use 1 to 64 letters, digits, - _ and ."
        )
        return None
    return name


def _limit(reading: LoadContext, tree: Tree, path: Path) -> str | None:
    name = reading.text(tree, path, "the name of a limit")
    if name is not None and not LIMIT_NAME.fullmatch(name):
        reading.error(
            tree.position, path, f"{kind_or_text(tree)} is no name for a limit; use 1 to 64 letters, digits, - _ and ."
        )
        return None
    return name


def _error_names(reading: LoadContext, tree: Tree, path: Path) -> tuple[str, ...]:
    names: list[str] = []
    for name, position in reading.texts(tree, path, "the name of an error type") if not is_null(tree) else []:
        if _ERROR_NAME.fullmatch(name):
            names.append(name)
        else:
            reading.error(
                position, path, f"'{name}' is no name of an error type; write ValueError or package.module.Name"
            )
    found = tuple(dict.fromkeys(names))
    if len(found) > MOST_ERROR_NAMES:
        message = (
            f"{len(found):,} names: {MOST_ERROR_NAMES} at most can be named; let the handler raise NonRetryableError"
        )
        reading.error(tree.position, path, message)
    return found[:MOST_ERROR_NAMES]
