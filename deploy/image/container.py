"""Runs a command as PID 1 of namespaces of its own, on a read-only root file system: what a container engine does."""

import os
import shlex
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .build import Image

DEVICES = ("null", "zero", "full", "random", "urandom")
LOOK_PAUSE = 0.05


class MemoryGroup:
    """A control group that limits the memory of processes, of either version; see `create`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, limit: int) -> "MemoryGroup":
        """Make a group.

        Args:
            limit: in bytes.

        Raises:
            OSError: this machine does not allow it.
        """
        first = Path("/sys/fs/cgroup/memory")
        parent, file = (first, "memory.limit_in_bytes") if first.is_dir() else (Path("/sys/fs/cgroup"), "memory.max")
        folder = parent / f"flowcraft-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        try:
            (folder / file).write_text(str(limit))
        except OSError:
            folder.rmdir()
            raise
        return cls(folder)

    def remove(self) -> None:
        """Remove the group, which must be empty."""
        self.folder.rmdir()


@dataclass
class Container:
    """A container of an image.

    Args:
        image: what it is made from.
        environ: variables beside the image's own.
        hostname: its name.
        mounts: folders of this host by their place inside; they can be written to only if their owner allows it.
        memory: the group that limits its memory; None for no limit.
        log: the file that receives its output.
    """

    image: Image
    environ: Mapping[str, str]
    hostname: str
    mounts: Mapping[str, Path]
    log: Path
    memory: MemoryGroup | None = None
    pid: int = 0
    """The process id, on this host, of what is PID 1 inside."""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self, command: Sequence[str] | None = None) -> None:
        """Start the image's command, or another behind its entry point."""
        root = shlex.quote(str(self.image.root))
        lines = ["set -e", "mount --make-rprivate /", f"mount --bind {root} {root}"]
        for inside, outside in self.mounts.items():
            place = self.image.root / inside.lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            lines.append(f"mount --bind {shlex.quote(str(outside))} {shlex.quote(str(place))}")
            lines.append(f"mount -o remount,bind,ro {shlex.quote(str(place))}")
        lines += [
            f"mount -o remount,bind,ro {root}",
            f"mount -t tmpfs -o size=64m,mode=1777 tmpfs {root}/tmp",
            f"mount -t proc proc {root}/proc",
            f"mount -t tmpfs -o size=64k,mode=755 tmpfs {root}/dev",
            *(f"touch {root}/dev/{name}; mount --bind /dev/{name} {root}/dev/{name}" for name in DEVICES),
            f"hostname {shlex.quote(self.hostname)}",
            'exec chroot "$0" "$@"',
        ]
        join = f"echo $$ > {self.memory.folder}/cgroup.procs; " if self.memory else ""
        unshare = "exec unshare --pid --mount --ipc --uts --fork --kill-child=SIGKILL -- "
        whole = [*self.image.entrypoint, *(self.image.command if command is None else command)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", join + unshare + 'sh -c "$0" "$@"', "\n".join(lines), str(self.image.root)]
                + self._as_user(whole),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        outer = self._process.pid
        wait_until(lambda: bool(_children(outer)) or not self.is_running, 10, "no process was started inside")
        assert self.is_running, self.log.read_text(errors="replace")[-4000:]
        (self.pid,) = _children(outer)

    def execute(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as the image's user, and wait for its end."""
        enter = ["nsenter", f"--target={self.pid}", "--pid", "--mount", "--ipc", "--uts", "--root", "--wd"]
        return subprocess.run(
            [*enter, *self._as_user(command)], capture_output=True, text=True, check=False, timeout=60
        )

    def stop(self, seconds: float) -> int:
        """Send the image's stop signal, and SIGKILL after so many seconds; returns the exit code."""
        assert self._process is not None, "not started"
        if self.is_running:
            os.kill(self.pid, signal.Signals[self.image.stop_signal])
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(10)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def processes(self) -> dict[int, str]:
        """Its processes by their id on this host, each with its state: a letter of proc(5)."""
        known = _all_processes()
        found, unseen = {}, [self.pid]
        while unseen:
            pid = unseen.pop()
            if pid in known:
                found[pid] = known[pid][1]
            unseen += [child for child, (parent, _) in known.items() if parent == pid]
        return found

    def _as_user(self, command: Sequence[str]) -> list[str]:
        uid, _, gid = self.image.user.partition(":")
        environ = {**self.image.env, "HOME": "/app", **self.environ}
        return [
            "setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--bounding-set=-all",
            "--inh-caps=-all", "env", "-i", "-C", self.image.workdir,
            *(f"{name}={value}" for name, value in environ.items()), *command,
        ]  # fmt: skip


def wait_until(condition: Callable[[], bool], seconds: float, failure: str) -> float:
    """Wait for a condition; returns after how many seconds it held.

    Raises:
        AssertionError: with `failure`, when it does not hold in time.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"{failure} (within {seconds:g} s)")
        time.sleep(LOOK_PAUSE)
    return time.monotonic() - began


def _children(pid: int) -> list[int]:
    return [child for child, (parent, _) in _all_processes().items() if parent == pid]


def _all_processes() -> dict[int, tuple[int, str]]:
    """The parent and the state of each process of this host, by its id."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            found[int(folder.name)] = int(parent), state
    return found
