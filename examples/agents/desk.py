"""Tools that the agents of these examples call. In place of a shop's systems they have a few lines of data."""

from pydantic import BaseModel, Field

from flowcraft_sdk import NodeContext, handler

ORDERS = {
    "A-17": {"item": "kettle", "price": 39.0, "state": "delivered"},
    "A-18": {"item": "lamp", "price": 120.0, "state": "on its way"},
}


class OrderNumber(BaseModel):
    """What `find_order` takes."""

    number: str = Field(description="The order's number, such as A-17.", max_length=20)


class Refund(BaseModel):
    """What `refund` takes."""

    number: str = Field(description="The order's number.", max_length=20)
    amount: float = Field(gt=0, description="How much is paid back, in euros.")


@handler(arguments=OrderNumber)
def find_order(ctx: NodeContext) -> dict[str, object]:
    """Look up an order by its number."""
    number = ctx.input["number"]
    if number not in ORDERS:
        raise LookupError(f"there is no order {number}")
    return {"number": number, **ORDERS[number]}


@handler(arguments=Refund)
def refund(ctx: NodeContext) -> str:
    """Pay money back to the customer of an order."""
    # A payment service takes ctx.idempotency_key: the call of an attempt that was cut off is not paid twice.
    return f"{ctx.input['amount']:.2f} euros of order {ctx.input['number']} were paid back"


@handler
def publish(ctx: NodeContext) -> str:
    """Hand a finished text over."""
    text: str = ctx.input
    return text.strip()
