"""JSON Schemas of an agent: what the model gives is checked by them, with messages that it can mend its answer by."""

from collections.abc import Mapping
from typing import Any

import jsonschema
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from flowcraft_sdk._config.source_positions import written_path
from flowcraft_sdk.node import NonRetryableError
from flowcraft_sdk.protocol.linear_patterns import PatternError
from flowcraft_sdk.protocol.payload_schema import complaint, schema_validator, unusable, unusable_pattern
from flowcraft_sdk.protocol.schema_references import errors_of

MOST_FAULTS = 5
"""What is wrong with a value, as far as it is shown to the model."""


class AgentSchemaError(NonRetryableError):
    """A schema of an agent cannot be used."""


class ValueSchema:
    """A schema that values are checked by. Nothing is fetched, and patterns are searched for in linear time.

    Args:
        schema: the schema.
        what: what it belongs to, for messages.

    Raises:
        AgentSchemaError: it is none.
    """

    def __init__(self, schema: Mapping[str, Any], what: str) -> None:
        self._what = what
        kind = schema_validator(jsonschema)
        try:
            kind.check_schema(schema)
        except SchemaError as error:
            raise AgentSchemaError(f"{what} is no JSON Schema: {unusable(error)}") from None
        if (reason := unusable_pattern(schema)) is not None:
            raise AgentSchemaError(f"{what} is no JSON Schema: {reason}")
        self._validator = kind(schema, registry=Registry())

    def faults(self, value: Any) -> str:
        """What is wrong with a value; empty if it fits.

        Raises:
            AgentSchemaError: the schema refers to what is not there, or has no end.
        """
        try:
            found = errors_of(self._validator, value, MOST_FAULTS)
        except (Unresolvable, PatternError, RecursionError) as error:
            raise AgentSchemaError(f"{self._what} is no JSON Schema: {error}") from None
        return "; ".join(
            f"{place}: {complaint(error)}" if (place := written_path(tuple(error.absolute_path))) else complaint(error)
            for error in found
        )
