"""`python -m deploy.local`: a cluster of three primaries with a replica each, and a primary with a replica behind Sentinel.

They listen on loopback and keep nothing; Ctrl-C ends them. `python -m deploy.local --cluster COMMAND ...` starts the cluster
alone, runs a command with its address in FLOWCRAFT_TEST_REDIS_URL and REDIS_URL, and leaves with the command's exit code.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from flowcraft_server.store.binary import find_server

from .cluster import LocalCluster
from .sentinel import SentinelDeployment


def main() -> int:
    """Start, and run the command or wait for a signal."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local", description="Redis on loopback, for trying things out."
    )
    parser.add_argument("--cluster", nargs=argparse.REMAINDER, metavar="COMMAND", help="run this beside a cluster")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flowcraft-local-") as folder:
        for name in ("cluster", "sentinel"):
            Path(folder, name).mkdir()
        if options.cluster:
            with LocalCluster(Path(folder, "cluster")) as cluster:
                print(f"Cluster of {find_server()}: {cluster.url}", flush=True)
                environ = {**os.environ, "FLOWCRAFT_TEST_REDIS_URL": cluster.url, "REDIS_URL": cluster.url}
                return subprocess.run(options.cluster, env=environ, check=False).returncode
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        with (
            LocalCluster(Path(folder, "cluster")) as cluster,
            SentinelDeployment(Path(folder, "sentinel"), sentinels=3) as sentinel,
        ):
            print(f"Cluster:  {cluster.url}", flush=True)
            print(f"Sentinel: {sentinel.url}", flush=True)
            print("Ctrl-C ends them.", flush=True)
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
