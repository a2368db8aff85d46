"""Sums of model calls and budgets as Redis has them, see `lua/include/usage.lua`. Pure."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from flowcraft_sdk.protocol.bounds import shown
from flowcraft_sdk.records import Budget, Usage, UsageOfDay, UsageTotal

NANO = 10**9
LEAST_USD, MOST_USD = 0.000001, 1_000_000
MOST_TOKENS = 10**12
_TOKENS = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmM]?)")
FIRST_DAY = datetime(1970, 1, 1, tzinfo=UTC).date()
KINDS = {"b": "blueprint", "t": "tag", "m": "model"}


def read_sum(text: str) -> Usage:
    """A sum.

    Raises:
        ValueError: it is none.
    """
    calls, sent, cached, received, nano_usd, unpriced, ms, *rest = (int(part) for part in text.split("|"))
    (from_cache,) = rest or (0,)
    return Usage(
        calls=calls, input_tokens=sent, cached_tokens=cached, output_tokens=received,
        usd=nano_usd / NANO, unpriced_calls=unpriced, seconds=ms / 1000, cache_hits=from_cache,
    )  # fmt: skip


def usage_of(fields: Mapping[str, str], field: str) -> Usage | None:
    """The sum in a field of a run's record; None if it has none."""
    return read_sum(fields[field]) if field in fields else None


def total(usages: Iterable[Usage]) -> Usage:
    """Sums put together."""
    found = list(usages)
    return Usage(**{name: sum(getattr(each, name) for each in found) for name in Usage.model_fields})


def beyond(whole: Usage, parts: Iterable[Usage]) -> Usage | None:
    """What is left of a sum without its parts; None if no call is."""
    known = total(parts)
    left = {name: max(0, getattr(whole, name) - getattr(known, name)) for name in Usage.model_fields}
    return Usage(**{**left, "usd": round(left["usd"], 9)}) if left["calls"] or left["cache_hits"] else None


def budget_of(value: Any) -> Budget | None:
    """A budget as people give it: a mapping with `usd` and `tokens`, or one of them.

    Raises:
        ValueError: it is none; the message says what was expected.
    """
    if value is None:
        return None
    given = value.model_dump() if isinstance(value, Budget) else value
    known = isinstance(given, Mapping) and all(key in ("usd", "tokens") for key in given)
    if not known or all(amount is None for amount in given.values()):  # one of nothing would be none, in silence
        raise ValueError(f"a budget has usd, tokens or both, such as {{usd: 0.5, tokens: 200k}}; got {shown(value)}")
    return Budget(usd=usd_of(given.get("usd")), tokens=tokens_of(given.get("tokens")))


def usd_of(value: Any) -> float | None:
    """US dollars of a budget.

    Raises:
        ValueError: they are none.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST_USD <= value <= MOST_USD:
        raise ValueError(f"usd is a number from {LEAST_USD:g} to {MOST_USD:,}, got {shown(value)}")
    return float(value)


def tokens_of(value: Any) -> int | None:
    """Tokens of a budget: a whole number, or a text such as `200k` or `1.5m`.

    Raises:
        ValueError: they are none.
    """
    if value is None:
        return None
    count: Any = value
    if isinstance(value, str) and (found := _TOKENS.fullmatch(value.strip()[:30])):
        count = round(float(found[1]) * {"": 1, "k": 1000, "m": 1_000_000}[found[2].lower()])
    if type(count) is not int or not 1 <= count <= MOST_TOKENS:
        raise ValueError(f"tokens are a whole number up to {MOST_TOKENS:,}, or a text such as 200k; got {shown(value)}")
    return count


def write_budget(budget: Budget | None) -> str:
    """A budget as it is stored; empty for none."""
    if budget is None or (budget.usd is None and budget.tokens is None):
        return ""
    usd = "" if budget.usd is None else str(round(budget.usd * NANO))
    return f"{usd}|{'' if budget.tokens is None else budget.tokens}"


def read_budget(text: str) -> Budget | None:
    """The reverse.

    Raises:
        ValueError: it is no budget.
    """
    if not text:
        return None
    usd, tokens = text.split("|")
    return Budget(usd=int(usd) / NANO if usd else None, tokens=int(tokens) if tokens else None)


def days_back(now_ms: int, count: int) -> list[int]:
    """Numbers of the latest days, the last one first."""
    today = now_ms // 86_400_000
    return [today - back for back in range(count)]


def read_day(day: int, sums: Mapping[str, list[str]]) -> list[UsageOfDay]:
    """What a day has used.

    Args:
        day: days since 1970.
        sums: by their names, one of each partition that has one.
    """
    rows = []
    for name, texts in sums.items():
        kind, _, rest = name.partition("|")
        named = KINDS.get(kind, "all" if name == "*" else "rest")
        usage = total(read_sum(text) for text in texts)
        rows.append(UsageOfDay(day=FIRST_DAY + timedelta(days=day), kind=named, name=rest, usage=usage))  # type: ignore[arg-type]
    return rows


def read_totals(sums: Mapping[str, list[str]]) -> list[UsageTotal]:
    """What was used since the deployment began.

    Args:
        sums: by their names, one of each partition that has one.
    """
    rows = []
    for name, texts in sorted(sums.items()):
        kind, _, rest = name.partition("|")
        named = KINDS.get(kind) if name != "*" else "all"
        if named in ("all", "blueprint", "model"):
            usage = total(read_sum(text) for text in texts)
            rows.append(UsageTotal(kind=named, name=rest, usage=usage))  # type: ignore[arg-type]
    return rows
