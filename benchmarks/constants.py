"""Writes the constants of `flowcraft-server capacity` from the results kept last: `python -m benchmarks.constants`.

Takes the dearer of the two graphs for processor time, and solves bytes a run and a node from their two sizes.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.report import read

PATH = Path(__file__).parents[1] / "server/flowcraft_server/capacity/constants.json"
CHAIN, FAN = ("chain of 10", 10), ("1->20->1", 22)
PROCESSES = "2 processes"


def line(small: float, large: float) -> tuple[float, float]:
    """Bytes a run and bytes a node, from runs of the two graphs."""
    a_node = (large - small) / (FAN[1] - CHAIN[1])
    return small - CHAIN[1] * a_node, a_node


def main() -> None:
    """Write the file."""
    memory, throughput = read("run_memory"), read("throughput")
    if memory is None or throughput is None:
        raise SystemExit("run `python -m benchmarks.throughput` and `python -m benchmarks.run_memory` first")
    with_history = line(*(memory["bytes"][name]["server"] for name, _ in (CHAIN, FAN)))
    without = line(*(memory["bytes"][f"{name}, history off"]["server"] for name, _ in (CHAIN, FAN)))

    def dearest(figure: str) -> float:
        rows: list[list[dict[str, Any]]] = [throughput["ours"][f"{name}, {PROCESSES}"] for name, _ in (CHAIN, FAN)]
        return max(statistics.median(float(each[figure]) for each in row) for row in rows)

    constants = {
        "measured_on": f"{memory['server']}, no-op nodes that pass on their input, {memory['machine']['processors']} processors",
        "redis_us_per_node": round(dearest("server_cpu_us"), 1),
        "worker_us_per_node": round(dearest("worker_cpu_us"), 1),
        "bytes_per_run": round(without[0]),
        "bytes_per_node": round(without[1], 1),
        "history_bytes_per_run": round(with_history[0] - without[0]),
        "history_bytes_per_node": round(with_history[1] - without[1], 1),
    }
    PATH.write_text(json.dumps(constants, indent=1) + "\n")
    print(PATH.read_text(), end="")


if __name__ == "__main__":
    main()
