"""What a run of an evaluation did otherwise than expected, as far as no model has to be asked. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flowcraft_sdk import ConfigurationError
from flowcraft_sdk._config.source_positions import Path as Place
from flowcraft_sdk._config.source_positions import written_path
from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.expressions import truthy
from flowcraft_sdk.protocol.payload_schema import schema_misfits
from flowcraft_sdk.records import Usage
from flowcraft_server.testing.expectations import Observed, compare

from .model import Checks

MOST_MISFITS = 5
LONGEST_VALUE = 300
"""Characters of a value that an expression has read, as far as they are shown."""


@dataclass(frozen=True, slots=True)
class Miss:
    """A part of what was expected that was not met.

    Attributes:
        place: where it stands in the file.
        message: what was expected, in one line.
        difference: lines that show where two values differ.
    """

    place: Place
    message: str
    difference: tuple[str, ...] = ()


def misses(checks: Checks, observed: Observed, given: Mapping[str, Any], usage: Usage, seconds: float) -> list[Miss]:
    """All that a run did otherwise than expected.

    Args:
        checks: what is expected.
        observed: what the run did.
        given: its start context.
        usage: what its model calls have used.
        seconds: how long it took.
    """
    found = []
    for mismatch in compare(checks.plain, observed):
        head, *rest = mismatch.path
        place = (*checks.places.get(str(head), (str(head),)), *rest)
        found.append(Miss(place, mismatch.message, mismatch.difference))
    if not checks.plain.get("status") and "error" not in checks.plain and observed.status != "completed":
        return found  # there is no output to look at
    found += _misfits(checks, observed)
    found += _untrue(checks, observed, given, usage, seconds)
    return found


def _misfits(checks: Checks, observed: Observed) -> Iterator[Miss]:
    for check in checks.schemas:
        try:
            wrong = schema_misfits(plain(observed.output), check.schema)
        except ConfigurationError as error:
            yield Miss(check.place, str(error).partition("cannot be used: ")[2] or str(error))
            continue
        shown = [f"{written_path(('output', *each['loc'][1:]))}: {each['msg']}" for each in wrong[:MOST_MISFITS]]
        if wrong:
            more = f"; and {len(wrong) - MOST_MISFITS} more" if len(wrong) > MOST_MISFITS else ""
            yield Miss(check.place, "; ".join(shown) + more)


def _untrue(
    checks: Checks, observed: Observed, given: Mapping[str, Any], usage: Usage, seconds: float
) -> Iterator[Miss]:
    if not checks.expressions:
        return
    scope = {
        "output": plain(observed.output),
        "outputs": plain(dict(observed.outputs)),
        "context": plain(dict(observed.context)),
        "input": given,
        "status": observed.status,
        "usage": {
            "calls": usage.calls, "tokens": usage.tokens, "inputTokens": usage.input_tokens,
            "outputTokens": usage.output_tokens, "usd": usage.usd,
        },
        "seconds": seconds,
    }  # fmt: skip
    for check in checks.expressions:
        if not truthy(check.expression.evaluate(scope)):
            yield Miss(check.place, f"not true: {check.expression.source}{_read(check.expression.reads, scope)}")


def _read(reads: frozenset[tuple[str, ...]], scope: Mapping[str, Any]) -> str:
    """The values that an expression has read."""
    shown = []
    for path in sorted(reads):
        value: Any = scope
        for key in path:
            if isinstance(value, Mapping):
                value = value.get(key)
            elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                value = None
        text = json.dumps(value, ensure_ascii=False, default=str)
        shown.append(f"{'.'.join(path)} is {text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + '…'}")
    return f" ({', '.join(shown)})" if shown else ""


def plain(value: Any) -> Any:
    """A value as JSON has it, in which expectations are written."""
    return json.loads(wire.dumps(value))
