"""What an unknown key of `flowcraft.yaml` was probably meant to be."""

from collections.abc import Iterator, Sequence
from functools import cache

from pydantic import BaseModel

from flowcraft_server.blueprints.suggestions import nearest

from . import shape

LIKENESS = 0.7
"""How alike an unknown key must be to one that exists, from 0 to 1: no feature is to be taken for another."""

_WORDS_OF_OTHERS = {
    "uri": ("url",), "address": ("url", "bind"), "dsn": ("url",), "broker": ("url",), "brokerurl": ("url",), "redisurl": ("url",),
    "host": ("bind", "url"), "port": ("bind", "url"), "listen": ("bind",), "addr": ("bind", "url"), "cors": ("allowedHosts",),
    "endpoint": ("baseUrl",), "key": ("apiKey",), "token": ("apiKey", "tokens"), "users": ("tokens",),
    "concurrency": ("workers",), "workerconcurrency": ("workers",), "threads": ("workers",), "queues": ("queue",),
    "retries": ("maxRetries",), "attempts": ("maxRetries",), "maxattempts": ("maxRetries",), "backoff": ("retryDelay", "factor"),
    "tasktimelimit": ("timeout",), "timelimit": ("timeout",), "softtimelimit": ("timeout",),
    "imports": ("handlerModules",), "include": ("handlerModules",), "modules": ("handlerModules",), "tasks": ("handlers",),
    "beatschedule": ("schedules",), "cronjobs": ("schedules",), "jobs": ("schedules",), "webhooks": ("hooks",),
    "workflow": ("blueprint",), "workflows": ("blueprints",), "task": ("blueprint",), "path": ("file",),
    "schedule": ("cron",), "crontab": ("cron",), "tz": ("timezone",), "interval": ("every",),
    "args": ("input",), "kwargs": ("input",),
    "ratelimit": ("rate",), "cost": ("usd",), "dollars": ("usd",), "cmd": ("command",), "environment": ("env",),
    "models": ("llm",), "database": ("redis", "url"), "db": ("redis", "url"), "workername": ("name",),
    "namespace": ("name",), "prefix": ("name",),
}  # fmt: skip
"""What other systems, Celery above all, call our keys: without dashes and underscores, in lower case."""


def hint_for(key: str, known: Sequence[str], above: Sequence[str] | None = None) -> str:
    """The known key that was probably meant, the section that a key belongs in, or else all known ones.

    Args:
        known: the keys that may stand where this one does.
        above: the path of the section that it stands in; None if no other section is to be looked at.
    """
    words = _WORDS_OF_OTHERS.get(key.lower().replace("-", "").replace("_", "").replace(" ", ""), ())
    meant = next((word for word in words if word in known), None) or nearest(key, known, LIKENESS)
    if meant is not None:
        return f"; did you mean '{meant}'?"
    for name in (key, *words) if above is not None else ():
        places = _places().get(name, ())
        if len(places) == 1:
            return f"; it belongs under '{places[0][0]}': {_written_out(places[0], name)}"
    return f"; known: {', '.join(known)}"


@cache
def _places() -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """The sections that have a key, by that key: each as it is shown, and as a path. Those with a user's names are left out."""
    found: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for path, section in _sections((), shape.ROOT):
        for key in shape.keys_of(section) if path else ():
            found.setdefault(key, []).append((".".join(path), path))
    return found


def _sections(path: tuple[str, ...], place: shape.Shape) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    section = shape.section_of(place, {})
    if section is None:
        return
    yield path, section
    for key in shape.keys_of(section):
        yield from _sections((*path, key), shape.child_of(place, key, {}))


def _written_out(place: tuple[str, tuple[str, ...]], name: str) -> str:
    """`api: {auth: {tokens: ...}}`."""
    path = place[1]
    return ": {".join([*path, f"{name}: ..."]) + "}" * len(path)
