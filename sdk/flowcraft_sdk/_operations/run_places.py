"""Limits of concurrent runs, as clients see them: starts that may be refused, and what a queued run waits for."""

from typing import Any

from flowcraft_sdk._operations.deployment import Deployment, keys_of, text
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk.errors import RunLimitError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.place_scripts import PlaceEntry
from flowcraft_sdk.records import RunSnapshot, RunStatus
from flowcraft_sdk.records.counts import counted

SHOWN = 3
"""Runs that hold a place which a phrase names."""


def phrase_of_limit(limit: str, most: int) -> str:
    """A limit of concurrent runs in words, such as `at most 2 concurrent runs of blueprint 'order' with key 'a'`."""
    name, _, key = limit.partition("|")
    whose = "" if name == "*" else f" of blueprint '{name}'"
    with_key = f" with key '{key}'" if key else ""
    return f"at most {counted(most, 'concurrent run')}{whose}{with_key}"


def take_or_withdraw(deployment: Deployment, run_id: str, keys: Keys) -> Operation[None]:
    """Ask for the place of a run that was just started and is refused rather than queued.

    Raises:
        RunLimitError: there is none; the run is removed.
    """
    created, blueprint_id, key = yield command("HMGET", keys.run(run_id), "cr", "bp", "key")
    if created is None:
        return  # another one that has started it was refused
    entry = PlaceEntry(run_id, text(created))
    reply = yield scripts.ask_place(
        deployment.keys, entry, blueprint_id=text(blueprint_id), key="" if key is None else text(key)
    )
    code = text(reply[0])
    if code == "granted":
        yield scripts.take_place(keys, entry)
        return
    if code != "full" or not (yield scripts.withdraw_run(keys, entry)):
        return
    limit, most = text(reply[1]), int(reply[2])
    holders = yield command("ZRANGE", deployment.keys.running(limit), 0, SHOWN - 1)
    run_ids = tuple(PlaceEntry.read(text(each)).run_id for each in holders)
    raise RunLimitError(run_id, phrase_of_limit(limit, most), run_ids)


def with_place(deployment: Deployment, snapshot: RunSnapshot) -> Operation[RunSnapshot]:
    """The picture of a run, with what it waits for if it is queued because too many others continue."""
    if snapshot.blocked_by is None or snapshot.status is not RunStatus.QUEUED:
        return snapshot
    keys, home = (yield from keys_of(deployment, snapshot.run_id)), deployment.keys
    created = yield command("HGET", keys.run(snapshot.run_id), "cr")
    blueprint_id, key = snapshot.blueprint_id, snapshot.key
    entry = str(PlaceEntry(snapshot.run_id, "" if created is None else text(created)))
    group = blueprint_id if key is None else f"{blueprint_id}|{key}"
    rules = yield command("HMGET", home.run_limits, "*", blueprint_id)
    limits: list[tuple[str, int]] = []
    for name, rule in zip(("*", blueprint_id), rules, strict=True):
        runs, per_key = ("" if rule is None else text(rule)).split("|")[:2] if rule is not None else ("", "")
        limits += [(name, int(runs))] if runs else []
        limits += [(f"{name}|{key}", int(per_key))] if per_key and key is not None else []
    reads = [command("ZRANK", home.line(group), entry)]
    for name, _ in limits:
        reads += [command("ZCARD", home.running(name)), command("ZRANGE", home.running(name), 0, SHOWN - 1)]
    rank, *counts = yield Batch(tuple(reads), bearing=True)
    for place, (name, most) in enumerate(limits):
        running, holders = counts[2 * place : 2 * place + 2]
        if isinstance(running, int) and running >= most:
            phrase = _phrase(name, most, running, holders, rank)
            return snapshot.model_copy(update={"blocked_by": phrase})
    return snapshot


def _phrase(name: str, most: int, running: int, holders: Any, rank: Any) -> str:
    run_ids = [PlaceEntry.read(text(each)).run_id for each in holders]
    others = f" and {running - len(run_ids)} more" if running > len(run_ids) else ""
    ahead = f"; {rank} of the same kind wait ahead of it" if isinstance(rank, int) and rank else ""
    return f"{phrase_of_limit(name, most)}, now {', '.join(run_ids)}{others}{ahead}"
