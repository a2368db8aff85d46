"""A guard for CI: ours beside bare Huey, in turn, and what a node costs: `python -m benchmarks.guard [--least RATIO]`.

Rates depend on the machine, their ratio in one run far less, and the number of scripts a node not at all. Exit code 1 if one of
the two is worse than asked for. No test depends on it.
"""

import argparse
import statistics
import sys

from benchmarks.graphs import Load, measure
from benchmarks.peers.bare_huey import rate_of_huey
from benchmarks.report import write
from benchmarks.server import server
from flowcraft_server.store.link import StoreLink

ROUNDS = 5
CHAIN = Load("chain10", 1_000, 10)
LEAST_RATIO = 6.0
MOST_SCRIPTS = 0.2
"""Up to 32 outcomes share a call when workers are saturated, and an occasional look for more comes on top."""


def main() -> int:
    """Measure, print one line a figure, and say whether they will do."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--least", type=float, default=LEAST_RATIO, help="times bare Huey's rate, at least")
    arguments.add_argument("--scripts", type=float, default=MOST_SCRIPTS, help="engine scripts a node, at most")
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = arguments.parse_args()
    ours, theirs, scripts = [], [], []
    with server() as running:
        link = StoreLink(running.url)
        for _ in range(chosen.rounds):
            found = measure(running, CHAIN, 1)
            ours.append(found.nodes_per_s)
            scripts.append(found.scripts)
            theirs.append(rate_of_huey(link, 1, 1))
        link.close()
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    ratio, calls = statistics.median(ratios), statistics.median(scripts)
    print(f"{running.name}: {statistics.median(ours):,.0f} nodes/s, bare Huey {statistics.median(theirs):,.0f} tasks/s")
    print(f"times bare Huey: {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), {chosen.least} wanted")
    print(f"engine scripts a node: {calls:.3f}, at most {chosen.scripts} wanted")
    write("guard", {"server": running.name, "ratios": ratios, "scripts": scripts, "ours": ours, "huey": theirs})
    return 0 if ratio >= chosen.least and calls <= chosen.scripts else 1


if __name__ == "__main__":
    sys.exit(main())
