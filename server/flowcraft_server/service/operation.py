"""What lets a running deployment be operated: it reloads, drains, and says in Redis that it is there."""

from collections.abc import Sequence
from typing import Any

from .components import Component, WorkerComponent
from .deployment import Deployment
from .publishing import KeptPublished
from .reloading import Reloader
from .server_record import ServerRecord
from .stopping import StopRequests
from .supervisor import Supervisor


class Operation:
    """Reloading, and the record of the process; a worker that a supervisor has started has neither.

    Args:
        deployment: as it is started.
        client: of Redis; its values are text.
        kept: what is published; None where others publish.
        workers: the components that run nodes.
    """

    def __init__(
        self,
        deployment: Deployment,
        client: Any,
        kept: KeptPublished | None,
        workers: Sequence[Component],
        stop: StopRequests,
    ) -> None:
        self._deployment = deployment
        self._reloader: Reloader | None = None
        self._record: ServerRecord | None = None
        if deployment.supervised:
            return
        supervisor = next((each for each in workers if isinstance(each, Supervisor)), None)
        served = [each.worker_id for each in workers if isinstance(each, WorkerComponent)]
        develops = deployment.command == "dev"
        mode = deployment.settings.blueprints.reload
        watch = mode == "watch" or (mode == "auto" and develops)
        self._reloader = Reloader(
            deployment, client, kept, supervisor, stop, watch=watch and kept is not None, restarts=develops and watch
        )
        self._record = ServerRecord(
            client,
            deployment.partitions.home,
            deployment.id,
            deployment.command,
            stop,
            self._reloader,
            lambda: served if supervisor is None else supervisor.workers,
            supervisor,
        )

    @property
    def components(self) -> list[Component]:
        """Its components."""
        return [part for part in (self._record, self._reloader) if part is not None]

    @property
    def deployment(self) -> Deployment:
        """The deployment as it is now."""
        return self._deployment if self._reloader is None else self._reloader.deployment

    def leave(self, finished: bool) -> None:
        """All has stopped. To be called while Redis can still be reached.

        Args:
            finished: whether all that ran has finished.
        """
        if self._record is not None:
            self._record.leave(finished)
