"""Webhooks in `flowcraft.yaml`: requests of other programs that start runs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from flowcraft_sdk._config.source_positions import Path as Place
from flowcraft_sdk.protocol.expressions import ExpressionError, compile_expression
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.blueprints.suggestions import did_you_mean

from .blueprint_cache import KeptBlueprints
from .quantities import Duration
from .sections import Section, mistake

SHORTEST_SECRET = 16
HOOK_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
READABLE = ("body", "headers", "query")
"""What expressions of a webhook may read."""


class HookSection(Section):
    """A webhook: a request to `/hooks/NAME` that is signed with its secret starts a run.

    Attributes:
        blueprint: Id of the blueprint.
        secret: What requests are signed with, 16 characters at least.
        scheme: How they are signed: `standard` is that of Standard Webhooks, `github` that of GitHub.
        tolerance: How old, or how far ahead, the time of a `standard` request may be.
        dedupe: An expression whose value is the same for requests that are to start one run; by default the id of the request.
        input: An expression that makes the start context of `body`, `headers` and `query`.
    """

    blueprint: str
    secret: SecretStr
    scheme: Literal["standard", "github"] = "standard"
    tolerance: Annotated[Duration, Field(ge=1, le=86_400)] = 300.0
    dedupe: str | None = None
    input: str = "body"

    @field_validator("secret")
    @classmethod
    def _is_long(cls, secret: SecretStr) -> SecretStr:
        if len(secret.get_secret_value()) < SHORTEST_SECRET:
            raise mistake(f"needs {SHORTEST_SECRET} characters at least; `openssl rand -hex 24` makes one")
        return secret

    @field_validator("dedupe", "input")
    @classmethod
    def _is_expression(cls, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            unknown = sorted(compile_expression(text).names - set(READABLE))
        except ExpressionError as error:
            raise mistake(f"column {error.column}: {error.message}") from None
        if unknown:
            raise mistake(f"'{unknown[0]}' is not there to be read; there are {', '.join(READABLE)}")
        return text


def check_names(hooks: Mapping[str, HookSection]) -> None:
    """Refuse names that no webhook can have.

    Raises:
        PydanticCustomError: there is one.
    """
    for name in hooks:
        if not HOOK_NAME.fullmatch(name):
            raise mistake("the name of a webhook is 1 to 64 of A-Z a-z 0-9 . _ -", at=name)


def unknown_blueprints(
    hooks: Mapping[str, HookSection], blueprints: Sequence[Blueprint], *, partial: bool = False
) -> Iterator[tuple[Place, str]]:
    """Webhooks whose blueprint there is not, each with its path in the file.

    Args:
        partial: there may be other blueprints: only what looks like a misspelt one is reported.
    """
    known = blueprints.ids if isinstance(blueprints, KeptBlueprints) else [blueprint.id for blueprint in blueprints]
    for name, section in hooks.items():
        if section.blueprint not in known:
            near = did_you_mean(section.blueprint, known)
            if near or not partial:
                yield ("hooks", name, "blueprint"), f"no blueprint '{section.blueprint}'{near}"
