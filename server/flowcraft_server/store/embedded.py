"""The embedded store: a real Valkey or Redis server of our own, on a private socket, with its data in a folder.

Three locks in the data folder say the truth about it, because the kernel gives them back when their holder dies:
`starting.lock` is held by the process that starts or stops the server, `store.lock` by the server itself, and `holders.lock`
is shared by all processes that use the server. The last of those to leave stops it. A user that was killed leaves the
server running, and the next one takes it over.
"""

import atexit
import os
import stat
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from loguru import logger

from flowcraft_sdk.protocol.clock import clock

from .binary import NoServerBinary, find_server
from .filelock import FileLock
from .server_process import (
    LONGEST_SOCKET_PATH,
    ServerProcess,
    StoreError,
    ask,
    private,
    server_pid,
    shut_down,
    wait_until_ready,
)

__all__ = ["EmbeddedStore", "Fsync", "NoServerBinary", "StoreError", "running_url"]

Fsync = Literal["always", "everysec", "no"]

START_TIMEOUT = 15.0
"""Seconds that a server may take to answer; reading its data back does not count."""


class EmbeddedStore:
    """A server for the processes of one folder; started, or joined when it is already running.

    Args:
        data_dir: folder for the data, made when missing (mode 700).
        fsync: when writes reach the disk: `always` before each answer, `everysec`, or `no`: when the system likes.
        durable: False keeps nothing on disk and ends the server with this process, even when that is killed: for tests.

    Raises:
        NoServerBinary: by `start`, when there is no server program.
        StoreError: by `start`, when the server does not start or another process holds the folder.
    """

    def __init__(self, data_dir: str | Path, fsync: Fsync = "everysec", *, durable: bool = True) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.fsync: Fsync = fsync
        self.durable = durable
        self.attached = False
        """Whether the server was running already when `start` was called."""
        self._starting = FileLock(self.data_dir / "starting.lock")
        self._holders = FileLock(self.data_dir / "holders.lock")
        self._server_lock = FileLock(self.data_dir / "store.lock")
        self._process: ServerProcess | None = None
        self._socket: Path | None = None
        self._user = 0

    @property
    def url(self) -> str:
        """Address for clients, `unix:///...`.

        Raises:
            StoreError: the store is not started.
        """
        if self._socket is None:
            raise StoreError("the embedded store is not started")
        return _url(self._socket)

    @property
    def pid(self) -> int | None:
        """Process id of the server, None when it does not answer."""
        return server_pid(self._socket) if self._socket else None

    def start(self) -> str:
        """Start the server or join the one that runs in this folder; returns its address."""
        if self._holders.held:
            return self.url
        self._make_folder()
        self._lock_start()
        try:
            if not self._holders.acquire(shared=True, wait=START_TIMEOUT):
                raise StoreError(f"{self.data_dir}: another process is closing the embedded store; try again")
            self._socket = self._run_or_join()
        except BaseException:
            self._holders.release()
            raise
        finally:
            self._starting.release()
        self._user = os.getpid()
        atexit.register(self.stop)
        return self.url

    def ensure_running(self) -> bool:
        """Start the server again when it died; returns whether that was needed. Its address stays the same."""
        if not self._holders.held or self._server_runs():
            return False
        self._lock_start()
        try:
            if self._server_runs():  # another user of the folder was faster
                return False
            if self._process is not None:
                self._process.close()
            self._socket = self._run_or_join()
        finally:
            self._starting.release()
        return True

    def stop(self) -> None:
        """Leave the server; it is ended when no other process uses it. Harmless when called again."""
        if not self._holders.held or self._user != os.getpid():  # a forked child must not end its parent's store
            return
        atexit.unregister(self.stop)
        socket, process = self._socket, self._process
        self._socket = self._process = None
        self._lock_start()
        try:
            if self._holders.acquire() and socket is not None:
                shut_down(socket, self._server_lock, process)
                self._remove_traces(socket)
        finally:
            self._holders.release()
            self._starting.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _make_folder(self) -> None:
        try:
            if not self.data_dir.exists():
                # Another process may make it at the same instant: several may start at once.
                self.data_dir.mkdir(parents=True, mode=0o700, exist_ok=True)
                (self.data_dir / ".gitignore").write_text("*\n")
        except OSError as error:
            raise StoreError(f"{self.data_dir}: cannot be made: {error.strerror}") from error
        self._make_private()

    def _make_private(self) -> None:
        """Others are not to read what runs hold: neither the files in the folder nor through the server's socket."""
        try:
            found = self.data_dir.stat()
            if not stat.S_ISDIR(found.st_mode):
                raise StoreError(f"{self.data_dir}: is no folder")
            if found.st_uid != os.geteuid() and os.geteuid() != 0:
                raise StoreError(
                    f"{self.data_dir}: belongs to another user: that one could read and change all runs; name another"
                )
            if found.st_mode & 0o077:
                self.data_dir.chmod(0o700)
                self._make_data_private()
                logger.warning("{}: others could read it; it is private now (mode 700)", self.data_dir)
        except OSError as error:
            raise StoreError(f"{self.data_dir}: cannot be made private: {error.strerror}") from error

    def _make_data_private(self) -> None:
        """What an earlier server left, while the folder was open: what else lies there is not ours to change."""
        log, kept = self.data_dir / "store.log", self.data_dir / "appendonlydir"
        inside = kept.iterdir() if kept.is_dir() and not kept.is_symlink() else ()
        locks = (lock.path for lock in (self._starting, self._holders, self._server_lock))
        for path in (log, kept, *inside, *locks):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:  # there was none, or the running server has just rewritten its data
                continue
            if mode & 0o077 and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                path.chmod(mode & 0o700)

    def _lock_start(self) -> None:
        try:
            free = self._starting.acquire(wait=2 * START_TIMEOUT)
        except OSError as error:
            raise StoreError(f"{self._starting.path}: cannot be locked: {error.strerror}") from error
        if not free:
            raise StoreError(f"{self.data_dir}: another process has been starting the embedded store for too long")

    def _server_runs(self) -> bool:
        free = self._server_lock.acquire()
        self._server_lock.release()
        return not free

    def _run_or_join(self) -> Path:
        # Not at the first refusal: another user may be looking for a moment whether the server lives.
        if not self._server_lock.acquire(wait=0.05):
            self.attached = True
            return self._join()
        try:
            return self._run()
        finally:
            self._server_lock.release()  # the server holds it by now, or it has ended

    def _join(self) -> Path:
        socket = _recorded_socket(self.data_dir)
        try:
            wait_until_ready(socket, START_TIMEOUT)
        except StoreError as error:
            pid = _recorded_pid(self.data_dir)
            raise StoreError(
                f"{self.data_dir} is held by a server{f' (process {pid})' if pid else ''} that does not answer at "
                f"{socket}; end that process and try again"
            ) from error
        if self.durable:
            with ask(socket, START_TIMEOUT) as client:
                client.config_set("appendfsync", self.fsync)
        return socket

    def _run(self) -> Path:
        program = find_server()
        self._remove_traces(_recorded_socket(self.data_dir))
        socket = self._choose_socket()
        with open(self.data_dir / "socket", "w", encoding="utf-8", opener=private) as file:
            file.write(f"{socket}\n")
        process = ServerProcess(program, self.data_dir, socket, self._options(), self._server_lock.fd, self.durable)
        try:
            wait_until_ready(socket, START_TIMEOUT, process)
        except BaseException:
            process.kill()
            raise
        self._process = process
        return socket

    def _choose_socket(self) -> Path:
        if self._socket is not None and self._socket.parent.exists():  # clients know the address already
            return self._socket
        socket = self.data_dir / "store.sock"
        if len(os.fsencode(socket)) > LONGEST_SOCKET_PATH:
            socket = Path(tempfile.mkdtemp(prefix="flowcraft-")) / "store.sock"  # mkdtemp's folders are private
        return socket

    def _options(self) -> list[str]:
        options = ["--save", "", "--maxmemory", "0", "--maxmemory-policy", "noeviction"]
        if self.durable:
            return [*options, "--appendonly", "yes", "--appendfsync", self.fsync]
        return [*options, "--appendonly", "no"]

    def _remove_traces(self, socket: Path) -> None:
        """Remove what a server that has ended may have left, never its data."""
        for path in (socket, self.data_dir / "socket", self.data_dir / "store.pid"):
            path.unlink(missing_ok=True)
        if socket.parent != self.data_dir and socket.parent != (self._socket and self._socket.parent):
            try:
                socket.parent.rmdir()
            except OSError:  # not empty, so not ours alone, or gone already
                return


def running_url(data_dir: str | Path, timeout: float = 1.0) -> str | None:
    """Address of the server that runs for a data folder, None when there is none that answers.

    Args:
        timeout: seconds to wait for an answer.
    """
    socket = _recorded_socket(Path(data_dir).absolute())
    deadline = clock() + timeout
    while socket.exists():
        if server_pid(socket, timeout=timeout) is not None:
            return _url(socket)
        if clock() >= deadline:
            return None
        time.sleep(0.01)
    return None


def _url(socket: Path) -> str:
    return "unix://" + quote(str(socket))


def _recorded_socket(data_dir: Path) -> Path:
    try:
        return Path((data_dir / "socket").read_text().strip() or data_dir / "store.sock")
    except OSError:
        return data_dir / "store.sock"


def _recorded_pid(data_dir: Path) -> int | None:
    try:
        return int((data_dir / "store.pid").read_text())
    except (OSError, ValueError):
        return None
