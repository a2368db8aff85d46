"""RedisCondition on purpose, from one seed: replies lost after the call was applied, wake-up messages lost and doubled, leases that
run out under their workers."""

import os
import random
import secrets
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Self

import pytest

from flowcraft_sdk.protocol import scripts
from flowcraft_server.store.link import StoreLink, StoreUnavailable
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker import worker
from flowcraft_server.worker.settings import WorkerSettings

LOST_REPLIES = 0.1
LEASE = 1.0
TICK = 0.05


class Unreliable:
    """Makes trouble for the workers of an environment that is opened inside of it."""

    def __init__(self) -> None:
        self.seed = int(os.environ.get("FLOWCRAFT_REDELIVERY_SEED") or secrets.randbits(32))
        self.settings = WorkerSettings(threads=4, lease=LEASE, heartbeat=LEASE / 4, max_crashes=10_000)
        self.made: Counter[str] = Counter()
        self._random = random.Random(self.seed)
        self._patch = pytest.MonkeyPatch()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        trouble = self

        class LossyLink(StoreLink):
            """Applies calls, and now and then says that it does not know."""

            def _exchange(self, commands: list[tuple[Any, ...]], *, asleep: bool = False) -> list[Any]:
                replies = super()._exchange(commands, asleep=asleep)
                if not trouble._over.is_set() and trouble._random.random() < LOST_REPLIES:
                    trouble.made["lost replies"] += 1
                    raise StoreUnavailable("the reply is lost")
                return replies

        self._patch.setattr(worker, "StoreLink", LossyLink)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._patch.undo()

    def begin(self, env: TestEnvironment) -> None:
        """Start to meddle with the environment's messages and leases."""
        self._thread = threading.Thread(target=self._meddle, args=[env], daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Leave the workers in peace."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def happened(self) -> bool:
        """Whether each kind of trouble was made."""
        return all(self.made[kind] for kind in ("lost replies", "doubled messages", "lost messages", "expired leases"))

    def _meddle(self, env: TestEnvironment) -> None:
        while not self._over.wait(TICK):
            what = self._random.random()
            message = self._taken(env)
            if message is not None and what < 0.6:
                self._put_twice(env, message)
                self.made["doubled messages"] += 1
            elif message is not None:
                self.made["lost messages"] += 1
            if what < 0.2:  # every lease that runs now is over, whatever its worker does
                for keys in env.partitions.all:
                    env.link.call(scripts.advance(keys, ms=int(LEASE * 1000) + 1, keep_leases=False))
                    env.link.call(scripts.sweep(keys, limit=100, max_crashes=10_000, grace_ms=1000, queues="default"))
                self.made["expired leases"] += 1

    def _taken(self, env: TestEnvironment) -> Any:
        """A wake-up message that is kept from the workers: of the list, or with several partitions of a worker's own queue."""
        if env.partitions.count == 1:
            return env.link.redis.rpop(env.keys.wake("default"))
        chosen = self._random.choice(env.workers)._consumer.huey.wake_ups
        return None if chosen.wait(0.0) is None else chosen

    @staticmethod
    def _put_twice(env: TestEnvironment, message: Any) -> None:
        if env.partitions.count == 1:
            env.link.redis.lpush(env.keys.wake("default"), message, message)
        else:
            message.notify(2)
