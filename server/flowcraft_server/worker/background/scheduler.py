"""Starts the runs of schedules when their ticks are due. Every process has a scheduler; none is the leader.

A tick is started by the script `start`, which notes in the same commit that it was: however many processes find it due at the
same time, and whichever of them die, it has one run.
"""

import json
from typing import Any

import redis
from loguru import logger

from flowcraft_sdk._operations import runs
from flowcraft_sdk._operations.deployment import Deployment, server_ms
from flowcraft_sdk._operations.schedules import run_tags
from flowcraft_sdk._operations.start import start_scheduled
from flowcraft_sdk._transport.redis_errors import condition_of
from flowcraft_sdk.errors import FlowcraftError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.run_record import moment
from flowcraft_server.schedules.definition import Look, Schedule
from flowcraft_server.store.link import StoreLink, StoreUnavailable, text_of
from flowcraft_server.store.operations import run_operation
from flowcraft_server.worker.settings import WorkerSettings

LONGEST_PAUSE = 1.0
"""Seconds between two looks, in case a notification that a schedule has changed is lost."""

LONGEST_PAUSE_WITHOUT = 5.0
"""The same in a deployment without schedules."""

LOOKED_AT_ONCE = 100
RETRY_PAUSE = 5.0
"""Seconds after which a tick whose run could not be started is tried again."""

BROKEN_PAUSE = 60.0
"""Seconds for which a schedule is left alone that cannot be read."""

NEW_ERROR = 2
"""What the script answers if the same was not noted before."""

LONGEST_ERROR = 500
"""Characters."""


class Scheduler:
    """Looks at the schedules that are due, in all partitions."""

    def __init__(self, link: StoreLink, partitions: Partitions, settings: WorkerSettings) -> None:
        self._link = link
        self._partitions = partitions
        self._deployment = Deployment(partitions.home, 0.0, settings.max_value, partitions=partitions)
        self._left_alone: dict[str, float] = {}
        self._reads: list[tuple[Any, ...]] = [("TIME",), ("GET", partitions.home.clock)]
        self._reads += [("ZRANGE", keys.schedules, 0, LOOKED_AT_ONCE - 1, "WITHSCORES") for keys in partitions.all]

    def step(self) -> float:
        """Deal with what is due; returns the pause in seconds."""
        time, offset, *replies = self._link.read_each(self._reads)
        failure = next((reply for reply in (time, offset, *replies) if isinstance(reply, Exception)), None)
        if isinstance(time, Exception) or isinstance(offset, Exception):
            raise failure or RuntimeError
        seconds, micros = time
        now = int(seconds) * 1000 + int(micros) // 1000 + int(offset or 0)
        pause, due = LONGEST_PAUSE if any(replies) else LONGEST_PAUSE_WITHOUT, False
        for keys, reply in zip(self._partitions.all, replies, strict=True):
            if isinstance(reply, Exception):
                continue
            for name, score in zip(reply[::2], reply[1::2], strict=True):
                schedule_id = text_of(name)
                if self._left_alone.get(schedule_id, 0.0) > clock():
                    continue
                if float(score) > now:
                    pause = min(pause, (float(score) - now) / 1000 + 0.001)
                    break
                due = True
                self._deal_with(keys, schedule_id, now)
        if failure is not None and not due:
            raise failure
        return 0.0 if due else pause

    def _deal_with(self, keys: Keys, schedule_id: str, now: int) -> None:
        """Look at a schedule, whatever is wrong with it: the others go on."""
        try:
            fields = {text_of(k): text_of(v) for k, v in self._link.read_hash(keys.schedule(schedule_id)).items()}
            if "def" not in fields:
                self._note(keys, schedule_id, 0, Look(None, None, 0), None, [])
                return
            schedule, revision = Schedule.from_json(schedule_id, fields["def"]), int(fields["rev"])
            if "queued" in fields:
                self._start(keys, schedule, revision, int(fields["queued"]), {"queued": True})
                fields = {text_of(k): text_of(v) for k, v in self._link.read_hash(keys.schedule(schedule_id)).items()}
                revision = int(fields["rev"])
            look = schedule.look(int(fields["handled"]), now)
            due, following = schedule.following(look.handled)
            if look.tick is None:
                self._note(keys, schedule_id, revision, look, due, following)
                return
            about = {"due": due, "following": json.dumps(following), "missed": look.missed}
            self._start(keys, schedule, revision, look.tick, about)
        except StoreUnavailable:
            raise
        except (ValueError, KeyError, redis.exceptions.ResponseError) as error:
            if isinstance(error, redis.exceptions.RedisError) and condition_of(error) is not None:
                raise  # Redis refuses for now, and not because of what is written there
            self._left_alone[schedule_id] = clock() + BROKEN_PAUSE
            logger.error("schedule '{}' cannot be looked at, the others go on: {}", schedule_id, error)

    def _note(
        self, keys: Keys, schedule_id: str, revision: int, look: Look, due: int | None, following: list[int]
    ) -> None:
        noted = self._link.call(
            scripts.note_schedule(
                keys,
                schedule_id=schedule_id,
                revision=revision,
                what="looked" if look.missed is None else "missed",
                tick=look.missed or 0,
                text=str(look.handled),
                following_json=json.dumps(following),
                due_ms=due,
            )
        )
        if noted and look.missed is not None:
            logger.warning("schedule '{}': it is too late for the ticks since {}", schedule_id, moment(look.missed))

    def _start(self, keys: Keys, schedule: Schedule, revision: int, tick: int, about: dict[str, Any]) -> None:
        """Start the run of a tick, unless another process has, or the run of an earlier tick is in the way."""
        words = {"id": schedule.id, "tick": tick, "revision": revision, "overlap": schedule.overlap, **about}
        run_id = schedule.run_id(tick)
        try:
            operation = start_scheduled(
                self._deployment,
                {name: value for name, value in words.items() if value is not None},
                schedule.blueprint,
                schedule.input,
                run_id,
                run_tags(schedule.id, schedule.tags),
                schedule.priority,
            )
            code, *rest = run_operation(self._link, operation)
        except FlowcraftError as error:
            self._note_failed(keys, schedule, revision, tick, str(error))
            return
        if code == b"started":
            logger.info("schedule '{}': started run {}", schedule.id, run_id)
            return
        if code != b"tick":
            self._note_failed(keys, schedule, revision, tick, f"its start is refused: {text_of(code)}")
            return
        what = text_of(rest[0])
        if what == "skipped":
            logger.info("schedule '{}': left out {}, run {} goes on", schedule.id, run_id, text_of(rest[1]))
        elif what in ("queued", "waiting") and schedule.overlap == "cancelPrevious" and rest[2] != b"cancelling":
            reason = f"schedule {schedule.id}: the next tick is due"
            run_operation(self._link, runs.cancel(self._deployment, text_of(rest[1]), reason, None))

    def _note_failed(self, keys: Keys, schedule: Schedule, revision: int, tick: int, why: str) -> None:
        """Note why the run of a tick cannot be started. It is tried again until it is too late, or the next tick is due."""
        due, following = schedule.following(tick)
        again = run_operation(self._link, server_ms(self._deployment)) + int(RETRY_PAUSE * 1000)
        noted = self._link.call(
            scripts.note_schedule(
                keys,
                schedule_id=schedule.id,
                revision=revision,
                what="failed",
                tick=tick,
                text=why[:LONGEST_ERROR],
                following_json=json.dumps(following),
                due_ms=again if due is None else min(again, due),
            )
        )
        if noted == NEW_ERROR:
            logger.error("schedule '{}': run {} cannot be started: {}", schedule.id, schedule.run_id(tick), why)
