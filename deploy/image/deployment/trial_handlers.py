"""Handlers of the image's trial."""

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from flowcraft_sdk import NodeContext

SLOW_SECONDS = 3.0
CHUNK = 16 * 1024 * 1024


def quick(ctx: NodeContext) -> str:
    """Return at once."""
    return "done"


def slow(ctx: NodeContext) -> str:
    """Say that it has begun, and sleep for three seconds."""
    ctx.progress(0.0, "sleeping")
    time.sleep(SLOW_SECONDS)
    return "done"


def orphan(ctx: NodeContext) -> str:
    """Leave a process behind that ends soon, and whose parent has ended before it."""
    subprocess.run(["/bin/sh", "-c", "sleep 0.2 &"], check=True)
    return "done"


def hog(ctx: NodeContext) -> str:
    """Take memory until the kernel ends the process."""
    taken = []
    while True:
        taken.append(bytearray(os.urandom(1024) * (CHUNK // 1024)))


def surroundings(ctx: NodeContext) -> dict[str, Any]:
    """Say what this process may do."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    first = Path("/proc/1/cmdline").read_bytes().split(b"\0")[0].decode()
    return {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "first": first,
        "no_new_privs": status["NoNewPrivs"],
        "capabilities": [status["CapEff"], status["CapPrm"], status["CapBnd"]],
        "writable": [place for place in ("/", "/app", "/opt/venv", "/etc", "/usr", "/var/tmp") if _writable(place)],
        "tmp": _writable("/tmp"),
    }


def _writable(folder: str) -> bool:
    try:
        place = Path(folder, "trial-of-writing")
        place.write_text("")
        place.unlink()
    except OSError:
        return False
    return True
