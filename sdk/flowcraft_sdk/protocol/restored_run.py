"""What a run of a backup becomes that had not ended when the backup was made. Pure.

It is restored as cancelled, at the moment of the backup: nothing of it is run by itself. What it has done since is not in the
backup, and the deployment that it was in may still run it; so whether it goes on is for a person to decide, with a rerun.
"""

import json
import re
from collections.abc import Mapping

from flowcraft_sdk.records import RunStatus

DROPPED = ("live", "park", "stop", "dl", "todo", "tok", "mn", "kc", "by", "gu")
_DROPPED_PREFIXES = re.compile(r"(?:mq|m|t):")
_LIVE_NODE = re.compile(r"([RLTWP])\|(\d+)\|(\d+)\|(\d+)\|(\d+)")


def is_under_way(fields: Mapping[str, str]) -> bool:
    """Whether a run had not ended."""
    return not RunStatus(fields.get("st", "")).is_terminal


def as_cancelled(fields: Mapping[str, str], at_ms: int) -> tuple[dict[str, str], list[str]]:
    """The record of a run as if it had been cancelled at a moment, and the events that say so."""
    ended = max(0, at_ms - int(fields["cr"]))
    reason = f"restored from a backup, in which it was {fields['st']}: `flowcraft rerun --failed` continues it"
    made = {name: value for name, value in fields.items() if name not in DROPPED and not _DROPPED_PREFIXES.match(name)}
    events, cancelled = [f"X|{ended}||{reason}"], 0
    for name, value in fields.items():
        found = _LIVE_NODE.match(value) if name.startswith("n:") else None
        if found is None:
            if name.startswith("l:"):  # nothing of a loop is active any more
                parts = value.split("|")
                made[name] = "|".join([parts[0], "0", *parts[2:]]) if len(parts) > 1 else value
            continue
        letter, attempt, claims, crashes, since = found.groups()
        began, _, parked = fields.get(f"t:{name[2:]}", since if letter == "L" else "").partition("|")
        waited = int(parked or 0) + (max(0, ended - int(since)) if letter == "W" else 0)
        start = int(began or ended)
        made[name] = f"X|{attempt if began else 0}|{claims}|{crashes}|{start}|{max(ended, start)}" + (
            f"|{waited}" if waited and began else ""
        )
        events.append(f"x|{ended}|{name[2:]}|")
        cancelled += 1
    made["nx"] = str(int(fields.get("nx", "0")) + max(1, cancelled))
    made["st"], made["en"] = "cancelled", str(max(at_ms, int(fields["cr"])))
    made["cx"] = json.dumps({"reason": reason, "at": at_ms, "grace": 0})
    events.append(f"E|{ended}||cancelled")
    return made, [] if fields.get("h") == "off" else events
