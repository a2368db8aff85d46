"""Where figures go: one JSON file for each benchmark, `benchmarks/results/NAME.json`."""

import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")


def write(name: str, figures: dict[str, Any]) -> Path:
    """Keep the figures of one benchmark, with what they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    machine = {"processors": os.cpu_count(), "python": platform.python_version(), "load": round(os.getloadavg()[0], 2)}
    path.write_text(json.dumps({"machine": machine, **figures}, indent=1) + "\n")
    return path


def read(name: str) -> dict[str, Any] | None:
    """The figures kept last, None if there are none."""
    path = RESULTS / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.exists() else None
