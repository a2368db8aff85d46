"""Schedules of a deployment: listing, pausing and triggering them."""

from collections.abc import Sequence
from typing import Any

from flowcraft_sdk._client.connection import Connection
from flowcraft_sdk._client.handle import Handle
from flowcraft_sdk.protocol.schedule_record import ScheduleInfo


class Schedules:
    """Schedules of a deployment: `client.schedules`. They are written in its `flowcraft.yaml`."""

    def __init__(self, client: Connection) -> None:
        self._client = client

    def list(self) -> Sequence[ScheduleInfo]:
        """List the schedules, by their ids.

        Returns:
            Each with its state and its next times.
        """
        return self._client.driver.run(self._client.operations.list_schedules())

    def get(self, schedule_id: str) -> ScheduleInfo:
        """Read a schedule.

        Args:
            schedule_id: Id of the schedule.

        Returns:
            It, with its state and its next times.

        Raises:
            ScheduleNotFoundError: There is no such schedule.
        """
        return self._client.driver.run(self._client.operations.get_schedule(schedule_id))

    def pause(self, schedule_id: str) -> None:
        """Have a schedule start nothing until it is resumed. Runs that it has started go on; a tick that waits is dropped.

        Args:
            schedule_id: Id of the schedule.

        Raises:
            ScheduleNotFoundError: There is no such schedule.
        """
        self._client.driver.run(self._client.operations.change_schedule(schedule_id, "pause"))

    def resume(self, schedule_id: str) -> None:
        """Have a paused schedule go on. Ticks in the time for which it was paused are not made up for.

        Args:
            schedule_id: Id of the schedule.

        Raises:
            ScheduleNotFoundError: There is no such schedule.
        """
        self._client.driver.run(self._client.operations.change_schedule(schedule_id, "resume"))

    def trigger(self, schedule_id: str) -> Handle[Any]:
        """Start a run as a tick would, now: also while the schedule is paused, or the run of a tick goes on.

        Args:
            schedule_id: Id of the schedule.

        Returns:
            A handle to the run.

        Raises:
            ScheduleNotFoundError: There is no such schedule.
            BlueprintNotFoundError: Its blueprint is not published.
            InvalidInputError: Its input does not fit the blueprint that is published now.
        """
        run_id = self._client.driver.run(self._client.operations.trigger_schedule(schedule_id))
        return Handle(self._client, run_id, None)

    def delete(self, schedule_id: str) -> None:
        """Remove a schedule that no file has any more. One that a file has is there again when a server with it starts.

        Args:
            schedule_id: Id of the schedule.

        Raises:
            ScheduleNotFoundError: There is no such schedule.
        """
        self._client.driver.run(self._client.operations.change_schedule(schedule_id, "delete"))
