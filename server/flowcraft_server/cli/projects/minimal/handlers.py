"""What the nodes of the blueprints do."""

from flowcraft_sdk import NodeContext


def greet(ctx: NodeContext) -> str:
    """Greet the one that the node's input names."""
    return f"{ctx.params.get('greeting', 'Hello')} {ctx.input}"
