"""An MCP server for tests, spoken to by its input and output."""

import os
import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer

server = MCPServer("shop")
calls = Path(sys.argv[1])


@server.tool()
def price(article: str) -> int:
    """What an article costs."""
    with calls.open("a") as file:
        file.write(f"price {article}\n")
    return len(article) if article != "gold" else int("no number")


@server.tool()
def order(article: str) -> str:
    """Order an article."""
    with calls.open("a") as file:
        file.write(f"order {article}\n")
    return f"ordered by {os.environ.get('BUYER')}, {os.environ.get('HOME_OF_THE_WORKER')}"


@server.tool()
def drop_all() -> str:
    """Not offered."""
    return "gone"


server.run()
