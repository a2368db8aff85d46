"""Administration of a deployment: dead letters, and the search for stuck runs."""

from typing import TYPE_CHECKING, Any

from flowcraft_sdk._client.handle import Handle
from flowcraft_sdk._operations import dead_letters, doctor
from flowcraft_sdk.records import DeadLetter, Defect

if TYPE_CHECKING:
    from flowcraft_sdk._client.client import Client


class Admin:
    """Administration of a deployment: `client.admin`."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def dead_letters(self, *, limit: int = 100) -> list[DeadLetter]:
        """List the nodes that were given up because their worker was lost again and again, the newest first.

        Args:
            limit: How many at most.

        Returns:
            The dead letters.
        """
        return self._client.driver.run(dead_letters.dead_letters(self._client.deployment, limit))

    def replay(self, run_id: str) -> Handle[Any]:
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
        replayed = self._client.driver.run(dead_letters.replay(self._client.deployment, run_id))
        return Handle(self._client, replayed.run_id, None, attached=replayed.attached)

    def delete_dead_letters(self, run_id: str, node_id: str | None = None) -> int:
        """Delete the dead letters of a run, or of one of its nodes. The run stays as it is.

        Args:
            run_id: Id of the run.
            node_id: Id of the node; None for all nodes of the run.

        Returns:
            How many were deleted.

        Raises:
            DeadLetterNotFoundError: There is none.
        """
        return self._client.driver.run(dead_letters.delete_dead_letters(self._client.deployment, run_id, node_id))

    def examine(self, run_id: str | None = None, *, fix: bool = False) -> list[Defect]:
        """Look for stuck runs and left-over entries.

        Args:
            run_id: Only this run; by default all live runs, and all entries of queues, leases, timers and indexes.
            fix: Whether to repair what is safe to repair.

        Returns:
            The defects, with what was done about each.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return self._client.driver.run(doctor.examine(self._client.deployment, run_id, fix))
