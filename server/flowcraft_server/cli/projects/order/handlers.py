"""What the nodes of the blueprints do. Nothing here reaches a real service: put your own calls in."""

from typing import Any

from pydantic import BaseModel

from flowcraft_sdk import NodeContext, NodeResult, handler

PRICES = {"pen": 3, "book": 20, "desk": 400}


def price(ctx: NodeContext) -> int:
    """Look up the price of one item."""
    return PRICES[ctx.input]


class AssessParams(BaseModel):
    """Params of `assess`.

    Attributes:
        limit: The largest total that needs no approval.
    """

    limit: int = 100


@handler(actions=["small", "large"], params=AssessParams)
def assess(ctx: NodeContext) -> NodeResult:
    """Add the prices up, and say whether the total needs an approval."""
    total = sum(ctx.input)
    limit = AssessParams.model_validate(ctx.params).limit
    return NodeResult(total, action="small" if total <= limit else "large")


def charge(ctx: NodeContext) -> dict[str, Any]:
    """Charge the customer. The key makes a repeated call harmless: a payment service takes it once."""
    return {"charged": ctx.input["total"], "customer": ctx.input["customer"], "key": ctx.idempotency_key}


def ship(ctx: NodeContext) -> str:
    """Send the parcel."""
    return f"parcel for {ctx.input}"


def refuse(ctx: NodeContext) -> str:
    """Write to the customer that the order was refused."""
    return f"refused: {ctx.input}"
