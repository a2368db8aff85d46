"""The keys of an environment, for tests that look into Redis: those of a run wherever it lies."""

from typing import Any

import pytest

from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.testing.environment import partitions_in_environment

in_one_partition = pytest.mark.skipif(
    partitions_in_environment() > 1, reason="counts what is shared out over partitions"
)


class RoutedKeys:
    """In place of the keys of the first partition, where there are several: a test asks for those of a run by its id.

    A test that asks for another key, such as the queue's, is about what lies within one partition. It is skipped.
    """

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions
        self.namespace = partitions.namespace

    def run(self, run_id: str) -> str:
        return self._partitions.for_run(run_id).run(run_id)

    def events(self, run_id: str) -> str:
        return self._partitions.for_run(run_id).events(run_id)

    def batch(self, run_id: str, owner: str) -> str:
        return self._partitions.for_run(run_id).batch(run_id, owner)

    def channel(self, run_id: str) -> str:
        return self._partitions.for_run(run_id).channel(run_id)

    def end_channel(self, run_id: str) -> str:
        return self._partitions.for_run(run_id).end_channel(run_id)

    def worker(self, worker_id: str) -> str:
        return self._partitions.home.worker(worker_id)

    @property
    def workers(self) -> str:
        return self._partitions.home.workers

    def __getattr__(self, name: str) -> Any:
        pytest.skip(f"asks for the key '{name}', which each partition has")


def route_keys(env: TestEnvironment) -> TestEnvironment:
    """The environment, with the keys of runs in place of those of its first partition if it has several."""
    if env.partitions.count > 1:
        env.keys = RoutedKeys(env.partitions)  # type: ignore[assignment]
    return env
