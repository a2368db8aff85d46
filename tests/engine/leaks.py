"""What a test leaves behind in Redis that stands for nothing: every key is of a known family, and belongs to what is there."""

import re
from collections.abc import Iterator

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.records import STATES
from flowcraft_server.testing import TestEnvironment

SINGLE = {
    "blueprints", "broken", "claiming", "clock", "counting", "dead", "gone", "leases", "limits", "memories", "parking", "plans", "protocol",
    "retired", "schedules", "settings", "stats", "synced", "timers", "totals", "work", "workers",
}  # fmt: skip
OF_RUNS = ("run", "events", "logs", "batch")
QUEUE = re.compile(r"[A-Za-z0-9_.-]{1,100}")
CLASSES = {"completed", "failed", "cancelled"}
PLACE_OF_RUN = {"leases": 0, "timers": 1}
"""Which part of an entry is the run."""
STAYS = -1
"""What TTL answers for a key that does not expire. It is another number for one that is gone by now."""


def names_of(env: TestEnvironment) -> list[str]:
    """All keys that hold the environment's namespace in their names, wherever."""
    return [key.decode() for key in env.link.redis.scan_iter(match=f"*{env.namespace}*", count=1000)]


def members(env: TestEnvironment, keys: Keys, name: str) -> list[str]:
    return [member.decode() for member in env.link.redis.zrange(keys.base + name, 0, -1)]


def leaked_keys(env: TestEnvironment) -> list[str]:
    """Keys of no family, keys of runs in no index, and entries of ended runs in a queue, a lease or a timer."""
    names = names_of(env)
    bases = tuple(keys.base for keys in env.partitions.all)
    found = [f"{name} is outside of the namespace" for name in names if not name.startswith(bases)]
    for keys in env.partitions.all:
        listed = {run for status in STATES for run in members(env, keys, f"idx:st:{status}")}
        found += [f"{run} lies in another partition" for run in listed if env.partitions.for_run(run) is not keys]
        inside = [name.removeprefix(keys.base) for name in names if name.startswith(keys.base)]
        for name in inside:
            wrong = _wrong_with(env, keys, name, listed)
            if wrong:
                found.append(f"{name} {wrong}")
        found += _entries_of_ended_runs(env, keys, inside)
    return found


def _wrong_with(env: TestEnvironment, keys: Keys, name: str, listed: set[str]) -> str:
    family, colon, rest = name.partition(":")
    if not colon and family in ("replies", "reply_sizes"):
        return "does not expire" if env.link.redis.ttl(keys.base + name) == STAYS else ""
    if not colon:
        return "" if family in SINGLE else "is of no family"
    if family in OF_RUNS:
        run_id, bar, owner = rest.partition("|")
        if run_id not in listed:
            return "belongs to no listed run"
        if family != "batch":
            return "holds a '|'" if bar else ""
        batches = (env.link.redis.hget(keys.run(run_id), "batches") or b"").decode().split("\n")
        return "" if bar and owner in batches else "is a batch that its run does not know of"
    if family in ("stream", "streams"):
        return (
            ""
            if rest.partition("|")[0] in listed and env.link.redis.ttl(keys.base + name) != STAYS
            else "stays for ever"
        )
    if family == "schedule":
        return "" if rest in members(env, keys, "schedules") else "is of a schedule that is not listed"
    if name == "usage:total":
        return ""
    if family == "memory":
        if env.partitions.for_memory(rest) is not keys:
            return "lies in another partition"
        has_turns = env.link.redis.hexists(keys.base + name, "at")
        if has_turns and rest not in members(env, keys, "memories"):
            return "is a memory that is not listed"
        return "does not expire" if env.link.redis.ttl(keys.base + name) == STAYS else ""
    if family in (
        "lost",
        "draft",
        "minutes",
        "hours",
        "usage",
        "calls",
        "underway",
        "pace",
        "parked",
        "parking",
        "reply",
    ):
        return "does not expire" if env.link.redis.ttl(keys.base + name) == STAYS else ""
    if family in ("ready", "q"):
        return "" if QUEUE.fullmatch(rest.removesuffix("!")) else "is of no queue"
    if family in ("limit", "limited", "slots"):
        return "" if env.link.redis.hexists(keys.limits, rest) else "is of no limit"
    if family == "plan":
        known = {plan.decode() for plan in env.link.redis.hvals(keys.blueprints)}
        known |= {plan.decode() for plan in env.link.redis.hkeys(keys.plans)} | set(members(env, keys, "retired"))
        return "" if rest in known else "is a plan that nothing uses"
    if family == "worker":
        listed_or_expires = rest in members(env, keys, "workers") or env.link.redis.ttl(keys.base + name) > 0
        return "" if listed_or_expires else "is of a worker that is not listed"
    if family == "ended":
        return "" if rest in CLASSES else "is of no class"
    if family == "idx":
        kind, _, value = rest.partition(":")
        known = kind in ("bp", "tag") or (kind == "st" and value in STATES)
        return "" if known and value else "is no index"
    return "is of no family"


def _entries_of_ended_runs(env: TestEnvironment, keys: Keys, names: list[str]) -> Iterator[str]:
    ended = {run for status in STATES if status.is_terminal for run in members(env, keys, f"idx:st:{status}")}
    for name in names:
        if name in PLACE_OF_RUN or name.startswith(("ready:", "limited:", "slots:")):
            for member in members(env, keys, name):
                if member.split("|")[PLACE_OF_RUN.get(name, 0)] in ended:
                    yield f"{name} keeps {member}"
