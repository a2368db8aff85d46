"""What a node costs with several partitions beside one, on one Redis: `python -m benchmarks.partitions [--rounds N]`.

Both are measured in turn in one run. Processor time counts, which other programs of the machine change little; `ratio` is the
median of the ratios of the rounds.
"""

import argparse
import statistics

from benchmarks.graphs import Load, Measured, measure
from benchmarks.report import write
from benchmarks.server import server

LOADS = {
    "chain of 10": Load("chain10", 2_000, 10, one_by_one=False),
    "1->20->1": Load("fan20", 1_000, 22, one_by_one=False),
    "chain of 10 coroutines": Load("async10", 1_000, 10, one_by_one=False),
}
FIGURES = {"worker_cpu_us": "worker us", "server_cpu_us": "server us", "scripts": "scripts", "reads": "reads"}
WANTED = {"worker_cpu_us": 1.25, "server_cpu_us": 1.15}
"""Times what one partition costs."""


def main() -> None:
    """Measure the rounds and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--partitions", type=int, default=16)
    arguments.add_argument("--processes", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--only", default="")
    chosen = arguments.parse_args()
    rows, kept = [], {}
    with server() as running:
        for name, load in LOADS.items():
            if chosen.only not in name:
                continue
            pairs = [
                [measure(running, load, chosen.processes, partitions=count) for count in (1, chosen.partitions)]
                for _ in range(chosen.rounds)
            ]
            rows.append((name, pairs))
            kept[name] = [[vars(each) for each in pair] for pair in pairs]
    print(f"{running.name}, {chosen.partitions} partitions beside 1, {chosen.processes} process(es), a node\n")
    print("| load | figure | 1 | " + f"{chosen.partitions} | ratio | wanted |\n|---|---|---|---|---|---|")
    for name, pairs in rows:
        for figure, title in FIGURES.items():
            print(_row(name, figure, title, pairs))
    write("partitions", {"server": running.name, "partitions": chosen.partitions, "loads": kept})


def _row(name: str, figure: str, title: str, pairs: list[list[Measured]]) -> str:
    one, several = ([getattr(pair[side], figure) for pair in pairs] for side in (0, 1))
    ratio = statistics.median(theirs / ours for ours, theirs in zip(one, several, strict=True))
    wanted = f"{WANTED[figure]:.2f}" if figure in WANTED else ""
    return f"| {name} | {title} | {statistics.median(one):.3g} | {statistics.median(several):.3g} | {ratio:.2f} | {wanted} |"


if __name__ == "__main__":
    main()
