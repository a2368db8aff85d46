"""DBOS on SQLite: workflows of no-op steps. Runs in an environment of its own: `python dbos_peer.py FOLDER WORKFLOWS STEPS`."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS, DBOSConfig

FOLDER, WORKFLOWS, STEPS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config: DBOSConfig = {"name": "peer", "system_database_url": f"sqlite:///{FOLDER}/dbos.sqlite", "log_level": "CRITICAL"}
DBOS(config=config)


@DBOS.step()
def noop(value: int) -> int:
    return value


@DBOS.workflow()
def flow(value: int) -> int:
    for _ in range(STEPS):
        value = noop(value)
    return value


def main() -> None:
    """Run the workflows, a few at a time."""
    DBOS.launch()
    flow(1)
    with ThreadPoolExecutor(4) as pool:
        begin = time.perf_counter()
        list(pool.map(flow, range(WORKFLOWS)))
        print(json.dumps({"tasks/s": WORKFLOWS * STEPS / (time.perf_counter() - begin)}), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    main()
