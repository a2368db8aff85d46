"""How many references a schema may follow: a few lines of them can ask for the same again without end. Pure."""

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from itertools import islice
from typing import Any

FOR_A_VALUE = 20
"""References that may be followed for each value within the one that is checked, on average."""

FOR_ANY = 5_000
"""References that may be followed in any case."""

_left: ContextVar[list[int] | None] = ContextVar("references_left", default=None)


class TooManyReferences(RecursionError):
    """A schema refers to its parts again and again, or to itself without end."""


def errors_of(validator: Any, value: Any, most: int) -> list[Any]:
    """What is wrong with a value, as far as it is asked for.

    Args:
        validator: of jsonschema.
        most: how many errors are wanted.

    Raises:
        TooManyReferences: the schema follows more references than any that describes such a value.
    """
    token = _left.set([FOR_ANY + FOR_A_VALUE * _values_in(value)])
    try:
        return list(islice(validator.iter_errors(value), most))
    finally:
        _left.reset(token)


def count_reference() -> None:
    """Count a reference that is followed.

    Raises:
        TooManyReferences: there were too many.
    """
    left = _left.get()
    if left is None:
        return
    left[0] -= 1
    if left[0] < 0:
        raise TooManyReferences("it refers to its parts again and again, more often than a value of this size needs")


def follow(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """The keywords `$ref` and `$dynamicRef`."""
    count_reference()
    yield from validator._validate_reference(ref=wanted, instance=instance)


def _values_in(value: Any) -> int:
    count, pending = 0, [value]
    while pending:
        part = pending.pop()
        count += 1
        if isinstance(part, Mapping):
            pending += part.values()
        elif isinstance(part, list | tuple):
            pending += part
    return count
