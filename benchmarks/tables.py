"""The table of `benchmarks.throughput`."""

import statistics
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from benchmarks.graphs import Measured, median

HUEY = "bare Huey, 1 thread"
ORIGINALS = {
    "the original, chain of 10, 1 process": ("chain10", 1),
    "the original, chain of 10, 2 processes": ("chain10", 2),
    "the original, 1->20->1, 1 process": ("fan20", 1),
    "the original, 1->20->1, 2 processes": ("fan20", 2),
}
"""Graph and processes of each measurement of the TypeScript original."""

COLUMNS = (
    "", "nodes/s", "runs/s", "x Huey", "x original", "scripts", "commands", "reads",
    "worker us", "server us", "client us", "bytes live", "bytes ended",
)  # fmt: skip


def against_huey(name: str, rate: float, peers: Mapping[str, list[float]]) -> float | None:
    """How many times bare Huey's rate with one thread, on the same server; None without it."""
    rates = peers.get(HUEY + _server_of(name))
    return rate / statistics.median(rates) if rates else None


def against_original(name: str, rate: float, peers: Mapping[str, list[float]]) -> float | None:
    """How many times the original's rate with the same graph and processes; None where it was not measured so."""
    rates = peers.get(f"the original, {name}")
    return rate / statistics.median(rates) if rates else None


def _server_of(name: str) -> str:
    position = name.rfind(", Valkey")
    return name[position:] if position >= 0 else ""


def _spread(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def show(where: str, ours: Mapping[str, list[Measured]], peers: Mapping[str, list[float]]) -> None:
    """Print it: peers first, then ours, with what a node costs."""
    table = Table(title=f"{where}; nodes or tasks a second, median of the rounds (least to most)")
    for column in COLUMNS:
        table.add_column(column, justify="right" if column else "left")
    for name, rates in peers.items():
        rate = statistics.median(rates)
        table.add_row(name, _spread(rates), "", _shown(against_huey(name, rate, peers), ".1f"))
    for name, found in ours.items():
        rates = [each.nodes_per_s for each in found]
        rate = statistics.median(rates)
        table.add_row(
            name,
            _spread(rates),
            _shown(median(found, "runs_per_s"), ",.0f"),
            _shown(against_huey(name, rate, peers), ".1f"),
            _shown(against_original(name, rate, peers), ".1f"),
            *[_shown(median(found, figure), ".2f") for figure in ("scripts", "commands", "reads")],
            *[
                _shown(median(found, f"{whose}_cpu_us"), ".0f" if whose != "client" else ".1f")
                for whose in ("worker", "server", "client")
            ],
            *[_shown(median(found, f"bytes_{when}"), ",.0f") for when in ("in_flight", "finished")],
        )
    Console(width=190).print(table)
