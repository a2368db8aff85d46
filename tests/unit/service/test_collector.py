"""How often a worker process looks for garbage."""

import subprocess
import sys

import pytest

from flowcraft_server.service.gc_tuning import YOUNG

PROGRAM = """
import gc, sys
from flowcraft_server.service.gc_tuning import collect_less_often
if len(sys.argv) > 1:
    gc.set_threshold(int(sys.argv[1]), 7, 9)
others = gc.get_threshold()[1:]
collect_less_often()
print(gc.get_threshold()[0], gc.get_threshold()[1:] == others, gc.get_freeze_count() > 1000)
"""


@pytest.mark.parametrize(("before", "after"), [(None, YOUNG), (100, YOUNG), (100_000, 100_000), (0, 0)])
def test_it_looks_less_often_unless_a_handler_s_module_wants_it_rarer_still(before: int | None, after: int) -> None:
    arguments = [] if before is None else [str(before)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [str(after), "True", "True"]
