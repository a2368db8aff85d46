"""Child processes: started, started again, stopped, and never left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowcraft_server.service import supervisor as supervising
from flowcraft_server.service.components import serve
from flowcraft_server.service.stopping import StopRequests
from flowcraft_server.service.supervisor import Supervisor
from flowcraft_server.worker.execution_record import read_record

CHILD = """
import os, signal, sys, time
from pathlib import Path
from flowcraft_server.service.parent_watch import end_with_parent
from flowcraft_server.service.stopping import StopRequests
place, mode = Path(sys.argv[1]), sys.argv[2]
stop = StopRequests()
with stop.on_signals():
    end_with_parent(os.getppid(), int(sys.argv[-1]), stop.request)
    if mode == "working":  # until the file `broken` is there: then a fresh one does not come to work
        if (place.parent / "broken").exists(): sys.exit(4)
        from flowcraft_server.worker.execution_record import ExecutionRecord
        options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
        ExecutionRecord(int(options["--executing"])).heartbeat()
    (place / str(os.getpid())).write_text("began")
    if mode == "stubborn":
        while True: time.sleep(1)
    if mode == "failing": sys.exit(3)
    if mode == "dying":
        from flowcraft_server.worker.execution_record import ExecutionRecord
        options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
        ExecutionRecord(int(options["--executing"])).begin(b"7|run|node[3]")
        os._exit(9)
    if mode in ("frozen", "late"):
        from flowcraft_server.worker.execution_record import ExecutionRecord
        options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
        record = ExecutionRecord(int(options["--executing"]))
        if mode == "frozen":
            record.begin(b"7|run|node[3]")
            record.heartbeat()
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(1)  # longer than a process may be silent, but it has not begun to report
        record.heartbeat()
        stop.wait(0.1)
        record.heartbeat()
        (place / "reported").write_text("")
    while not stop.wait(10): pass
    if mode == "twice":
        while not stop.now: stop.wait(10)
    (place / str(os.getpid())).write_text("ended well")
"""

PARENT = """
import sys
from flowcraft_server.service.stopping import StopRequests
from flowcraft_server.service.supervisor import Supervisor
from flowcraft_server.service.components import serve
import os
serve([Supervisor(sys.argv[1:], 2, os.environ)], StopRequests(), 5)
"""


def command(place: Path, mode: str = "obedient") -> list[str]:
    return [sys.executable, "-c", CHILD, str(place), mode]


ENVIRON = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def eventually(condition: object, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


class Looks:
    """A component that counts the calls of the loop, and may look at something each time."""

    def __init__(self, look: Callable[[], None] = lambda: None) -> None:
        self.look = look
        self.count = 0
        self.drains = 0

    def start(self) -> None:
        """There is nothing to start."""

    def health(self) -> list[str]:
        self.count += 1
        self.look()
        return []

    def drain(self, deadline: float) -> bool:
        self.drains += 1
        return True

    def stop(self) -> bool:
        return True


class Served:
    """A supervisor that serves in a thread."""

    def __init__(self, place: Path, mode: str = "obedient", count: int = 2, drain_timeout: float = 10) -> None:
        self.place = place
        self.stop = StopRequests()
        self.supervisor = Supervisor(command(place, mode), count, ENVIRON)
        self.result: list[bool] = []
        self.looks = Looks()
        self.thread = threading.Thread(target=self._serve, args=(drain_timeout,))
        self.thread.start()

    def _serve(self, drain_timeout: float) -> None:
        self.result.append(serve([self.supervisor, self.looks], self.stop, drain_timeout))

    def began(self, count: int) -> list[int]:
        assert eventually(lambda: len(list(self.place.iterdir())) >= count)
        return [int(path.name) for path in self.place.iterdir()]

    def ends(self) -> bool:
        self.thread.join(30)
        self.stop.close()
        return self.result[0]


def test_children_run_until_a_stop_and_end_well(tmp_path: Path) -> None:
    served = Served(tmp_path)
    pids = served.began(2)
    assert sorted(served.supervisor.pids) == sorted(pids)
    assert eventually(lambda: served.looks.count > 0)
    served.stop.request()
    assert served.ends()
    assert {path.read_text() for path in tmp_path.iterdir()} == {"ended well"}


def test_a_child_that_dies_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "FIRST_PAUSE", 0.01)
    served = Served(tmp_path)
    first, second = served.began(2)
    os.kill(first, signal.SIGKILL)
    pids = served.began(3)
    assert eventually(lambda: len(served.supervisor.pids) == 2)
    assert second in served.supervisor.pids
    assert first not in served.supervisor.pids
    assert len(pids) == 3
    served.stop.request()
    assert served.ends()


def test_one_that_fails_at_once_is_started_ever_more_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "FIRST_PAUSE", 60.0)
    served = Served(tmp_path, "failing", count=1)
    served.began(1)
    assert eventually(lambda: not served.supervisor.pids)
    ticks = served.looks.count
    assert eventually(lambda: served.looks.count >= ticks + 2)
    assert len(list(tmp_path.iterdir())) == 1
    served.stop.request()
    assert served.ends()


def test_a_second_stop_is_passed_on(tmp_path: Path) -> None:
    served = Served(tmp_path, "twice")
    served.began(2)
    served.stop.request()
    assert eventually(lambda: served.looks.drains > 1)
    assert len(served.supervisor.pids) == 2
    served.stop.request()
    assert served.ends()


def test_one_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "KILL_AFTER", 0.2)
    served = Served(tmp_path, "stubborn", count=1, drain_timeout=0.0)
    (pid,) = served.began(1)
    served.stop.request()
    assert not served.ends()
    assert not alive(pid)


def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *command(tmp_path)], env=ENVIRON)
    assert eventually(lambda: len(list(tmp_path.iterdir())) == 2)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    parent.kill()
    parent.wait()
    assert eventually(lambda: not any(alive(pid) for pid in pids))
    assert {path.read_text() for path in tmp_path.iterdir()} == {"ended well"}


def test_the_pipe_does_where_the_kernel_does_not() -> None:
    from flowcraft_server.service import parent_watch

    reading, writing = os.pipe()
    reported = threading.Event()
    asked = parent_watch._ask_kernel
    try:
        parent_watch._ask_kernel = lambda: False
        parent_watch.end_with_parent(os.getppid(), reading, reported.set)
        assert not reported.wait(0.02)
        os.close(writing)
        assert reported.wait(60)
    finally:
        parent_watch._ask_kernel = asked
        os.close(reading)


def test_a_parent_that_died_before_the_child_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowcraft_server.service import parent_watch

    monkeypatch.setattr(parent_watch, "_ask_kernel", lambda: True)
    reported = threading.Event()
    parent_watch.end_with_parent(-1, 0, reported.set)
    assert reported.is_set()


def test_the_nodes_of_a_child_that_died_are_given_up_with_what_it_executed(tmp_path: Path) -> None:
    stop = StopRequests()
    reported: list[tuple[str, object]] = []

    def give_up(worker: str, record: int | None) -> int:
        assert record is not None
        reported.append((worker, read_record(record)))
        stop.request()
        return 1

    serve([Supervisor(command(tmp_path, "dying"), 1, ENVIRON, give_up)], stop, 5)
    stop.close()
    (worker, executed), *_ = reported
    assert worker.startswith("w")
    assert executed == [("run", "node[3]", "7")]


def test_a_child_that_stands_still_is_killed_and_its_nodes_are_given_up(tmp_path: Path) -> None:
    stop = StopRequests()
    reported: list[object] = []

    def give_up(worker: str, record: int | None) -> int:
        assert record is not None
        reported.append(read_record(record))
        if len(reported) == 2:
            stop.request()
        return 1

    serve([Supervisor(command(tmp_path, "frozen"), 1, ENVIRON, give_up, max_silence=0.4)], stop, 0)
    stop.close()
    assert reported == [[("run", "node[3]", "7")]] * 2, "it was started again, and killed again"


def test_a_child_that_has_not_begun_to_report_is_left_alone(tmp_path: Path) -> None:
    stop = StopRequests()
    reported: list[str] = []

    def look() -> None:
        if (tmp_path / "reported").exists():
            stop.request()

    supervisor = Supervisor(command(tmp_path, "late"), 1, ENVIRON, lambda *_: len(reported), max_silence=0.9)
    assert serve([supervisor, Looks(look)], stop, 5)
    stop.close()
    assert len(list(tmp_path.glob("[0-9]*"))) == 1, "one process was enough"


def test_a_parent_that_died_before_the_child_looked_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowcraft_server.service import parent_watch

    monkeypatch.setattr(parent_watch, "_ask_kernel", lambda: True)
    for ended in (False, True):
        reported = threading.Event()
        reading, writing = os.pipe()
        if ended:
            os.close(writing)
        parent_watch.end_with_parent(os.getppid(), reading, reported.set)
        assert reported.is_set() is ended
        os.close(reading)
        if not ended:
            os.close(writing)


@pytest.fixture
def working(tmp_path: Path) -> Iterator[Served]:
    """Two processes that report that they work."""
    place = tmp_path / "processes"
    place.mkdir()
    served = Served(place, "working")
    served.began(2)
    yield served
    served.stop.request()
    served.ends()


def test_all_are_replaced_and_none_goes_before_a_fresh_one_works(working: Served) -> None:
    old = working.supervisor.pids
    fewest: list[int] = []
    working.looks.look = lambda: fewest.append(len(working.supervisor.pids))
    replacement = working.supervisor.replace_all()
    assert replacement.done.wait(30)
    assert (replacement.replaced, replacement.error) == (2, "")
    assert eventually(lambda: len(working.supervisor.pids) == 2)
    assert not set(working.supervisor.pids) & set(old)
    assert min(fewest) >= 2
    for pid in old:
        assert eventually(lambda pid=pid: (working.place / str(pid)).read_text() == "ended well")  # type: ignore[misc]


def test_those_that_run_stay_where_a_fresh_one_does_not_come_to_work(working: Served) -> None:
    old = working.supervisor.pids
    (working.place.parent / "broken").touch()
    replacement = working.supervisor.replace_all()
    assert replacement.done.wait(30)
    assert replacement.replaced == 0
    assert "exit code 4" in replacement.error
    assert working.supervisor.pids == old


def test_one_of_several_is_drained(working: Served) -> None:
    first, second = working.supervisor.workers
    working.supervisor.drain_worker(first)
    assert eventually(lambda: working.supervisor.has_left(first))
    assert working.supervisor.workers == [second]
    ticks = working.looks.count
    assert eventually(lambda: working.looks.count >= ticks + 2)
    assert len(working.supervisor.pids) == 1, "none takes its place"
