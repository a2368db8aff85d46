"""What a plan is named by. Pure."""

import hashlib
import json
from collections.abc import Mapping

canonical = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode
"""A JSON value as a text that is the same for the same value."""


def plan_digest(fields: Mapping[str, str], plan_format: int | str) -> str:
    """The name of a plan.

    Args:
        fields: as it is stored, without its format.
        plan_format: of the fields.
    """
    text = f"{plan_format}\n{canonical(fields)}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
