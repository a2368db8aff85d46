"""The lock that reports who is alive: given back by the kernel, passed on to a child."""

import subprocess
import sys
from pathlib import Path

import pytest

from flowcraft_server.store.filelock import FileLock


def test_exclusive_locks_out_everybody(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    assert not second.acquire(shared=True)
    first.release()
    assert second.acquire(shared=True)


def test_shared_locks_stand_together_and_keep_out_an_exclusive_one(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire(shared=True)
    assert second.acquire(shared=True)
    assert not FileLock(tmp_path / "lock").acquire()


def test_the_last_holder_can_make_a_shared_lock_exclusive(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.acquire(shared=True)
    second.acquire(shared=True)
    assert not first.acquire()
    assert not first.held
    assert second.acquire()
    assert second.held


def test_a_child_that_got_the_descriptor_holds_on_to_the_lock(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    lock.acquire()
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=(lock.fd,)
    )
    try:
        lock.release()
        assert not FileLock(tmp_path / "lock").acquire()
    finally:
        child.kill()
        child.communicate()
    assert FileLock(tmp_path / "lock").acquire(wait=5)


def test_a_descriptor_is_there_only_while_locked(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    with pytest.raises(RuntimeError, match="is not locked"):
        _ = lock.fd
    lock.release()
