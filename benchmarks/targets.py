"""What the results kept last reach of what is wanted: `python -m benchmarks.targets`. Only reports; nothing depends on it."""

import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import tables
from benchmarks.idle_latency import ORIGINAL, OURS
from benchmarks.report import read

SLEEPING = "processors may sleep"


@dataclass(frozen=True)
class Target:
    """A figure beside what is wanted of it.

    Attributes:
        most: whether it is to be this at most, else at least.
    """

    what: str
    wanted: float
    measured: float
    most: bool
    form: str = ",.2f"

    @property
    def held(self) -> bool:
        """Whether it is as wanted."""
        return self.measured <= self.wanted if self.most else self.measured >= self.wanted


def least(what: str, wanted: float, measured: float, form: str = ",.1f") -> Target:
    """Something of which there is to be so much at least."""
    return Target(what, wanted, measured, False, form)


def most(what: str, wanted: float, measured: float, form: str = ",.2f") -> Target:
    """Something of which there is to be so much at most."""
    return Target(what, wanted, measured, True, form)


class Throughput:
    """The rows of `benchmarks.throughput`."""

    def __init__(self, report: dict[str, Any]) -> None:
        self._ours, self._peers = report["ours"], report["peers"]

    def of(self, name: str, figure: str = "nodes_per_s") -> float:
        """The median of a figure of ours."""
        return float(statistics.median(each[figure] for each in self._ours[name]))

    def against(self, how: Callable[..., float | None], name: str) -> float:
        """A ratio to a peer."""
        found = how(name, self.of(name), self._peers)
        if found is None:
            raise KeyError(name)
        return found

    def cost(self, name: str) -> float:
        """Processor time a node, of workers and server."""
        return self.of(name, "worker_cpu_us") + self.of(name, "server_cpu_us")

    def targets(self) -> Iterator[Target]:
        """What is wanted of them."""
        chain, chains = "chain of 10, 1 process", "chain of 10, 2 processes"
        fan, fans = "1->20->1, 1 process", "1->20->1, 2 processes"
        yield least("chain of 10, 1 process, x bare Huey", 6, self.against(tables.against_huey, chain))
        yield least("chain of 10, 2 processes, x the original", 15, self.against(tables.against_original, chains))
        yield least("chain of 10, 2 processes, nodes/s", 25_000, self.of(chains), ",.0f")
        yield least("1->20->1, 2 processes, x the original", 15, self.against(tables.against_original, fans))
        for name in (chain, fan):
            yield most(f"{name}, scripts a node", 1.05, self.of(name, "scripts"))
            yield most(f"{name}, round trips a node", 0.15, self.of(name, "reads"))
        few, many = "chain of 10, 1,000 queued", "chain of 10, 100,000 queued"
        yield most("cost of a node, 100,000 queued against 1,000", 1.15, self.cost(many) / self.cost(few))
        yield most("time of a node, 100,000 queued against 1,000", 1.15, self.of(few) / self.of(many))
        small, large = "chain of 100, 1 kB read", "the same with a context of 10 MB"
        yield most("cost of a node, 10 MB of context against none", 1.15, self.cost(large) / self.cost(small))
        yield most("time of a node, 10 MB of context against none", 1.15, self.of(small) / self.of(large))


def latency(report: dict[str, Any]) -> Iterator[Target]:
    """What is wanted of an idle server."""
    rows = report["ms"][SLEEPING]
    ours = rows[OURS]
    yield most("idle chain of 3, p50 ms", 1.5, ours["p50"])
    yield most("idle chain of 3, p99 ms", 5, ours["p99"])
    for figure in ("mean", "p50", "p95", "p99"):
        what = f"start to result, {figure}, x the original looked at each ms"
        yield least(what, 5, rows[ORIGINAL][figure] / ours[figure])


def memory(report: dict[str, Any]) -> Iterator[Target]:
    """What is wanted of finished runs."""
    for name, wanted in (("chain of 10", 1_800), ("chain of 10, history off", 1_000)):
        yield most(f"finished {name}, bytes", wanted, report["bytes"][name]["server"], ",.0f")


def items(report: dict[str, Any]) -> Iterator[Target]:
    """What is wanted of a map."""
    yield most("an item, map of 10,000 against 100", 1.25, report["us"]["10000"] / report["us"]["100"])


def mixed(report: dict[str, Any]) -> Iterator[Target]:
    """What is wanted of quick nodes beside slow ones."""
    yield most("a node's begin beside slow ones, p99 ms", 20, report["ms"]["p99"])


def coroutines(report: dict[str, Any]) -> Iterator[Target]:
    """What is wanted of sleepers."""
    yield most("1,000 coroutines that sleep, against one", 1.3, report["sleepers"])
    yield most("the worker's memory meanwhile, MB", 200, report["worker_mb"], ",.0f")


SOURCES: dict[str, Callable[[dict[str, Any]], Iterator[Target]]] = {
    "throughput": lambda report: Throughput(report).targets(),
    "idle_latency": latency,
    "run_memory": memory,
    "map_items": items,
    "mixed": mixed,
    "coroutines": coroutines,
}


def found() -> Iterator[Target | str]:
    """All targets; a text for what cannot be reported."""
    for name, targets in SOURCES.items():
        report = read(name)
        if report is None:
            yield f"no result of benchmarks.{name}"
            continue
        try:
            yield from targets(report)
        except KeyError as missing:
            yield f"benchmarks.{name} was run without {missing}"


def main() -> int:
    """Print them."""
    table = Table("what", "wanted", "measured", "", title="What is wanted, and what the last results reach")
    unreported = []
    for target in found():
        if isinstance(target, str):
            unreported.append(target)
            continue
        sign = "<=" if target.most else ">="
        held = "" if target.held else "missed"
        table.add_row(target.what, f"{sign} {target.wanted:,g}", format(target.measured, target.form), held)
    Console(width=110).print(table)
    for text in unreported:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
