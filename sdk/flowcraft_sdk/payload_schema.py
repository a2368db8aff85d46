"""Whether a payload fits the JSON Schema that a waiting node declares."""

from typing import Any

from flowcraft_sdk.errors import ConfigurationError

MOST_MISFITS = 20


def schema_misfits(payload: Any, schema: Any) -> list[dict[str, Any]]:
    """All that is wrong with a payload; nothing is fetched, so a schema can refer to its own parts only.

    Raises:
        ConfigurationError: the package `jsonschema` is not installed, or the schema itself cannot be used.
    """
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    except ImportError:
        message = "the node checks its answers by a schema, which needs jsonschema: pip install 'flowcraft-sdk[schema]'"
        raise ConfigurationError(message) from None
    try:
        Draft202012Validator.check_schema(schema)
        found = list(Draft202012Validator(schema, registry=Registry()).iter_errors(payload))
    except (SchemaError, Unresolvable) as error:
        reason = getattr(error, "message", None) or str(error)
        raise ConfigurationError(f"the schema of the waiting node cannot be used: {reason}") from None
    return [
        {"loc": ("payload", *error.absolute_path), "type": str(error.validator), "msg": _shortened(error.message)}
        for error in sorted(found, key=lambda error: list(map(str, error.absolute_path)))[:MOST_MISFITS]
    ]


def _shortened(message: str, most: int = 300) -> str:
    return message if len(message) <= most else message[: most - 3] + "..."
