"""Handlers and blueprints that the blueprints of these tests use and call."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading.loader import Format, load_text
from flowcraft_server.blueprints.model import Blueprint, Diagnostic


class AddParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    n: int


class AskParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    template: str = Field(alias="promptTemplate")
    inputs: dict[str, str | list[str]] | None = None


class PickyParams(BaseModel):
    colour: str

    @field_validator("colour")
    @classmethod
    def check_colour(cls, value: str) -> str:
        if value == "crash":
            raise RuntimeError("the list of colours is gone")
        if value != "blue":
            raise ValueError("only blue will do")
        return value


HANDLERS = {
    "echo": HandlerSpec(),
    "add": HandlerSpec(params=AddParams),
    "route": HandlerSpec(actions=("yes", "no")),
    "ask": HandlerSpec(params=AskParams),
    "picky": HandlerSpec(params=PickyParams),
}


def read(text: str, *, format: Format = "yaml", default_id: str = "main") -> Blueprint:
    """The blueprint of a text that has no mistakes."""
    blueprint, diagnostics = load_text(text, f"{default_id}.{format}", default_id, format)
    assert not diagnostics, "\n".join(map(str, diagnostics))
    assert blueprint is not None
    return blueprint


CALLED = {
    "child": read(
        """
        id: child
        inputs: {topic: string, tone: {type: string, default: calm}}
        nodes: {summary: {uses: echo, inputs: topic}}
        """
    ),
    "back": read("id: back\nnodes: {again: {call: main, inputs: {topic: x, draft: x, order: x}}}"),
}


def problems_of(text: str, *, format: Format = "yaml", **options: Any) -> list[Diagnostic]:
    """All that loader and linter say of a text called `main`."""
    blueprint, diagnostics = load_text(text, f"main.{format}", "main", format)
    if blueprint is not None:
        arguments = {"handlers": HANDLERS, "blueprints": CALLED} | options
        diagnostics = [*diagnostics, *lint(blueprint, **arguments)]
    return diagnostics


def messages_of(text: str, **options: Any) -> list[str]:
    """What is shown of a text, without file, line and column."""
    return [str(diagnostic).split("   ", 1)[1] for diagnostic in problems_of(text, **options)]
