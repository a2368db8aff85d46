"""What the image must do, each a function that raises AssertionError when it does not."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from flowcraft_sdk import Client, RunFailedError
from flowcraft_server.store.binary import find_server

from .build import Image
from .container import Container, MemoryGroup, wait_until

DEPLOYMENT = Path(__file__).parent / "deployment"
NAMESPACE = "image-trial"
REDIS_FOLDER = "/run/redis"
MEMORY = 600 * 1024 * 1024
HEALTH_SECONDS = 15.0
"""Seconds after which a health check must have noticed a worker that does nothing any more."""

GRACE = 30.0
"""Seconds that a container has between the stop signal and SIGKILL, as `terminationGracePeriodSeconds` would be."""


class Trial:
    """An image, a Redis on this host whose socket is mounted into its containers, and a client of it."""

    def __init__(self, image: Image, folder: Path) -> None:
        self.image = image
        self.folder = folder
        self.redis_folder = folder / "redis"
        self.redis_folder.mkdir(mode=0o755)
        self._count = 0
        self._redis = subprocess.Popen(
            [
                find_server(), "--port", "0", "--unixsocket", "redis.sock", "--unixsocketperm", "777", "--save", "",
                "--appendonly", "no", "--maxmemory-policy", "noeviction", "--dir", ".",
            ],
            cwd=self.redis_folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.url = f"unix://{self.redis_folder}/redis.sock"
        wait_until(self._answers, 10, "Redis does not answer")
        self.client = Client(self.url, namespace=NAMESPACE)

    def close(self) -> None:
        """End Redis."""
        self.client.close()
        self._redis.terminate()
        self._redis.wait(10)

    @contextmanager
    def container(
        self, memory: MemoryGroup | None = None, *, deployment: Path | None = DEPLOYMENT
    ) -> Iterator[Container]:
        """A healthy container, which is killed in the end if it still runs.

        Args:
            deployment: the folder mounted at /app; None leaves the image's own there.
        """
        self._count += 1
        log = self.folder / f"container-{self._count}.log"
        mounts = {REDIS_FOLDER: self.redis_folder} | ({"/app": deployment} if deployment else {})
        environ = {"REDIS_URL": f"unix://{REDIS_FOLDER}/redis.sock"}
        container = Container(self.image, environ, f"trial-{self._count}", mounts, log, memory)
        container.start()
        try:
            wait_until(lambda: not container.is_running or self.is_healthy(container), 60, "it does not become healthy")
            assert container.is_running, "it ended by itself"
            yield container
        except BaseException:
            print(log.read_text(errors="replace")[-4000:])
            raise
        finally:
            if container.is_running:
                os.kill(container.pid, signal.SIGKILL)
                container.stop(10)

    def is_healthy(self, container: Container) -> bool:
        """Whether the image's health check says so, run inside."""
        return container.execute(self.image.healthcheck).returncode == 0

    def _answers(self) -> bool:
        try:
            return bool(redis.Redis.from_url(self.url).ping())
        except redis.exceptions.RedisError:
            return False


def own_deployment(trial: Trial) -> str:
    """The deployment inside the image passes its check and becomes healthy."""
    with trial.container(deployment=None) as container:
        checked = container.execute(["flowcraft-server", "check", "--offline"])
        assert checked.returncode == 0, checked.stdout + checked.stderr
        code = container.stop(GRACE)
        assert code == 0, f"exit code {code}"
    return "its own deployment is checked, becomes healthy and ends with exit code 0"


def serves_without_rights(trial: Trial) -> str:
    """Runs are served by uid 10001 without capabilities, on a root file system that cannot be written to."""
    with trial.container() as container:
        found = trial.client.start("surroundings").result(30)["only"]
        wanted = {"uid": 10001, "gid": 10001, "groups": [], "no_new_privs": "1", "writable": [], "tmp": True}
        assert wanted.items() <= found.items(), found
        assert {int(mask, 16) for mask in found["capabilities"]} == {0}, found
        assert found["first"].endswith("tini"), found
        container.stop(GRACE)
    return "runs are served as uid 10001 without capabilities on a read-only root; /tmp alone can be written to"


def drains(trial: Trial) -> str:
    """The stop signal lets nodes finish, and the container ends with 0 within its grace."""
    with trial.container() as container:
        handles = [trial.client.start("slow") for _ in range(4)]
        wait_until(lambda: all(_is_running(trial, handle.run_id) for handle in handles), 10, "no node began")
        began = time.monotonic()
        code = container.stop(GRACE)
        took = time.monotonic() - began
        assert code == 0, f"exit code {code}"
        for handle in handles:
            assert handle.result(0.5)["only"] == "done"
            assert handle.describe().nodes["only"].attempts == 1
    return f"SIGTERM: 4 running nodes finished in their first attempt, exit code 0 after {took:.1f} s"


def reaps(trial: Trial) -> str:
    """Processes that handlers leave behind do not stay as zombies."""
    with trial.container() as container:
        for handle in [trial.client.start("orphan") for _ in range(20)]:
            handle.result(30)
        wait_until(lambda: "Z" not in container.processes().values(), 5, "zombies stay")
        wait_until(lambda: len(container.processes()) <= 6, 5, "processes stay")
        container.stop(GRACE)
    return "20 orphans were reaped"


def keeps_its_memory_limit(trial: Trial) -> str:
    """A node that takes all memory fails alone; the container and the runs beside it go on."""
    try:
        group = MemoryGroup.create(MEMORY)
    except OSError as error:
        return f"SKIPPED the memory limit: no control group can be made here ({error})"
    try:
        with trial.container(group) as container:
            guilty = trial.client.start("hog")
            innocent = [trial.client.start("quick") for _ in range(50)]
            for handle in innocent:
                assert handle.result(60)["only"] == "done"
            try:
                guilty.result(60)
            except RunFailedError as failure:
                assert "WorkerLost" in str(failure), failure
            else:
                raise AssertionError("the run that takes all memory completed")
            assert container.is_running
            wait_until(lambda: trial.is_healthy(container), 20, "it is not healthy afterwards")
            container.stop(GRACE)
    finally:
        wait_until(lambda: _removed(group), 10, "processes stay in the control group")
    return f"limited to {MEMORY >> 20} MiB: 50 runs beside one that takes all memory complete, that one fails with WorkerLost"


def health_flips(trial: Trial) -> str:
    """The health check of a container notices that its worker stands still, though another container works."""
    with trial.container() as other, trial.container() as container:
        first = container.pid
        frozen = [pid for pid in container.processes() if pid != first]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        took = wait_until(lambda: not trial.is_healthy(container), HEALTH_SECONDS, "the health check does not notice")
        assert trial.is_healthy(other), "the other container is taken to be unhealthy"
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        back = wait_until(lambda: trial.is_healthy(container), HEALTH_SECONDS, "it does not become healthy again")
        container.stop(GRACE)
        other.stop(GRACE)
    return f"health check: false {took:.1f} s after the worker stood still, true again after {back:.1f} s"


def second_stop(trial: Trial) -> str:
    """A container that is killed hands nothing in; its runs are finished by the next one."""
    with trial.container() as container:
        handle = trial.client.start("slow")
        wait_until(lambda: _is_running(trial, handle.run_id), 10, "no node began")
        os.kill(container.pid, signal.SIGKILL)
        container.stop(10)
    with trial.container() as container:
        assert handle.result(30)["only"] == "done"
        container.stop(GRACE)
    return "a killed container's run is finished by the next container"


CHECKS: tuple[Callable[[Trial], str], ...] = (
    own_deployment,
    serves_without_rights,
    drains,
    reaps,
    keeps_its_memory_limit,
    health_flips,
    second_stop,
)


def _is_running(trial: Trial, run_id: str) -> bool:
    """Whether the handler of `slow` has begun. A claimed node that it has not reached is handed back by a stop."""
    return any(node.message for node in trial.client.get_handle(run_id).describe().nodes.values())


def _removed(group: MemoryGroup) -> bool:
    try:
        group.remove()
    except OSError:
        return False
    return True
