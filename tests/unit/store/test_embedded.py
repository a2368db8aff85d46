"""The embedded store on a real server: private, durable, quick, started again at the same address."""

import os
import signal
import socket
import stat
from pathlib import Path

import pytest
import redis
from loguru import logger

from flowcraft_server.store.embedded import EmbeddedStore, StoreError, running_url
from tests.unit.store.store_users import User, alive, eventually


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


def test_a_store_for_tests_keeps_nothing(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "data", fsync="no", durable=False) as store:
        assert client(store).config_get("appendonly") == {"appendonly": "no"}
        client(store).set("key", "value")
        pid = store.pid
    assert pid is not None
    assert not alive(pid)
    assert not list((tmp_path / "data").glob("*.rdb"))
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


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o777, 0o701])
def test_a_folder_that_others_could_read_is_made_private(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    shown: list[str] = []
    sink = logger.add(lambda message: shown.append(str(message)), level="WARNING")
    before = os.umask(0o000)
    try:
        for _ in range(2):
            with EmbeddedStore(folder) as store:
                redis.Redis.from_url(store.url).set("k", "v")
    finally:
        os.umask(before)
        logger.remove(sink)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(shown) == 1 and "others could read it" in shown[0]
    open_to_others = [path.name for path in folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert open_to_others in ([], [".gitignore"])


def test_data_that_an_open_folder_held_is_made_private_and_nothing_else_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with EmbeddedStore(folder) as store:
        redis.Redis.from_url(store.url).set("k", "v")
    (folder / "notes.txt").write_text("not ours")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with EmbeddedStore(folder) as store:
        assert redis.Redis.from_url(store.url).get("k") == b"v"
        open_to_others = {path.name for path in folder.rglob("*") if path.stat().st_mode & 0o077}
    assert open_to_others == {"notes.txt", ".gitignore"}


def test_a_link_among_the_data_is_not_followed(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "data"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    elsewhere.mkdir()
    elsewhere.chmod(0o755)
    (folder / "appendonlydir").symlink_to(elsewhere)
    with EmbeddedStore(folder, durable=False):
        pass
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StoreError, match="belongs to another user"):
        EmbeddedStore(tmp_path).start()
