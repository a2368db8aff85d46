"""What a load needs: arithmetic that can be done by hand, and the command that prints it."""

import json

import pytest
from click.testing import CliRunner

from flowcraft_server.capacity.model import Constants, Load, load_constants, needs_of
from flowcraft_server.cli.capacity import read_rate, read_size, size
from flowcraft_server.cli.server import main

PLAIN = Constants("made up", 20.0, 10.0, 1000.0, 100.0, 200.0, 50.0)


def test_by_hand() -> None:
    needs = needs_of(Load(runs_per_second=100, nodes=10, payload=900, keep=1000, node_seconds=2, peak=3), PLAIN)
    assert needs.nodes_per_second == 1000
    assert needs.peak_nodes_per_second == 3000
    assert needs.redis_processors == pytest.approx(0.06)
    assert needs.worker_processors == pytest.approx(0.03)
    assert needs.bytes_a_run == 1000 + 10 * (100 + 900) + 200 + 10 * 50
    assert (needs.kept_runs, needs.live_runs) == (100_000, 100 * 3 * 20)
    assert needs.memory == 106_000 * 11_700
    assert needs.nodes_at_work == 6000
    assert (needs.threads, needs.worker_processes) == (6000, 12)
    assert needs.network == 3000 * 900 * 2
    assert (needs.primaries, needs.partitions) == (1, 1)


def test_a_history_costs_what_it_says() -> None:
    load = Load(runs_per_second=1, nodes=10, payload=0, keep=10, run_seconds=0)
    without = needs_of(Load(runs_per_second=1, nodes=10, payload=0, keep=10, run_seconds=0, history=False), PLAIN)
    assert needs_of(load, PLAIN).memory - without.memory == needs_of(load, PLAIN).history_bytes == 10 * 700
    assert without.history_bytes == 0


def test_primaries_and_partitions_grow_with_the_load() -> None:
    processor = needs_of(Load(runs_per_second=100_000, nodes=1, payload=1, keep=0, run_seconds=0, peak=1), PLAIN)
    assert processor.redis_processors == pytest.approx(2.0)
    assert (processor.primaries_for_processors, processor.primaries_for_memory, processor.partitions) == (4, 1, 16)
    memory = needs_of(Load(runs_per_second=1, nodes=1, payload=10**6, keep=10**5, memory=10**10), PLAIN)
    assert memory.primaries == memory.primaries_for_memory == 15
    assert memory.partitions == 64


def test_the_constants_of_this_release() -> None:
    constants = load_constants()
    assert constants.measured_on
    assert all(value > 0 for name, value in vars(constants).items() if name != "measured_on")


@pytest.mark.parametrize(("text", "rate"), [("5/s", 5), ("60/m", 1), ("7.2k/hour", 2), ("8.64M/day", 100)])
def test_rates(text: str, rate: float) -> None:
    assert read_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["5", "0/s", "-1/s", "x/s", "5/w", "1e9/s", "9" * 99 + "/s", "nan/s"])
def test_no_rates(text: str) -> None:
    with pytest.raises(ValueError, match="expected a rate"):
        read_rate(text)


def test_sizes() -> None:
    assert [read_size(text) for text in ("4kB", "4KB", "1KiB", "2 MB")] == [4000, 4000, 1024, 2_000_000]
    with pytest.raises(ValueError, match="expected a size"):
        read_size("4")
    assert [size(count) for count in (12, 4_000, 1.75e13)] == ["12 B", "4.0 kB", "17.5 TB"]


def test_the_command() -> None:
    arguments = ["capacity", "--runs", "20M/day", "--nodes", "30", "--payload", "4kB", "--keep", "7d"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    for part in ("231.5 runs/s", "at peak 20,833 nodes/s", "140,000,000 ended runs", "memory decides"):
        assert part in result.output
    found = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).output)
    assert found["kept_runs"] == pytest.approx(140_000_000)
    assert found["redis_nodes"] == 2 * found["primaries"]
    wrong = CliRunner().invoke(main, ["capacity", "--runs", "5", "--nodes", "30"])
    assert wrong.exit_code == 2
    assert "expected a rate such as 20M/day" in wrong.output
