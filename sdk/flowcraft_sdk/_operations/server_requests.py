"""What server processes are asked to do: reload, drain. They are found in Redis, and answer there."""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from flowcraft_sdk._operations.deployment import Deployment, Seconds, server_ms, text
from flowcraft_sdk._operations.effects import Batch, Operation, WaitForNotification, command
from flowcraft_sdk._operations.list_runs import scored
from flowcraft_sdk.errors import NoServerError
from flowcraft_sdk.protocol.bounds import LONGEST_NAME, check_span, check_text
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.run_record import moment
from flowcraft_sdk.records import ServerAnswer, ServerProcess

SERVER_FRESH = 15.0
"""Seconds for which a server process counts as alive after it was last seen."""

KEPT = 3600
"""Seconds for which requests and answers are kept."""

PAUSE = 0.1
MOST_SERVERS = 1_000
MOST_DIGITS = 10


def servers(deployment: Deployment) -> Operation[list[ServerProcess]]:
    """Server processes that were seen lately."""
    keys = deployment.keys
    since = (yield from server_ms(deployment)) - int(SERVER_FRESH * 1000)
    seen = scored((yield command("ZRANGEBYSCORE", keys.servers, since, "+inf", "WITHSCORES", "LIMIT", 0, MOST_SERVERS)))
    if not seen:
        return []
    records = yield Batch(tuple(command("HGETALL", keys.server(name)) for name, _ in seen))
    return [
        _process(name, score, {text(key): text(value) for key, value in raw.items()})
        for (name, score), raw in zip(seen, records, strict=True)
        if raw
    ]


def reload(
    deployment: Deployment, restart_workers: bool, host: str | None, timeout: Seconds | None
) -> Operation[list[ServerAnswer]]:
    """Have all server processes reload; what each of them did."""
    request = {"what": "reload", "restartWorkers": bool(restart_workers)}
    chosen = _of_host((yield from servers(deployment)), deployment, host)
    return (yield from _ask(deployment, chosen, request, timeout))


def drain(
    deployment: Deployment, worker: str | None, host: str | None, timeout: Seconds | None
) -> Operation[list[ServerAnswer]]:
    """Have all server processes, or the one of a worker, finish what runs and end."""
    chosen = _of_host((yield from servers(deployment)), deployment, host)
    request: dict[str, Any] = {"what": "drain"}
    if worker is not None:
        request["worker"] = check_text(worker, "a worker's id", LONGEST_NAME)
        chosen = [server for server in chosen if worker in server.workers]
        if not chosen:
            raise NoServerError(
                f"no server process of '{deployment.keys.namespace}' has a worker '{worker}'; `flowcraft worker list` lists them"
            )
    return (yield from _ask(deployment, chosen, request, timeout))


def _of_host(found: list[ServerProcess], deployment: Deployment, host: str | None) -> list[ServerProcess]:
    chosen = [server for server in found if host is None or server.host == host]
    if not chosen:
        where = "" if host is None else f" on host '{host}'"
        raise NoServerError(
            f"no server process of '{deployment.keys.namespace}' was seen lately{where}: nothing is asked"
        )
    return chosen


def _ask(
    deployment: Deployment, asked: Sequence[ServerProcess], request: Mapping[str, Any], timeout: Seconds | None
) -> Operation[list[ServerAnswer]]:
    seconds = check_span(timeout, "timeout")
    keys, request_id = deployment.keys, secrets.token_hex(8)
    encoded = json.dumps(request)
    # A field that is written twice is the same request: so this may be sent again if no reply comes.
    for server in asked:
        place = keys.requests(server.id)
        yield Batch((command("HSET", place, request_id, encoded), command("EXPIRE", place, KEPT)))
    deadline = None if seconds is None else clock() + seconds
    answers: dict[str, ServerAnswer] = {}
    while True:
        raw = yield command("HGETALL", keys.answers(request_id))
        found = {text(name): text(answer) for name, answer in raw.items()}
        answers = {server.id: _answer(server, found.get(server.id)) for server in asked}
        open_ = [answer.server for answer in answers.values() if not answer.done]
        if not open_ or (deadline is not None and clock() >= deadline):
            return list(answers.values())
        alive = {server.id for server in (yield from servers(deployment))}
        if all(server.id not in alive for server in open_):
            return list(answers.values())
        yield WaitForNotification(PAUSE)


def _answer(server: ServerProcess, raw: str | None) -> ServerAnswer:
    if raw is None:
        return ServerAnswer(server=server, done=False, ok=False, lines=("it has not answered",))
    found = json.loads(raw)
    return ServerAnswer(server=server, done=found["done"], ok=found["ok"], lines=tuple(found["lines"]))


def _process(name: str, score: float, about: Mapping[str, str]) -> ServerProcess:
    pid = about.get("pid", "")
    return ServerProcess(
        id=name,
        host=about.get("host", ""),
        pid=int(pid) if pid.isdecimal() and len(pid) <= MOST_DIGITS else 0,
        deployment=about.get("deployment", ""),
        command=about.get("command", ""),
        state=about.get("state", "serving"),
        workers=_texts(about.get("workers")),
        mistakes=_texts(about.get("mistakes")),
        last_seen=moment(score),
    )


def _texts(raw: str | None) -> tuple[str, ...]:
    try:
        found = json.loads(raw or "[]")
    except ValueError:
        return ()
    return tuple(text for text in found if isinstance(text, str)) if isinstance(found, list) else ()
