"""The handlers of registry.py as functions that a deployment's file can name."""

from typing import Any

from flowcraft_sdk import NodeContext, handler
from flowcraft_sdk.node import HandlerSpec
from tests.unit.blueprints.registry import HANDLERS


def _function(spec: HandlerSpec) -> Any:
    @handler(actions=spec.actions, params=spec.params)
    def declared(ctx: NodeContext) -> Any:
        return ctx.input

    return declared


echo, add, route, ask, picky = (_function(HANDLERS[name]) for name in ("echo", "add", "route", "ask", "picky"))
