"""Nodes that this process has claimed without knowing, as the reply was lost: they are handed back before their lease runs out.

Whenever a call that may claim was not answered, its partition is noted. Once Redis answers again, the leases there are looked
through for nodes in this worker's name that it does not hold.
"""

import re
from collections.abc import Sequence
from typing import Any

import redis
from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_server.store.link import StoreLink, StoreUnavailable
from flowcraft_server.worker.in_flight import InFlightAttempts

CLAIMING_SCRIPTS = frozenset(("claim", "complete", "fail", "start_child"))

SETTLED = 1.0
"""Seconds after the last call that was not answered, and after a claim, from which on a claim's reply counts as lost."""

MOST_LEASES = 2000
"""That are looked at in a partition. What is behind them waits for its lease to run out."""

_RUNNING = re.compile(rb"L\|\d+\|(\d+)\|\d+\|(\d+)\|([^!|]+)$")
"""State of a running node: its claims, when the last one was, and its worker. One that is run apart is left alone."""


class LostClaims:
    """Finds claims whose replies were lost.

    Args:
        worker_id: of this process.
        held: what it knows that it has claimed.
    """

    def __init__(self, link: StoreLink, partitions: Partitions, worker_id: str, held: InFlightAttempts) -> None:
        self._link = link
        self._home = partitions.home
        self._partitions = {keys.clock: keys for keys in partitions.all}
        self._worker_id = worker_id.encode()
        self._held = held
        self._noted: dict[str, float] = {}

    def note(self, calls: Sequence[ScriptCall]) -> None:
        """Some calls were not answered: they may have been applied."""
        for call in calls:
            if call.script.name in CLAIMING_SCRIPTS:
                self._noted[call.keys[0]] = clock()

    def look(self) -> int:
        """Hand back what was claimed without this process knowing; returns how many nodes.

        Where Redis is away a later look does it.
        """
        settled = [(place, at) for place, at in list(self._noted.items()) if clock() - at >= SETTLED]
        handed_back = 0
        for place, at in settled:
            try:
                handed_back += self._hand_back(self._partitions[place])
            except (StoreUnavailable, redis.exceptions.RedisError):
                self._noted[place] = clock()
            if self._noted.get(place) == at:
                del self._noted[place]
        if handed_back:
            logger.warning("handed back {} nodes whose claims were applied while their replies were lost", handed_back)
        return handed_back

    def _hand_back(self, keys: Keys) -> int:
        (seconds, micros), offset, members = self._link.read_all(
            [("TIME",), ("GET", self._home.clock), ("ZRANGE", keys.leases, 0, MOST_LEASES - 1)]
        )
        now = int(seconds) * 1000 + int(micros) / 1000 + int(offset or 0)
        instances = [member.decode("utf-8", "replace").partition("|")[::2] for member in members]
        states = self._link.read_each(
            [("HMGET", keys.run(run_id), f"n:{instance_id}", "cr") for run_id, instance_id in instances]
        )
        calls = []
        for (run_id, instance_id), state in zip(instances, states, strict=True):
            token = self._lost_token(run_id, instance_id, state, now)
            if token is not None:
                calls.append(scripts.release(keys, run_id=run_id, instance_id=instance_id, fencing_token=token))
        replies = self._link.send(calls) if calls else []
        return sum(isinstance(reply, list) and reply[0] == b"ok" for reply in replies)

    def _lost_token(self, run_id: str, instance_id: str, state: Any, now: float) -> str | None:
        """The fencing token of a claim of ours that this process does not hold; None for any other node."""
        if not isinstance(state, list) or None in state:
            return None
        running = _RUNNING.match(state[0])
        if running is None or running[3] != self._worker_id:
            return None
        created = float(state[1])
        if now - created - int(running[2]) < SETTLED * 1000:
            return None
        token, attempt = f"{int(running[1])}:{created:.0f}", self._held.get(run_id, instance_id)
        return None if attempt is not None and attempt.claim.fencing_token == token else token
