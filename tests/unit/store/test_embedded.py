"""The embedded store on a real server: private, joined by others, ended by the last, taken over after a kill."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from flowcraft_server.store.embedded import EmbeddedStore, NoServerBinary, StoreError, running_url
from flowcraft_server.store.filelock import FileLock

USER = """
import sys
from flowcraft_server.store.embedded import EmbeddedStore
store = EmbeddedStore(sys.argv[1], durable=sys.argv[2] == "durable")
store.start()
print(store.pid, store.attached, flush=True)
sys.stdin.readline()
"""


class User:
    """Another process that uses the store of a folder."""

    def __init__(self, folder: Path, kind: str = "durable") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(folder), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self.process.stdout is not None
        pid, attached = self.process.stdout.readline().split()
        self.server, self.attached = int(pid), attached == "True"

    def leave(self) -> None:
        self.process.communicate("\n", timeout=20)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return (
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z" if sys.platform == "linux" else True
    )


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    data = tmp_path / "data"
    yield data
    # A test that failed half way must not leave a server behind.
    with EmbeddedStore(data) as store:
        assert store.url


def client(store: EmbeddedStore) -> redis.Redis:
    return redis.Redis.from_url(store.url, decode_responses=True)


def test_it_answers_at_its_address_and_ends_with_the_block(folder: Path) -> None:
    with EmbeddedStore(folder) as store:
        assert store.url.startswith("unix:///")
        assert client(store).ping()
        pid = store.pid
        assert pid is not None
        assert not store.attached
        assert running_url(folder) == store.url
    assert not alive(pid)
    assert running_url(folder) is None
    assert not (folder / "store.sock").exists()
    assert not (folder / "store.pid").exists()


def test_only_this_user_can_reach_it(folder: Path) -> None:
    with EmbeddedStore(folder) as store:
        assert stat.S_IMODE((folder / "store.sock").stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert client(store).config_get("port") == {"port": "0"}
        assert client(store).info("server")["tcp_port"] == 0


def test_it_is_set_up_to_lose_nothing(folder: Path) -> None:
    with EmbeddedStore(folder, fsync="always") as store:
        found = client(store).config_get("appendonly", "appendfsync", "maxmemory-policy", "save")
    assert found == {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}


def test_a_store_for_tests_keeps_nothing_and_is_quick(tmp_path: Path) -> None:
    began = time.monotonic()
    with EmbeddedStore(tmp_path / "data", fsync="no", durable=False) as store:
        took = time.monotonic() - began
        assert client(store).config_get("appendonly") == {"appendonly": "no"}
        client(store).set("key", "value")
        pid = store.pid
    assert pid is not None
    assert not alive(pid)
    assert not list((tmp_path / "data").glob("*.rdb"))
    assert took < 2  # usually 0.04 s; the bound is for a busy machine
    with EmbeddedStore(tmp_path / "data", durable=False) as store:
        assert client(store).get("key") is None


def test_a_store_for_tests_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    user = User(tmp_path / "data", "fleeting")
    user.kill()
    assert eventually(lambda: not alive(user.server))


def test_it_survives_its_own_restart_with_its_data(folder: Path) -> None:
    with EmbeddedStore(folder) as store:
        client(store).set("key", "value")
    with EmbeddedStore(folder) as store:
        assert client(store).get("key") == "value"


def test_start_and_stop_may_be_called_again(folder: Path) -> None:
    store = EmbeddedStore(folder)
    url = store.start()
    pid = store.pid
    assert store.start() == url
    assert store.pid == pid
    store.stop()
    store.stop()
    with pytest.raises(StoreError, match="is not started"):
        _ = store.url
    assert store.pid is None
    assert store.start() == url
    store.stop()


def test_a_second_user_joins_and_the_last_one_ends_it(folder: Path) -> None:
    first = EmbeddedStore(folder)
    first.start()
    second = User(folder)
    assert second.attached
    assert second.server == first.pid
    first.stop()
    assert alive(second.server)
    third = EmbeddedStore(folder)
    third.start()
    assert third.attached
    second.leave()
    assert client(third).ping()
    third.stop()
    assert eventually(lambda: not alive(second.server))


def test_a_second_user_decides_anew_how_safe_writes_are(folder: Path) -> None:
    with EmbeddedStore(folder) as first, EmbeddedStore(folder, fsync="always"):
        assert client(first).config_get("appendfsync") == {"appendfsync": "always"}


def test_a_process_that_ends_normally_takes_the_server_with_it(folder: Path) -> None:
    user = User(folder)
    user.leave()
    assert user.process.returncode == 0
    assert not alive(user.server)


def test_after_a_kill_of_its_owner_the_next_user_takes_it_over(folder: Path) -> None:
    owner = User(folder)
    url = running_url(folder)
    assert url is not None
    redis.Redis.from_url(url).set("key", "value")
    owner.kill()
    assert alive(owner.server)
    with EmbeddedStore(folder) as store:
        assert store.attached
        assert store.pid == owner.server
        assert client(store).get("key") == "value"
    assert not alive(owner.server)


def test_what_was_answered_survives_a_kill_of_the_server(folder: Path) -> None:
    with EmbeddedStore(folder) as store:
        link = client(store)
        for number in range(2000):
            link.set(f"key:{number}", number)
        pid = store.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert eventually(store.ensure_running)
        assert store.pid not in (None, pid)
        assert client(store).dbsize() == 2000


def test_a_dead_server_is_started_again_at_the_same_address(folder: Path) -> None:
    with EmbeddedStore(folder) as store:
        url, pid = store.url, store.pid
        assert not store.ensure_running()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert eventually(store.ensure_running)
        assert store.url == url
        assert not store.ensure_running()
    assert not store.ensure_running()


def test_what_a_crash_left_lying_about_is_in_nobodys_way(folder: Path) -> None:
    folder.mkdir()
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(folder / "store.sock"))
    left.close()
    (folder / "socket").write_text(f"{folder / 'store.sock'}\n")
    (folder / "store.pid").write_text(f"{os.getpid()}\n")
    assert running_url(folder, timeout=0.01) is None
    with EmbeddedStore(folder) as store:
        assert not store.attached
        assert client(store).ping()


def test_a_long_path_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    data = tmp_path / ("long-" * 20) / "data"
    with EmbeddedStore(data) as store:
        socket_path = Path((data / "socket").read_text().strip())
        assert socket_path.parent != data
        assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o700
        assert running_url(data) == store.url == f"unix://{socket_path}"
        with EmbeddedStore(data) as second:
            assert second.url == store.url
        url, pid = store.url, store.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert eventually(store.ensure_running)
        assert store.url == url
    assert not socket_path.parent.exists()


def test_odd_characters_in_the_path_reach_the_client(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "a b%20?#ü") as store:
        assert client(store).ping()


def test_a_frozen_server_is_named_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = User(folder)
    monkeypatch.setattr("flowcraft_server.store.embedded.START_TIMEOUT", 0.1)
    os.kill(user.server, signal.SIGSTOP)
    try:
        with pytest.raises(StoreError, match=rf"held by a server \(process {user.server}\) that does not answer"):
            EmbeddedStore(folder).start()
    finally:
        os.kill(user.server, signal.SIGCONT)
    user.leave()


def test_a_start_by_another_that_never_ends_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    monkeypatch.setattr("flowcraft_server.store.embedded.START_TIMEOUT", 0.01)
    lock = FileLock(folder / "starting.lock")
    lock.acquire()
    with pytest.raises(StoreError, match="another process has been starting"):
        EmbeddedStore(folder).start()
    lock.release()


def test_a_server_that_refuses_its_data_says_why(folder: Path) -> None:
    with EmbeddedStore(folder) as store:
        client(store).set("key", "value")
    manifest = next((folder / "appendonlydir").glob("*.manifest"))
    kept = manifest.read_bytes()
    manifest.write_text("this is not a manifest\n")
    with pytest.raises(StoreError, match=r"the embedded store ended: .+ \(see .*store\.log\)"):
        EmbeddedStore(folder).start()
    assert running_url(folder) is None
    manifest.write_bytes(kept)
    with EmbeddedStore(folder) as store:
        assert client(store).get("key") == "value"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        EmbeddedStore(tmp_path / "file" / "data").start()


def test_without_a_server_program_nothing_is_held(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWCRAFT_REDIS_SERVER", str(tmp_path / "nowhere"))
    with pytest.raises(NoServerBinary):
        EmbeddedStore(folder).start()
    monkeypatch.delenv("FLOWCRAFT_REDIS_SERVER")
    with EmbeddedStore(folder) as store:
        assert not store.attached


def test_many_that_start_at_once_share_one_server(folder: Path) -> None:
    users = [
        subprocess.Popen(
            [sys.executable, "-c", USER, str(folder), "durable"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(6)
    ]
    said = [user.stdout.readline().split() for user in users if user.stdout is not None]
    assert len({pid for pid, _ in said}) == 1
    assert [attached for _, attached in said].count("False") == 1
    for user in users:
        user.communicate("\n", timeout=20)
    assert not alive(int(said[0][0]))


def test_a_forked_child_does_not_end_its_parents_store(folder: Path) -> None:
    with EmbeddedStore(folder) as store:
        child = os.fork()
        if child == 0:
            store.stop()
            os._exit(0)
        os.waitpid(child, 0)
        assert client(store).ping()
