"""A claim: a node that this process holds under a lease, with the inputs that came along."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from flowcraft_sdk.node import NodeCancelled
from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.lua_source import index_of, reader

_read_claim = reader(
    "claim",
    "claim",
    "run",
    "instance_id",
    "plan",
    "blueprint",
    "attempt",
    "fencing_token",
    "crashes",
    "iterations",
    "input_edge",
    "attached",
    "input_value",
    "delay",
)
_VALUES = index_of("claim", "claim", "values")
REPLY_CLAIM = index_of("claim", "outcome_reply", "claim")
REPLY_READY = index_of("claim", "outcome_reply", "ready")
"""Places in the reply to a call that hands in an outcome: the next claim, and how many nodes are ready."""

RESUMED = ("resume",)
"""What is attached to a node whose handler has suspended itself, once the nodes have ended that it had added."""

_ITEM = re.compile(r"^(.*)\[(\d+)\]$")


class Claim(NamedTuple):
    """What the claim scripts reply (see include/claim.lua).

    Attributes:
        fencing_token: `CLAIMS:CREATED`, for the calls about this claim: how often the node was claimed, and when its run
            was created. Another run that has the same id later does not accept it.
        claims: how often the node was claimed; grows with every claim.
        run_created: ms since the epoch.
        iterations: iteration of each loop around the node, outermost first.
        input_edge: which incoming edge brought the input, from 1; 0 for none.
        attached: the outcome of what the node waited for, if it did; None if its handler is called again for it.
        input_value: the value that the edge (or the batch) brought, as wire JSON.
        delay: ms since the node became ready.
        values: value of each field the plan says the node reads, as wire JSON or None.
    """

    run_id: str
    instance_id: str
    node_id: str
    item: int | None
    plan_hash: str
    blueprint_id: str
    attempt: int
    fencing_token: str
    claims: int
    run_created: int
    crashes: int
    iterations: tuple[int, ...]
    input_edge: int
    attached: tuple[str, ...] | None
    input_value: bytes | None
    delay: int
    values: tuple[bytes | None, ...]

    def check_incarnation(self, created: bytes | None) -> None:
        """Make sure that what is read is of the run that the claim is of.

        Args:
            created: field `cr` of the run's record, None if there is none any more.

        Raises:
            NodeCancelled: another run has its id by now.
        """
        if created is not None and self.run_created and int(created) != self.run_created:
            raise NodeCancelled(f"run {self.run_id} was removed, and another run has its id")

    @property
    def iteration(self) -> int:
        """Iteration of the innermost loop, 0 outside of loops."""
        return self.iterations[-1] if self.iterations else 0

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this node in this iteration, for calls to the outside."""
        suffix = "#" + ".".join(map(str, self.iterations)) if self.iterations else ""
        return f"{self.run_id}:{self.instance_id}{suffix}"


def parse_claim(reply: Sequence[Any]) -> Claim:
    """Read a claim from a script's reply."""
    (
        run_id,
        instance_id,
        plan_hash,
        blueprint_id,
        attempt,
        fencing_token,
        crashes,
        its,
        input_edge,
        attached,
        input_value,
        delay,
    ) = _read_claim(reply)
    instance_id = instance_id.decode()
    claims, _, created = fencing_token.partition(b":")
    item = _ITEM.match(instance_id) if instance_id[-1] == "]" else None
    fields = (  # in the order of the class, as many are made: to call it with names would take three times as long
        run_id.decode(),
        instance_id,
        item[1] if item else instance_id,
        int(item[2]) if item else None,
        plan_hash.decode(),
        blueprint_id.decode(),
        int(attempt),
        fencing_token.decode(),
        int(claims),
        int(created or 0),
        int(crashes),
        tuple(map(int, its.split(b"."))) if its else (),
        input_edge,
        _outcome(attached) if attached else None,
        input_value,
        delay,
        tuple(reply[_VALUES:]),
    )
    return tuple.__new__(Claim, fields)


def _outcome(attached: bytes) -> tuple[str, ...] | None:
    outcome = tuple(wire.loads(attached))
    return None if outcome == RESUMED else outcome
