"""What the nodes of the blueprints do: two of them ask a language model."""

from flowcraft_sdk import AsyncNodeContext, NodeContext, NodeResult, handler


@handler(actions=["routine", "urgent"])
async def classify(ctx: AsyncNodeContext) -> NodeResult:
    """Let the model say how urgent a mail is. A reply that is neither word fails the node, which is then tried again."""
    reply = await ctx.llm.complete(f"Is this mail routine or urgent? Answer with one word.\n\n{ctx.input}")
    verdict = reply.strip().strip(".").lower()
    if verdict not in ("routine", "urgent"):
        raise ValueError(f"expected routine or urgent, the model replied {verdict[:80]!r}")
    return NodeResult(verdict, action=verdict)


async def draft(ctx: AsyncNodeContext) -> str:
    """Let the model write an answer."""
    return await ctx.llm.complete(f"Write a short and friendly answer to this mail.\n\n{ctx.input}")


def escalate(ctx: NodeContext) -> str:
    """Call an engineer. Put the call of your own pager in."""
    return f"called {ctx.params['whom']}"
