"""`flowcraft-server capacity`: what a load needs, on paper."""

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .counts import counted
from .shared_options import as_json_option
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_server.capacity.model import Constants, Load, Needs

_RATE = re.compile(r"(\d+(?:\.\d+)?)([kM]?)/(s|second|m|minute|h|hour|d|day)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIMES = {"": 1, "k": 1_000, "M": 1_000_000}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMG]i?B|B)")
MOST = 1e12


class _Quantity(click.ParamType[Any]):
    """An argument that a function reads from text; its ValueError becomes an error of usage."""

    def __init__(self, name: str, read: Any) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What the text says."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def read_rate(text: str) -> float:
    """Runs a second of `20M/day`, `5/s` or `300k/h`.

    Raises:
        ValueError: it is no rate.
    """
    found = _RATE.fullmatch(text.strip()) if len(text) < 100 else None
    if found is None or not 0 < float(found[1]) * _TIMES[found[2]] <= MOST:
        raise ValueError(f"expected a rate such as 20M/day, 300k/h or 5/s, got {text[:40]!r}")
    return float(found[1]) * _TIMES[found[2]] / _SECONDS[found[3][0]]


def read_size(text: str) -> int:
    """Bytes of `4kB`, `64KiB` or `16GiB`.

    Raises:
        ValueError: it is no size.
    """
    from flowcraft_server.config.quantities import BYTES

    found = _SIZE.fullmatch(text.strip()) if len(text) < 100 else None
    if found is None or float(found[1]) > MOST:
        raise ValueError(f"expected a size such as 4kB, 64KiB or 16GiB, got {text[:40]!r}")
    return int(float(found[1]) * BYTES[found[2].replace("k", "K")])


def read_duration(text: str) -> float:
    """Seconds of `1s`, `500ms` or `7d`.

    Raises:
        ValueError: it is no span of time.
    """
    from flowcraft_sdk.protocol.durations import parse_duration

    return parse_duration(text)


RATE, SIZE, DURATION = _Quantity("RATE", read_rate), _Quantity("SIZE", read_size), _Quantity("DURATION", read_duration)


@click.command("capacity")
@click.option("--runs", required=True, type=RATE, help="Runs on average: 20M/day, 300k/h, 5/s.")
@click.option("--nodes", required=True, type=click.FloatRange(1, 1e6), help="Nodes of a run.")
@click.option("--payload", default="1kB", show_default=True, type=SIZE, help="Output of a node.")
@click.option("--keep", default="7d", show_default=True, type=DURATION, help="How long ended runs are kept.")
@click.option("--node-time", default="1s", show_default=True, type=DURATION, help="How long a node takes.")
@click.option("--run-time", type=DURATION, help="How long a run takes.  [default: its nodes in a row]")
@click.option("--peak", default=3.0, show_default=True, type=click.FloatRange(1, 1000), help="Highest rate to average.")
@click.option("--history/--no-history", default=True, show_default=True, help="Whether runs keep their events.")
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(0, 5), help="Of each Redis primary.")
@click.option("--memory", default="16GiB", show_default=True, type=SIZE, help="Memory of a Redis node.")
@as_json_option
def capacity(as_json: bool, runs: float, keep: float, node_time: float, run_time: float | None, **options: Any) -> None:
    """Work out what a load needs: Redis nodes, memory, partitions, workers. On paper, from measured constants."""
    from flowcraft_server.capacity.model import Load, load_constants, needs_of

    if options["memory"] < 1:
        raise click.UsageError("--memory is more than nothing")
    load = Load(runs_per_second=runs, keep=keep, node_seconds=node_time, run_seconds=run_time, **options)
    constants = load_constants()
    needs = needs_of(load, constants)
    if as_json:
        write_json(
            {**asdict(needs), "primaries": needs.primaries, "redis_nodes": needs.primaries * (1 + load.replicas)}
        )
    else:
        for line in lines_about(load, needs, constants):
            write(line)


def lines_about(load: "Load", needs: "Needs", constants: "Constants") -> list[str]:
    """What is printed."""
    from flowcraft_server.capacity.model import MOST_PARTITIONS
    from flowcraft_server.config.quantities import format_size

    why = "memory" if needs.primaries_for_memory > needs.primaries_for_processors else "its processor"
    rates = f"{load.runs_per_second:,.1f} runs/s, {needs.nodes_per_second:,.0f} nodes/s"
    nodes = f"{needs.primaries:,} of {format_size(load.memory)} (by {why})"
    threads = counted(needs.threads, "thread")
    processes = f"{counted(needs.worker_processes, 'process', 'processes')} if they are coroutines, or {threads}"
    traffic = f"{size(needs.memory)} of data, {size(needs.network)}/s to and from workers"
    rows = [
        ("load", f"{rates}; at peak {needs.peak_nodes_per_second:,.0f} nodes/s"),
        ("Redis", f"{needs.redis_processors:,.2f} processors at peak, {traffic}"),
        ("primaries", f"{nodes}; {counted(needs.primaries * (1 + load.replicas), 'node')} with their replicas"),
        ("partitions", str(needs.partitions)),
        (
            "kept",
            f"{needs.kept_runs:,.0f} ended runs of {size(needs.bytes_a_run)}, {needs.live_runs:,.0f} live ones at peak",
        ),
        ("history", f"{size(needs.history_bytes)} of it" if load.history else "none"),
        ("workers", f"{needs.nodes_at_work:,.0f} nodes at work at peak: {processes}"),
        ("engine", f"{needs.worker_processors:,.2f} processors of workers, besides what handlers take"),
    ]
    if needs.primaries_for_memory > 2 * needs.primaries_for_processors:
        rows.append(
            (
                "advice",
                "memory decides: keep runs for less time, or store large outputs elsewhere and return their keys",
            )
        )
    if needs.primaries > MOST_PARTITIONS:
        rows.append(("advice", f"a deployment has {MOST_PARTITIONS} partitions at most: split it into several"))
    rows.append(("by", constants.measured_on))
    return [f"{name:<11} {text}" for name, text in rows]


def size(count: float) -> str:
    """A number of bytes for people: `1.5 GB`."""
    for unit, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count:,.0f} B"
