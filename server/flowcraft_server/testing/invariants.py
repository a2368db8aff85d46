"""What must hold of the store at any moment, for tests of whatever touches it."""

from flowcraft_sdk._operations import doctor
from flowcraft_server.testing.environment import TestEnvironment


def broken_invariants(env: TestEnvironment) -> list[str]:
    """Look for what the doctor would report: in runs, also ended ones, and in entries of queues, leases, timers and indexes.

    Args:
        env: The environment.

    Returns:
        A line for each defect; empty if all is as it should be.
    """
    defects = env.client.driver.run(doctor.examine_all(env.client.deployment))
    return [f"{defect.kind}: {defect.run_id} {defect.explanation}" for defect in defects]
