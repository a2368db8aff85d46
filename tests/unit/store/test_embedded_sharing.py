"""Several processes on one embedded store: joined, ended by the last, taken over after a kill; what stands in the way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from flowcraft_server.store.embedded import EmbeddedStore, NoServerBinary, StoreError, running_url
from flowcraft_server.store.filelock import FileLock
from tests.unit.store.store_users import USER, User, alive, eventually


def client(store: EmbeddedStore) -> redis.Redis:
    return redis.Redis.from_url(store.url, decode_responses=True)


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
    shown = [user.stdout.readline().split() for user in users if user.stdout is not None]
    assert len({pid for pid, _ in shown}) == 1
    assert [attached for _, attached in shown].count("False") == 1
    for user in users:
        user.communicate("\n", timeout=20)
    assert not alive(int(shown[0][0]))


def test_a_forked_child_does_not_end_its_parents_store(folder: Path) -> None:
    with EmbeddedStore(folder) as store:
        child = os.fork()
        if child == 0:
            store.stop()
            os._exit(0)
        os.waitpid(child, 0)
        assert client(store).ping()
