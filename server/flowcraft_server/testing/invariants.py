"""What must hold of the store at any moment, for tests of whatever touches it."""

from flowcraft_sdk._operations import doctor
from flowcraft_server.testing.environment import TestEnvironment


def broken_invariants(env: TestEnvironment) -> list[str]:
    """What the doctor finds wrong, a line each: with runs, ended ones too, and entries of queues, leases, timers and indexes."""
    defects = env.client.driver.run(doctor.examine_all(env.client.deployment))
    return [f"{defect.kind}: {defect.run_id} {defect.explanation}" for defect in defects]
