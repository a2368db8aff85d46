"""What is left of runs that retention removed."""

import math
from typing import NoReturn

from flowcraft_sdk._operations.effects import Operation, command
from flowcraft_sdk.errors import RunExpiredError, RunNotFoundError
from flowcraft_sdk.protocol.run_record import moment
from flowcraft_sdk.records import RunStatus

_STATUSES = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.TIMED_OUT)
_SECONDS = 2**32


def missing(gone: str, run_id: str) -> Operation[NoReturn]:
    """Say why there is no such run.

    Args:
        gone: name of the tombstones' key. A tombstone is one number: day of the removal, second of the end, how it ended.

    Raises:
        RunExpiredError: retention removed it.
        RunNotFoundError: nothing is known of it.
    """
    score = yield command("ZSCORE", gone, run_id)
    if score is None or not math.isfinite(float(score)):
        raise RunNotFoundError(run_id)
    ended, how = divmod(int(float(score)), len(_STATUSES))
    raise RunExpiredError(run_id, moment(ended % _SECONDS * 1000), _STATUSES[how])
