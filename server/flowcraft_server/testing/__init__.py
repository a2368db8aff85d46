"""Testing kit: the real engine and scripts on a private embedded server, with a clock that tests move."""

from flowcraft_server.testing.environment import TestClock, TestEnvironment
from flowcraft_server.testing.invariants import broken_invariants

__all__ = ["TestClock", "TestEnvironment", "broken_invariants"]
