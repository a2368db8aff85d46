"""How many runs there may be at once: of a blueprint by its `limits`, of a deployment by `limits` of `flowcraft.yaml`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

Overflow = Literal["queue", "reject", "cancelPrevious"]
OVERFLOWS: tuple[Overflow, ...] = get_args(Overflow)
MOST_CONCURRENT = 1_000_000_000


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Limits of concurrent runs.

    Attributes:
        concurrent_runs: runs at once; None for any number.
        concurrent_runs_per_key: runs at once that were started with the same key; None for any number.
        overflow: what becomes of a run that is one too many: it waits, is refused, or those before it are cancelled.
    """

    concurrent_runs: int | None = None
    concurrent_runs_per_key: int | None = None
    overflow: Overflow = "queue"

    def stored(self) -> str:
        """The form that places.lua reads; '' if nothing is limited."""
        if self.concurrent_runs is None and self.concurrent_runs_per_key is None:
            return ""
        runs, per_key = ("" if most is None else most for most in (self.concurrent_runs, self.concurrent_runs_per_key))
        return f"{runs}|{per_key}|{self.overflow}"

    def to_plain(self) -> dict[str, Any]:
        """The limits in the words of the JSON form."""
        values = {"concurrentRuns": self.concurrent_runs, "concurrentRunsPerKey": self.concurrent_runs_per_key}
        plain: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        return plain if self.overflow == "queue" else {**plain, "overflow": self.overflow}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `to_plain`."""
        return cls(plain.get("concurrentRuns"), plain.get("concurrentRunsPerKey"), plain.get("overflow", "queue"))
