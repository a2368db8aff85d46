"""Testing kit: the real engine and scripts on a private embedded server, with a clock that tests move.

Imported by: cli, evals, pytest_plugin.
"""

from flowcraft_server.testing.async_environment import AsyncTestClock, AsyncTestEnvironment
from flowcraft_server.testing.blueprint_warnings import BlueprintWarning
from flowcraft_server.testing.clock import TestClock
from flowcraft_server.testing.environment import TestEnvironment
from flowcraft_server.testing.handler_run import HandlerRun, run_handler, run_handler_async
from flowcraft_server.testing.invariants import broken_invariants

__all__ = [
    "AsyncTestClock",
    "AsyncTestEnvironment",
    "BlueprintWarning",
    "HandlerRun",
    "TestClock",
    "TestEnvironment",
    "broken_invariants",
    "run_handler",
    "run_handler_async",
]
