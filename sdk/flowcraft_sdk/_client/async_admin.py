"""Administration of a deployment: dead letters, and the search for stuck runs; for asyncio."""

from typing import TYPE_CHECKING, Any

from flowcraft_sdk._client.async_handle import AsyncHandle
from flowcraft_sdk._operations import dead_letters, doctor
from flowcraft_sdk.records import DeadLetter, Defect

if TYPE_CHECKING:
    from flowcraft_sdk._client.async_client import AsyncClient


class AsyncAdmin:
    """Administration of a deployment: `client.admin`."""

    def __init__(self, client: "AsyncClient") -> None:
        self._client = client

    async def dead_letters(self, *, limit: int = 100) -> list[DeadLetter]:
        """List the nodes that were given up because their worker was lost again and again, the newest first.

        Args:
            limit: How many at most.

        Returns:
            The dead letters.
        """
        return await self._client.driver.run(dead_letters.dead_letters(self._client.deployment, limit))

    async def replay(self, run_id: str) -> AsyncHandle[Any]:
        """Do the run of a dead letter again as a new run, and delete its dead letters.

        The new run has the blueprint, version, start context, tags and memo of the old one, which stays as it is, and the id
        `RUN~replay`; repeating the call starts nothing twice. Of a child run, the outermost parent is done again.

        Args:
            run_id: Id of the run.

        Returns:
            A handle to the new run.

        Raises:
            DeadLetterNotFoundError: The run has no dead letter.
            RunStateError: The run is still running.
            RunNotFoundError: There is no such run.
            BlueprintNotFoundError: Its plan is gone.
        """
        replayed = await self._client.driver.run(dead_letters.replay(self._client.deployment, run_id))
        return AsyncHandle(self._client, replayed.run_id, None, attached=replayed.attached)

    async def delete_dead_letters(self, run_id: str, node_id: str | None = None) -> int:
        """Delete the dead letters of a run, or of one of its nodes. The run stays as it is.

        Args:
            run_id: Id of the run.
            node_id: Id of the node; None for all nodes of the run.

        Returns:
            How many were deleted.

        Raises:
            DeadLetterNotFoundError: There is none.
        """
        return await self._client.driver.run(dead_letters.delete_dead_letters(self._client.deployment, run_id, node_id))

    async def examine(self, run_id: str | None = None, *, fix: bool = False) -> list[Defect]:
        """Look for stuck runs and left-over entries.

        Args:
            run_id: Only this run; by default all live runs, and all entries of queues, leases, timers and indexes.
            fix: Whether to repair what is safe to repair.

        Returns:
            The defects, with what was done about each.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return await self._client.driver.run(doctor.examine(self._client.deployment, run_id, fix))
