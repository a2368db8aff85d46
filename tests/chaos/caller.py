"""A client of its own process: `python -m tests.chaos.caller URL NAMESPACE FLOW RUN`. Starts a run, says so, waits for its end."""

import sys

from flowcraft_sdk import Client
from tests.chaos.flows import context


def main(url: str, namespace: str, flow: str, run_id: str) -> None:
    """Start and wait."""
    with Client(url, namespace=namespace) as client:
        handle = client.start(flow, context(flow, 1), run_id=run_id)
        sys.stdout.write("started\n")
        sys.stdout.flush()
        handle.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
