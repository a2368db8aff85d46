"""Workers killed at random under load; `make chaos` runs the long version."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from tests.chaos import storm
from tests.chaos.deployment import Deployment
from tests.chaos.flows import FLOWS, context
from tests.chaos.verdict import judge

Make = Callable[..., Deployment]


def test_nothing_is_lost_or_doubled_when_workers_are_killed_at_random(tmp_path: Path) -> None:
    seed = int(os.environ.get("FLOWCRAFT_CHAOS_SEED") or secrets.randbits(32))
    found = storm.rage(tmp_path / "storm", kills=12, runs=72, seed=seed)
    assert found.verdict.is_clean(), f"seed {seed}\n{found.verdict.faults()}"
    assert found.verdict.takeovers, f"seed {seed}: nobody was killed at work"
    assert max(found.verdict.takeovers) <= storm.LEASE + 1, f"seed {seed}"


def test_the_verdict_notices_what_is_wrong(deployed: Make) -> None:
    chaos = deployed()
    chaos.add_worker()
    started = {chaos.client.start(flow, context(flow, 4)).run_id: (flow, 4) for flow in FLOWS}
    assert judge(chaos, started, 20).is_clean()
    by_flow = {flow: run_id for run_id, (flow, _) in started.items()}
    redis, partitions = chaos.redis, chaos.partitions

    history = partitions.for_run(by_flow["chain"]).events(by_flow["chain"])
    completed = next(event for event in redis.lrange(history, 0, -1) if event.startswith(b"c|"))
    redis.linsert(history, "AFTER", completed, completed)
    assert len(judge(chaos, started, 1).twice) == 1
    redis.lrem(history, 0, completed)
    assert len(judge(chaos, started, 1).lost) == 1

    redis.hset(partitions.for_run(by_flow["fan"]).run(by_flow["fan"]), "o:j", "7")
    assert len(judge(chaos, started, 1).lost) == 2

    lines = chaos.ledger.read_text().splitlines(keepends=True)
    once = next(line for line in lines if by_flow["router"] in line and '"end"' in line)
    chaos.ledger.write_text("".join(line for line in lines if line != once))
    assert len(judge(chaos, started, 1).lost) == 3
    chaos.ledger.write_text("".join([*lines, *(line for line in lines if by_flow["router"] in line)]))
    assert judge(chaos, started, 1).unexplained

    redis.hset(partitions.for_run(by_flow["map"]).run(by_flow["map"]), "st", "running")
    assert len(judge(chaos, started, 0.1).stuck) == 1
