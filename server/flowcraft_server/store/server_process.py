"""The process of the embedded server: started, waited for, ended."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from flowcraft_sdk.protocol.clock import clock

from .filelock import FileLock

if TYPE_CHECKING:  # whether a server runs is seen without redis-py, where none does
    import redis

LONGEST_SOCKET_PATH = 103
"""Bytes that a socket's path may have: 107 on Linux, 103 on macOS."""

LONGEST_LOG = 1024 * 1024
"""Bytes after which the server's log is begun anew when it starts."""

# Ends the server when the pipe that only its owner holds is closed, as it is when the owner is killed.
_GUARD = '"$@" & server=$!; read -r _; kill -TERM "$server" 2>/dev/null; wait "$server"'


class StoreError(Exception):
    """The embedded store cannot be started, joined or ended. The message is one line that says why."""


class ServerProcess:
    """A server that was started by this process.

    Args:
        program: the server program.
        data_dir: folder it works in; its log is `store.log` there.
        socket: path of the socket it listens at, and nowhere else.
        options: further options of the server.
        lock_fd: descriptor of a lock that is to be held for as long as the server lives.
        survives: whether the server goes on when this process is killed.
    """

    def __init__(
        self, program: Path, data_dir: Path, socket: Path, options: Sequence[str], lock_fd: int, survives: bool
    ) -> None:
        self.log = data_dir / "store.log"
        mode = "ab" if self.log.exists() and self.log.stat().st_size < LONGEST_LOG else "wb"
        command = [str(program), *_fixed_options(data_dir, socket), *options]
        if not survives:
            command = ["/bin/sh", "-c", _GUARD, "sh", *command]
        try:
            with open(self.log, mode, opener=private) as log:
                self._log_start = log.tell()
                self._popen = subprocess.Popen(
                    command,
                    cwd=data_dir,
                    stdin=subprocess.DEVNULL if survives else subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock_fd,),
                    umask=0o077,
                    start_new_session=True,  # Ctrl-C on the terminal is for its owner, not for the store
                    env={name: os.environ[name] for name in ("PATH", "TZ", "TMPDIR") if name in os.environ},
                )
        except OSError as error:
            raise StoreError(f"the embedded store cannot be started: {program}: {error.strerror}") from error
        self._pipe: IO[bytes] | None = self._popen.stdin

    @property
    def ended(self) -> bool:
        """Whether the server has ended."""
        return self._popen.poll() is not None

    def problem(self) -> str:
        """The last line that the server logged since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read()[-4096:].decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "it logged nothing")

    def close(self, timeout: float = 5.0) -> None:
        """Wait at most `timeout` seconds for the end of a server that was asked to end."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def kill(self) -> None:
        """End a server that never became ready."""
        self._popen.terminate()
        self.close()


def private(path: str, flags: int) -> int:
    """Open a file, for `open`'s opener: one that is made is its user's alone."""
    return os.open(path, flags, 0o600)


def ask(socket: Path, timeout: float) -> "redis.Redis":
    """A client of the server at a socket that waits `timeout` seconds for an answer and sends nothing twice."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis(unix_socket_path=str(socket), socket_timeout=timeout, retry=Retry(NoBackoff(), 0))


def wait_until_ready(socket: Path, timeout: float, process: ServerProcess | None = None) -> None:
    """Wait until a server answers at a socket.

    Args:
        timeout: seconds to wait; the time in which the server reads its data is not counted.
        process: the server, if this process started it: when it ends there is nothing to wait for.

    Raises:
        StoreError: it ended or did not answer in time.
    """
    import redis

    deadline = clock() + timeout
    pause = 0.001
    with ask(socket, timeout) as client:
        while True:
            try:
                client.ping()
                return
            except redis.exceptions.BusyLoadingError:
                deadline = clock() + timeout
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                if process is not None and process.ended:
                    raise StoreError(f"the embedded store ended: {process.problem()} (see {process.log})") from None
            if clock() >= deadline:
                raise StoreError(f"the embedded store did not answer at {socket} for {timeout:g} s")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)


def server_pid(socket: Path, timeout: float = 1.0) -> int | None:
    """Process id of the server that answers at a socket within `timeout` seconds, else None."""
    import redis

    try:
        with ask(socket, timeout) as client:
            return int(client.info("server")["process_id"])
    except (redis.exceptions.RedisError, OSError):
        return None


def shut_down(socket: Path, lock: FileLock, process: ServerProcess | None, timeout: float = 10.0) -> None:
    """End a server, gently if it listens: what it has answered is on disk afterwards.

    Args:
        lock: the lock that the server holds while it lives; free for others on return.
        process: the server, if this process started it.
        timeout: seconds before the next harder way is taken.

    Raises:
        StoreError: it lives in spite of all.
    """
    import redis

    pid = server_pid(socket)
    if pid is not None:
        try:
            with ask(socket, timeout) as client:
                client.execute_command("SHUTDOWN", "NOSAVE")  # the append-only file is written out nevertheless
        except redis.exceptions.RedisError:
            pass  # the connection ends with the server, and a refusal is answered by the signals below
    if process is not None:
        process.close(timeout)
    ended = lock.acquire(wait=timeout if pid is not None else 0.0)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not ended and pid is not None:
            os.kill(pid, number)
            ended = lock.acquire(wait=timeout)
    lock.release()
    if not ended:
        raise StoreError(f"the embedded store at {socket} could not be ended{f' (process {pid})' if pid else ''}")


def _fixed_options(data_dir: Path, socket: Path) -> list[str]:
    # No TCP port: the socket can be opened by the user that may read the data, and by no other.
    return [
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--dir", str(data_dir), "--pidfile", str(data_dir / "store.pid"), "--daemonize", "no"),
        *("--loglevel", "notice", "--logfile", ""),
    ]
