"""The record of a server process in Redis, and the requests that it takes there: reload and drain."""

import json
import os
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis
from loguru import logger

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.worker.background.periodic import Periodic

from .reloading import Reloader, ReloadReport
from .stopping import StopRequests
from .supervisor import Supervisor

PAUSE = 0.5
"""Seconds between two looks for requests."""

KEPT = 60
"""Seconds for which the record stays when the process does not renew it."""

ANSWERS_KEPT = 3600
MOST_REMEMBERED = 1_000


class ServerRecord:
    """A component that keeps the record of this process, and passes on what it is asked to do.

    Args:
        client: of Redis; its values are text.
        keys: of the first partition.
        deployment: `host:file`.
        command: `dev`, `run` or `worker`.
        workers: ids of its workers.
        supervisor: of its worker processes; None for a worker in this process.
    """

    def __init__(
        self,
        client: Any,
        keys: Keys,
        deployment: str,
        command: str,
        stop: StopRequests,
        reloader: Reloader,
        workers: Callable[[], Sequence[str]],
        supervisor: Supervisor | None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._about = {"host": socket.gethostname(), "pid": os.getpid(), "deployment": deployment, "command": command}
        self._stop_requests = stop
        self._reloader = reloader
        self._workers = workers
        self._supervisor = supervisor
        self._id = secrets.token_hex(6)
        self._seen: deque[str] = deque(maxlen=MOST_REMEMBERED)
        self._draining: list[str] = []
        self._leaving: dict[str, str] = {}
        self._stopping = threading.Event()
        self._thread = Periodic("server requests", self.step, self._stopping)

    def start(self) -> None:
        """Write the record, and take requests from now on."""
        self._thread.start()

    def health(self) -> Sequence[str]:
        """Start its thread again if it has died."""
        return ["the thread for requests had died and was started again"] if self._thread.restart_if_dead() else ()

    def drain(self, deadline: float) -> bool:
        """It is there until the end. See `Component`."""
        return True

    def stop(self) -> bool:
        """Take no more requests; `leave` follows when all has stopped."""
        self._stopping.set()
        self._thread.wake()
        self._thread.join(2.0)
        return True

    def leave(self, finished: bool) -> None:
        """Remove the record, and answer the requests for this end."""
        line = "drained: all that ran has finished" if finished else "stopped: what had not finished was handed back"
        try:
            for request_id in self._draining:
                self._answer(request_id, True, finished, [line])
            self._client.zrem(self._keys.servers, self._id)
            self._client.delete(self._keys.server(self._id), self._keys.requests(self._id))
        except (redis.exceptions.RedisError, OSError) as error:
            logger.debug("could not sign off: {}", error)

    def step(self) -> float:
        """Renew the record and look for requests; returns the pause in seconds."""
        keys, record = self._keys, self._keys.server(self._id)
        seconds, micros = self._client.time()
        now = int(seconds) * 1000 + int(micros) // 1000 + int(self._client.get(keys.clock) or 0)
        pipe = self._client.pipeline(transaction=False)
        pipe.zadd(keys.servers, {self._id: now})
        pipe.zremrangebyscore(keys.servers, "-inf", now - 10 * KEPT * 1000)
        pipe.hset(record, mapping={**self._about, **self._state()})
        pipe.expire(record, KEPT)
        pipe.hgetall(keys.requests(self._id))
        requests = pipe.execute()[-1]
        for request_id, raw in requests.items():
            self._take(request_id, raw)
            self._client.hdel(keys.requests(self._id), request_id)
        for request_id, worker in list(self._leaving.items()):
            if self._supervisor is None or self._supervisor.has_left(worker):
                self._answer(request_id, True, True, [f"worker {worker} has ended"])
                del self._leaving[request_id]
        return PAUSE

    def _state(self) -> Mapping[str, str]:
        return {
            "state": "draining" if self._stop_requests.drain else "serving",
            "workers": json.dumps(list(self._workers())),
            "mistakes": json.dumps(self._reloader.mistakes),
        }

    def _take(self, request_id: str, raw: str) -> None:
        if request_id in self._seen:  # sent again, as its reply was lost
            return None
        self._seen.append(request_id)
        try:
            request = json.loads(raw)
            what, worker = request["what"], request.get("worker")
        except (ValueError, LookupError, TypeError, AttributeError):
            return self._answer(request_id, True, False, ["this is no request that this release knows"])
        if what == "reload":
            return self._reloader.request(
                "asked for",
                lambda report: self._answer_reload(request_id, report),
                restart_workers=bool(request.get("restartWorkers")),
            )
        if what != "drain":
            return self._answer(request_id, True, False, [f"this release knows no request '{what}'"])
        workers = list(self._workers())
        if worker is not None and worker not in workers:
            return self._answer(request_id, True, False, [f"there is no worker '{worker}' here any more"])
        if worker is not None and self._supervisor is not None and len(workers) > 1:
            self._leaving[request_id] = worker
            self._supervisor.drain_worker(worker)
            return self._answer(
                request_id, False, True, [f"worker {worker} takes no more work and finishes what it runs"]
            )
        self._draining.append(request_id)
        self._answer(request_id, False, True, ["draining: no more work is taken, what runs is finished"])
        if not self._stop_requests.drain:
            self._stop_requests.request()
        return None

    def _answer_reload(self, request_id: str, report: ReloadReport) -> None:
        self._client.hset(self._keys.server(self._id), mapping=dict(self._state()))  # first: it can be read afterwards
        self._answer(request_id, True, report.ok, report.lines())

    def _answer(self, request_id: str, done: bool, ok: bool, lines: Sequence[str]) -> None:
        place = self._keys.answers(request_id)
        pipe = self._client.pipeline(transaction=False)
        pipe.hset(place, self._id, json.dumps({"done": done, "ok": ok, "lines": list(lines)}))
        pipe.expire(place, ANSWERS_KEPT)
        pipe.execute()
