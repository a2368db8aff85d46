"""Routes of the conversations that agents keep between runs."""

from typing import Annotated

from fastapi import Path, Query, Request
from starlette.responses import Response

from flowcraft_sdk import Memory, MemoryInfo
from flowcraft_sdk.protocol.bounds import MOST_LISTED
from flowcraft_sdk.protocol.memory_scripts import LONGEST_ID

from .access import ADMIN, VIEW
from .answers import answer
from .openapi import routes
from .problems import documented
from .runs import PREFIX, client_of

router = routes(f"{PREFIX}/memories", tag="memories")

MemoryId = Annotated[str, Path(min_length=1, max_length=LONGEST_ID, description="Id of the memory: `NAME/KEY`.")]


@router.get("", dependencies=[VIEW], response_model=list[MemoryInfo], responses=documented(422))
async def list_memories(
    request: Request, limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="How many at most.")] = 100
) -> Response:
    """The conversations that agents keep, those first that are kept longest."""
    return answer(request, await client_of(request).admin.memories(limit=limit))


@router.get("/{memory_id:path}", dependencies=[VIEW], response_model=Memory, responses=documented(404))
async def read_memory(request: Request, memory_id: MemoryId) -> Response:
    """A conversation, with its messages."""
    return answer(request, await client_of(request).admin.memory(memory_id))


@router.delete("/{memory_id:path}", dependencies=[ADMIN], status_code=204, responses=documented(404))
async def delete_memory(request: Request, memory_id: MemoryId) -> Response:
    """Delete a conversation. An agent that runs now adds its turn to a new one when it completes."""
    await client_of(request).admin.delete_memory(memory_id)
    return Response(status_code=204)
