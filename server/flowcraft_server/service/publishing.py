"""What a deployment keeps published in Redis: published again when it is no longer there."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from loguru import logger

from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION, Keys
from flowcraft_sdk.protocol.partitions import Partitions

from .namespace_peers import file_of, read_published


class KeptPublished:
    """A component that looks now and then whether what was published is still there, and has it published again if not.

    Redis may be emptied, or restored from a copy that is older. A blueprint that another deployment has published since under
    the same id is there: two deployments never publish against each other.

    Args:
        client: of Redis; its values may be bytes or text.
        hashes: of the plan of each blueprint that was published, by id.
        publish: publishes everything again.
        pause: seconds between two looks.
        own: this deployment, as others see it.
    """

    def __init__(
        self,
        client: Any,
        partitions: Partitions,
        hashes: Mapping[str, str],
        publish: Callable[[], object],
        pause: float,
        own: str = "",
    ) -> None:
        self._client = client
        self._partitions = partitions
        self._turn = 0
        self._hashes = hashes
        self._publish = publish
        self._pause = pause
        self._next = clock() + pause
        self._own = own
        self._reported: dict[str, str] = {}
        self._changing = threading.Lock()

    def start(self) -> None:
        """Everything has been published by now."""

    def drain(self, deadline: float) -> bool:
        """Nothing of it runs. See `Component`."""
        return True

    def stop(self) -> bool:
        """What is published stays."""
        return True

    def health(self) -> Sequence[str]:
        """Look, if it is time for it. While Redis is away nothing is found."""
        if clock() < self._next or not self._changing.acquire(blocking=False):
            return ()
        try:
            return self._look()
        finally:
            self._changing.release()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Nothing is looked at within this block, in which another thread publishes."""
        with self._changing:
            yield

    def replace(self, hashes: Mapping[str, str]) -> None:
        """Keep these published from now on. To be called within `change`."""
        self._hashes = hashes

    @property
    def hashes(self) -> Mapping[str, str]:
        """Of the plan of each blueprint that is kept published, by id."""
        return self._hashes

    def _look(self) -> Sequence[str]:
        self._next = clock() + self._pause
        try:
            missing = self.missing()
            if not missing:
                return self._replaced()
            self._publish()
        except redis.exceptions.RedisError as error:
            logger.debug("it cannot be seen whether everything is published: {}", error)
            return ()
        finding = f"{missing} missing in Redis, which was emptied or restored from an older copy: published again"
        return [f"{finding}. Runs that are not there any more are lost"]

    def missing(self) -> str:
        """What is not there any more, as a phrase for the log; '' if all is.

        The first partition is looked at, another one in turn, and whether the others have anything at all.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        home, *others = self._partitions.all
        if not others:
            return self._missing_in(home)
        self._turn = (self._turn + 1) % len(others)
        found = self._missing_in(home) or self._missing_in(others[self._turn])
        if found:
            return found
        pipe = self._client.pipeline(transaction=False)
        for keys in others:
            pipe.exists(keys.settings)
        return "" if all(pipe.execute()) else "what is published in some partitions was"

    def _missing_in(self, keys: Keys) -> str:
        names = list(self._hashes)
        pipe = self._client.pipeline(transaction=False)
        pipe.get(keys.protocol)
        pipe.exists(keys.settings)
        for name in names:
            pipe.hget(keys.blueprints, name)
            pipe.exists(keys.plan(self._hashes[name]))
        spoken, has_settings, *rest = pipe.execute()
        gone = []
        for name, current, has_plan in zip(names, rest[::2], rest[1::2], strict=True):
            found = current.decode() if isinstance(current, bytes) else current
            if found is None or (found == self._hashes[name] and not has_plan):
                gone.append(name)
        if gone:
            some = ", ".join(f"'{name}'" for name in gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
            return f"blueprint {some} was" if len(gone) == 1 else f"blueprints {some} were"
        if spoken is None or (spoken.decode() if isinstance(spoken, bytes) else spoken) != PROTOCOL_VERSION:
            return "" if spoken is not None else "the protocol's version was"
        return "" if has_settings else "the deployment's settings were"

    def _replaced(self) -> list[str]:
        """A warning about each version that another deployment has published in place of ours, once."""
        if not self._hashes:
            return []
        found, warnings = read_published(self._client, self._partitions.home), []
        for name, ours in self._hashes.items():
            now = found.get(name)
            if now is None or now.plan in (ours, self._reported.get(name)) or now.by == self._own:
                continue
            self._reported[name] = now.plan
            ours_too = file_of(now.by) == file_of(self._own)
            advice = "" if ours_too else "; two deployments share this name: give one of them another `name`"
            what = f"new runs of '{name}' get another version than the one published here: {now.shown()}{advice}"
            warnings.append(what)
        return warnings
