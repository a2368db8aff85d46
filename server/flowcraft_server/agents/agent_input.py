"""What an agent is asked, and the params that it was given."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from flowcraft_sdk.node import NonRetryableError
from flowcraft_server.blueprints.agent_params import AgentParams


class AgentInputError(NonRetryableError):
    """An agent has nothing to work on, or its params do not fit."""


def params_of(given: Mapping[str, Any]) -> AgentParams:
    """The params of an agent.

    Raises:
        AgentInputError: they do not fit; `check` finds that where they are written in a blueprint.
    """
    try:
        return AgentParams.model_validate(dict(given))
    except ValidationError as error:
        faults = "; ".join(
            f"params.{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_input=False)
        )
        raise AgentInputError(f"agent: {faults}") from None


def prompt_of(value: Any) -> str:
    """The prompt that an input is: a text itself, of an object with one text that text, and of anything else its JSON.

    Raises:
        AgentInputError: there is no input.
    """
    if isinstance(value, Mapping) and len(value) == 1:
        only = next(iter(value.values()))
        value = only if isinstance(only, str) else value
    if value is None or value == "":
        raise AgentInputError("the agent has no input: name one with `inputs`")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
