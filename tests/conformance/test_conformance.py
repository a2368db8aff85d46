"""Every conformance case on the real engine: with worker threads, with worker processes, and with provoked redelivery."""

from collections.abc import Iterator
from typing import Any

import pytest

from flowcraft_sdk import Handle
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings
from tests.conformance.case_handlers import HANDLERS
from tests.conformance.redelivery import Unreliable
from tests.conformance.running import CASES, differences, recorded_twice, start_all
from tests.conformance.worker import worker_processes

Runs = tuple[dict[str, Handle[Any]], str]
VARIANTS = ("threads", "processes", "redelivery")


def with_threads() -> Iterator[Runs]:
    with TestEnvironment(handlers=HANDLERS, settings=WorkerSettings(threads=4), check=False) as env:
        yield start_all(env), ""


def with_processes() -> Iterator[Runs]:
    with TestEnvironment(workers=0, check=False) as env, worker_processes(env, 2):
        yield start_all(env), ""


def with_redelivery() -> Iterator[Runs]:
    with (
        Unreliable() as trouble,
        TestEnvironment(handlers=HANDLERS, workers=2, settings=trouble.settings, check=False) as env,
    ):
        trouble.begin(env)
        runs = start_all(env)
        yield runs, f"FLOWCRAFT_REDELIVERY_SEED={trouble.seed}"
        trouble.end()
        assert trouble.happened(), "no trouble was made: the variant shows nothing"


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.xdist_group(f"conformance {name}")) for name in VARIANTS],
)
def runs(request: pytest.FixtureRequest) -> Iterator[Runs]:
    yield from {"threads": with_threads, "processes": with_processes, "redelivery": with_redelivery}[request.param]()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(runs: Runs, case: dict[str, Any]) -> None:
    handles, seed = runs
    handle = handles[case["name"]]
    assert differences(handle, case) == [], seed
    assert recorded_twice(handle) == [], seed
