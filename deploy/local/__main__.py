"""`python -m deploy.local`: a cluster of three primaries with a replica each, and a primary with a replica behind Sentinel.

They listen on loopback and keep nothing; Ctrl-C ends them.
"""

import signal
import tempfile
from pathlib import Path

from .cluster import LocalCluster
from .sentinel import SentinelDeployment


def main() -> None:
    """Start, say where they are, and wait for a signal."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    with tempfile.TemporaryDirectory(prefix="flowcraft-local-") as folder:
        for name in ("cluster", "sentinel"):
            Path(folder, name).mkdir()
        with (
            LocalCluster(Path(folder, "cluster")) as cluster,
            SentinelDeployment(Path(folder, "sentinel"), sentinels=3) as sentinel,
        ):
            print(f"Cluster:  {cluster.url}", flush=True)
            print(f"Sentinel: {sentinel.url}", flush=True)
            print("Ctrl-C ends them.", flush=True)
            signal.pause()


if __name__ == "__main__":
    main()
