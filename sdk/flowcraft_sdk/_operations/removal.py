"""Removing an ended run at once, in place of waiting for retention."""

from flowcraft_sdk._operations.deployment import Deployment, keys_of, text
from flowcraft_sdk._operations.effects import Operation
from flowcraft_sdk._operations.tombstones import missing
from flowcraft_sdk.errors import RunExpiredError, RunStateError
from flowcraft_sdk.protocol import scripts

RUNS_A_CALL = 50


def delete(deployment: Deployment, run_id: str) -> Operation[bool]:
    """Remove an ended run with all runs below it; False if it had been removed before.

    Raises:
        RunStateError: it has not ended, a run below it has not, or it is a child run.
        RunNotFoundError: there never was such a run, as far as is known.
    """
    keys = yield from keys_of(deployment, run_id)
    begun = False
    while True:
        reply = yield scripts.delete_run(keys, run_id=run_id, limit=RUNS_A_CALL)
        code = text(reply[0])
        if code == "removed":
            return True
        if code == "missing":
            try:
                yield from missing(keys.gone, run_id)
            except RunExpiredError:
                return begun
        if code == "child":
            parent = text(reply[1])
            raise RunStateError(
                run_id, "child", f"run {run_id} is a child of {parent}: delete that one, with all below it"
            )
        if code == "active":
            status = text(reply[1])
            what = f"run {run_id} is {status}" if status else f"a run below {run_id} has not ended"
            raise RunStateError(run_id, status, f"{what}; cancel it, or delete it when it has ended")
        begun = True
