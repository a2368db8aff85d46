"""Typed wrappers of the scripts that count concurrent runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import ScriptCall, call_of


@dataclass(frozen=True, slots=True)
class PlaceEntry:
    """A run as it stands among those that are counted.

    Attributes:
        created: when it was, in ms: another run may have its id later.
    """

    run_id: str
    created: str

    @classmethod
    def read(cls, entry: str) -> "PlaceEntry":
        """The entry `RUN|CREATED`."""
        run_id, _, created = entry.rpartition("|")
        return cls(run_id, created)

    def __str__(self) -> str:
        return f"{self.run_id}|{self.created}"


def ask_place(keys: Keys, entry: PlaceEntry, *, blueprint_id: str, key: str) -> ScriptCall:
    """Ask for a place for a run; `keys` are of the first partition."""
    return call_of("ask_place", keys, entry.run_id, entry.created, blueprint_id, key)


def leave_place(keys: Keys, entries: Sequence[PlaceEntry]) -> ScriptCall:
    """Give back the places of runs that have ended; `keys` are of the first partition."""
    return call_of("leave_place", keys, *map(str, entries))


def review_places(keys: Keys, *, count: int) -> ScriptCall:
    """Look at limits that runs wait for, in case they allow more than before; `keys` are of the first partition."""
    return call_of("review_places", keys, count)


def take_place(keys: Keys, entry: PlaceEntry) -> ScriptCall:
    """Begin a run that has got its place."""
    return call_of("take_place", keys, entry.run_id, entry.created)


def withdraw_run(keys: Keys, entry: PlaceEntry) -> ScriptCall:
    """Remove a run without a trace that was refused a place."""
    return call_of("withdraw_run", keys, entry.run_id, entry.created)


ALL = ("ask_place", "leave_place", "review_places", "take_place", "withdraw_run")
