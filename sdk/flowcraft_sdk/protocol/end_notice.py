"""The payload on the channel of a run's end: how it ended, and with a small run its whole record."""

import json

from flowcraft_sdk.records import RunStatus


def parse_end_notice(payload: str) -> tuple[RunStatus, dict[str, str] | None]:
    """The state in which the run ended, and all fields of its hash, or None where one has to read them.

    Args:
        payload: the state, alone or followed by a space and a JSON list of fields and values, as `notify_end` makes it.
    """
    state, _, record = payload.partition(" ")
    if not record:
        return RunStatus(state), None
    flat = json.loads(record)
    return RunStatus(state), dict(zip(flat[::2], flat[1::2], strict=True))
