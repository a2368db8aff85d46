"""The items of a batch as the panel of its node lists them: how many are in which state, and those that are asked for. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowcraft_sdk.records import NodeAttempt, RunSnapshot

MOST_ROWS = 100
"""Items that are listed."""

ORDER = ("failed", "running", "retrying", "waiting", "ready", "completed", "cancelled", "unknown", "pending")
BAR_WIDTH = 400.0


@dataclass(frozen=True)
class ItemRow:
    """An item.

    Attributes:
        number: Its place in the list, from 0.
        instance: Its name, `each[7]`.
        state: Its state.
        attempt: Its latest attempt, if the history still has it.
        child: Id of its child run, if it has one.
    """

    number: int
    instance: str
    state: str
    attempt: NodeAttempt | None = None
    child: str = ""


@dataclass(frozen=True)
class ItemList:
    """The items of a batch.

    Attributes:
        total: How many there are.
        counts: How many are in each state, with the beginning and the width of its part of the bar.
        chosen: What is listed: a state, the number of the first one, or empty for all.
        rows: Those that are listed.
        more: How many more there are of them.
    """

    total: int
    counts: tuple[tuple[str, int, float, float], ...]
    chosen: str = ""
    rows: tuple[ItemRow, ...] = ()
    more: int = 0


def items_of(run: RunSnapshot, node_id: str, attempts: Sequence[NodeAttempt], chosen: str = "") -> ItemList | None:
    """The items of a node; None if it has none.

    Args:
        run: The run with its outputs.
        node_id: The node.
        attempts: The run's attempts, the earliest one first.
        chosen: Which ones are asked for: a state, or the number from which on.
    """
    now = run.nodes.get(node_id)
    if now is None or now.items is None or not now.items.total:
        return None
    total, begun = now.items.total, now.items.begun
    latest = {each.item: each for each in attempts if each.node_id == node_id and each.item is not None}
    states = [_state(run, node_id, number, latest, begun, now.output) for number in range(total)]
    counts, at, found = Counter(states), 0.0, []
    for state in sorted(counts, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
        width = BAR_WIDTH * counts[state] / total
        found.append((state, counts[state], round(at, 2), round(width, 2)))
        at += width
    first = int(chosen) if chosen.isdecimal() and len(chosen) < 10 else 0
    wanted = [
        number
        for number in range(min(first, total), total)
        if states[number] == chosen or chosen.isdecimal() or chosen not in counts
    ]
    children = {instance: child for child, instance in run.child_nodes.items()}
    rows = []
    for number in wanted[:MOST_ROWS]:
        instance = f"{node_id}[{number}]"
        rows.append(ItemRow(number, instance, states[number], latest.get(number), children.get(instance, "")))
    shown = chosen if chosen.isdecimal() or chosen in counts else ""
    return ItemList(total, tuple(found), shown, tuple(rows), max(0, len(wanted) - MOST_ROWS))


def _state(
    run: RunSnapshot, node_id: str, number: int, latest: Mapping[int, NodeAttempt], begun: int, output: Any
) -> str:
    """The state of an item: a snapshot has those that have not ended, the history what became of the others."""
    now = run.nodes.get(f"{node_id}[{number}]")
    if now is not None:
        return str(now.status)
    if number >= begun:
        return "pending"
    if number in latest:
        return str(latest[number].status)
    if isinstance(output, list) and number < len(output):
        value = output[number]
        return "failed" if isinstance(value, dict) and list(value) == ["error"] else "completed"
    return "unknown"
