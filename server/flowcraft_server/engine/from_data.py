"""Durations and points in time that a blueprint takes from the data of a run: `timeout: "= order.sla"`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from flowcraft_sdk.node import NonRetryableError
from flowcraft_sdk.protocol.sources import is_expression, keys_of, value_of
from flowcraft_server.blueprints.durations import duration_of, moment_of, parse_duration_ms
from flowcraft_server.blueprints.model import BATCHES
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.inputs import fields_of_key, resolve_key
from flowcraft_server.store.link import StoreLink

T = TypeVar("T")


class InvalidDuration(NonRetryableError):
    """An expression for a duration or a point in time gave something else. The message names it and its value."""


def value_from_data(link: StoreLink, run_key: str, attempt: Attempt, source: str, own: Mapping[str, Any]) -> Any:
    """The value of an expression over the run's data; what the claim did not bring is read.

    Args:
        own: names that stand for something else than a key of the context.
    """
    values = attempt.values
    keys = [key for key in keys_of(source) if key not in own]
    fields = list(dict.fromkeys(field for key in keys for field in fields_of_key(values, key)))
    if not values.knows(fields):
        values.add_claimed(dict(zip(fields, link.read_fields(run_key, fields), strict=True)))
    return value_of(source, lambda key: own[key] if key in own else resolve_key(values, key))


def set_times(link: StoreLink, run_key: str, attempt: Attempt) -> None:
    """Work out the attempt's timeout and the pause before the next one, where the node takes them from data.

    Raises:
        InvalidDuration: one of them is no duration.
    """
    config = attempt.node.node.config
    if attempt.claim.item is None and attempt.node.node.uses in BATCHES:
        return  # they are its items', and each item has its own
    if config.timeout_from is not None:
        timeout = _duration(link, run_key, attempt, config.timeout_from, "config.timeout")
        if timeout == 0:
            raise InvalidDuration(
                _what(attempt, config.timeout_from, "config.timeout") + "gives 0; a timeout is longer than 0"
            )
        attempt.timeout = timeout / 1000
    delay = config.retry_delay
    if delay is not None and delay.initial_from is not None:
        first = _duration(link, run_key, attempt, delay.initial_from, "config.retryDelay")
        attempt.retry_delay = replace(delay, initial_ms=first, initial_from=None)


def duration_param(link: StoreLink, run_key: str, attempt: Attempt, name: str) -> int | None:
    """A parameter that is a duration, in ms; None if it is not set.

    Raises:
        InvalidDuration: an expression gave none.
    """
    value: Any = attempt.params.get(name)
    if not is_expression(value):
        return None if value is None else parse_duration_ms(value)
    return _duration(link, run_key, attempt, value, f"params.{name}")


def moment_param(link: StoreLink, run_key: str, attempt: Attempt, name: str) -> datetime | None:
    """A parameter that is a point in time; None if it is not set.

    Raises:
        InvalidDuration: it is none, or its expression gave none.
    """
    value = attempt.params.get(name)
    if value is None:
        return None
    if not is_expression(value):
        return _checked(moment_of, value, f"params.{name} of node '{attempt.claim.instance_id}': ")
    return _read(link, run_key, attempt, value, f"params.{name}", moment_of)


def check_wait(attempt: Attempt, name: str, ms: int) -> int:
    """The time until a point in time, if it is not further off than any time may be.

    Raises:
        InvalidDuration: it is.
    """
    what = f"params.{name} of node '{attempt.claim.instance_id}', '{attempt.params[name]}': "
    return _checked(parse_duration_ms, ms, what)


def _duration(link: StoreLink, run_key: str, attempt: Attempt, source: str, place: str) -> int:
    return _read(link, run_key, attempt, source, place, duration_of)


def _read(link: StoreLink, run_key: str, attempt: Attempt, source: str, place: str, convert: Callable[[Any], T]) -> T:
    own = {"input": attempt.input}
    if attempt.claim.item is not None:
        own |= {"item": attempt.input, "index": attempt.claim.item}
    return _checked(convert, value_from_data(link, run_key, attempt, source, own), _what(attempt, source, place))


def _checked(convert: Callable[[Any], T], value: Any, what: str) -> T:
    try:
        return convert(value)
    except ValueError as error:
        raise InvalidDuration(f"{what}{error}") from None


def _what(attempt: Attempt, source: str, place: str) -> str:
    return f"{place} of node '{attempt.claim.instance_id}', '{source}': "
