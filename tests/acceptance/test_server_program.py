"""`flowcraft-server` as its users run it: real processes, a real store, signals, kills."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from flowcraft_sdk import Client
from flowcraft_server.service.gc_tuning import YOUNG
from flowcraft_server.store.embedded import EmbeddedStore, running_url
from tests.acceptance.server_program import (
    FILE,
    Server,
    alive,
    end_all,
    eventually,
    run_command,
    write_deployment,
)

TIMEOUT = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    place = write_deployment(tmp_path / "app")
    yield place
    end_all(place)


@pytest.fixture
def external(tmp_path: Path) -> Iterator[str]:
    """A Redis that is not the server's own."""
    with EmbeddedStore(tmp_path / "external", durable=False) as store:
        yield store.url


def client_of(folder: Path) -> Client:
    url = running_url(folder / ".flowcraft" / "data")
    assert url is not None
    return Client(url, namespace="acceptance")


def pids_of_slow_nodes(folder: Path) -> list[int]:
    began = folder / "began"
    return [int(line) for line in began.read_text().split()] if began.exists() else []


def started(folder: Path, *arguments: str, **environ: str) -> Server:
    server = Server(folder, *arguments, environ=environ)
    server.wait_for("serving 'acceptance'")
    return server


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_its_workers_look_for_garbage_less_often(folder: Path, kind: str) -> None:
    work = folder / "deployed_work.py"
    work.write_text(
        work.read_text()
        + "\nimport gc\ndef echo(ctx):\n    return [*gc.get_threshold()][0], gc.get_freeze_count() > 0\n"
    )
    started(folder, "dev", FLOWCRAFT__EXECUTOR__WORKER_TYPE=kind)
    with client_of(folder) as client:
        assert client.start("chain", {"x": 3}).result(timeout=TIMEOUT)["a"] == [YOUNG, True]


def test_dev_serves_runs_and_says_what_it_does(folder: Path) -> None:
    server = started(folder, "dev")
    for text in (
        "flowcraft · acceptance",
        ".flowcraft/data",
        "chain@",
        "echo, slow, sleepy",
        "flowcraft start chain",
    ):
        assert text in server.printed
    with client_of(folder) as client:
        assert client.start("chain", {"x": 3}).result(timeout=TIMEOUT)["b"] == "slept"
    health = run_command(folder, "health")
    assert health.returncode == 0, health.stderr
    assert "healthy" in health.stdout
    url = running_url(folder / ".flowcraft" / "data")
    assert url is not None
    store = int(redis.Redis.from_url(url).info("server")["process_id"])
    server.signal(signal.SIGINT)
    assert server.ends() == 0, server.printed
    assert not alive(store)
    health = run_command(folder, "health")
    assert health.returncode == 1
    assert "the embedded store does not run" in health.stderr


def test_a_drain_lets_what_runs_finish(folder: Path) -> None:
    server = started(folder, "dev")
    with client_of(folder) as client:
        handle = client.start("long", {}, run_id="r1")
        assert eventually(lambda: bool(pids_of_slow_nodes(folder)))
        server.signal(signal.SIGTERM)
        server.wait_for("stopping: what runs may finish")
        (folder / "go").touch()
        assert server.ends() == 0, server.printed
    again = started(folder, "dev")
    with client_of(folder) as client:
        assert client.get_handle("r1").result(timeout=TIMEOUT)["a"] == server.process.pid
    assert len(pids_of_slow_nodes(folder)) == 1
    assert handle.run_id == "r1"
    again.signal(signal.SIGTERM)
    assert again.ends() == 0


def test_a_second_signal_hands_back_at_once(folder: Path) -> None:
    server = started(folder, "dev")
    with client_of(folder) as client:
        client.start("long", {}, run_id="r1")
        assert eventually(lambda: bool(pids_of_slow_nodes(folder)))
    server.signal(signal.SIGTERM)
    server.wait_for("stopping: what runs may finish")
    server.signal(signal.SIGTERM)
    assert server.ends() == 1, server.printed
    assert "handed back" in server.printed
    again = started(folder, "dev")
    assert eventually(lambda: len(pids_of_slow_nodes(folder)) == 2, 5)
    (folder / "go").touch()
    with client_of(folder) as client:
        pid = client.get_handle("r1").result(timeout=TIMEOUT)["a"]
        assert pid == pids_of_slow_nodes(folder)[-1] != server.process.pid
    again.signal(signal.SIGTERM)
    assert again.ends() == 0


def test_after_a_kill_the_next_one_takes_everything_over(folder: Path) -> None:
    server = started(folder, "dev")
    with client_of(folder) as client:
        client.start("long", {}, run_id="r1")
        assert eventually(lambda: bool(pids_of_slow_nodes(folder)))
    server.process.kill()
    server.process.wait()
    (folder / "go").touch()
    again = started(folder, "dev")
    assert "joined the server that runs already" in again.printed
    with client_of(folder) as client:
        pid = client.get_handle("r1").result(timeout=TIMEOUT)["a"]
        assert pid == pids_of_slow_nodes(folder)[-1] != server.process.pid
    again.signal(signal.SIGTERM)
    assert again.ends() == 0
    assert running_url(folder / ".flowcraft" / "data") is None


def test_two_in_one_folder_share_the_store(folder: Path) -> None:
    first = started(folder, "dev")
    second = started(folder, "dev")
    assert "joined the server that runs already" in second.printed
    first.signal(signal.SIGHUP)
    assert first.ends() == 0
    with client_of(folder) as client:
        assert client.start("chain", {"x": 1}).result(timeout=TIMEOUT)["b"] == "slept"
    second.signal(signal.SIGTERM)
    assert second.ends() == 0
    assert running_url(folder / ".flowcraft" / "data") is None


def test_a_store_that_dies_is_started_again_under_the_workers(folder: Path) -> None:
    server = started(folder, "dev")
    with client_of(folder) as client:
        assert client.start("chain", {"x": 1}, run_id="before").result(timeout=TIMEOUT)["b"] == "slept"
    url = running_url(folder / ".flowcraft" / "data")
    assert url is not None
    os.kill(int(redis.Redis.from_url(url).info("server")["process_id"]), signal.SIGKILL)
    server.wait_for("it was started again")
    with client_of(folder) as client:
        assert client.get_handle("before").result(timeout=TIMEOUT)["b"] == "slept"
        assert client.start("chain", {"x": 1}).result(timeout=TIMEOUT)["b"] == "slept"
    server.signal(signal.SIGTERM)
    assert server.ends() == 0


def test_worker_processes(folder: Path) -> None:
    server = started(folder, "dev", FLOWCRAFT__EXECUTOR__WORKER_TYPE="process")
    assert eventually(lambda: server.printed.count("serving 'acceptance'") == 3)
    with client_of(folder) as client:
        client.start("long", {}, run_id="r1")
        assert eventually(lambda: bool(pids_of_slow_nodes(folder)))
        (first,) = pids_of_slow_nodes(folder)
        assert first != server.process.pid
        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: len(pids_of_slow_nodes(folder)) == 2)
        server.wait_for("was killed by SIGKILL")
        (folder / "go").touch()
        assert client.get_handle("r1").result(timeout=TIMEOUT)["a"] == pids_of_slow_nodes(folder)[1]
    server.signal(signal.SIGTERM)
    assert server.ends() == 0, server.printed


def test_processes_of_several_threads(folder: Path) -> None:
    """Two of two threads each run four functions at once; one that dies is started again, and the others take its nodes over."""
    server = started(folder, "dev", "--processes", "2")
    assert "2 processes of 2 threads" in server.printed
    assert eventually(lambda: server.printed.count("serving 'acceptance'") == 3)
    with client_of(folder) as client:
        runs = [client.start("long") for _ in range(4)]
        assert eventually(lambda: len(pids_of_slow_nodes(folder)) == 4)
        first, second = sorted(set(pids_of_slow_nodes(folder)))
        assert sorted(pids_of_slow_nodes(folder)) == [first, first, second, second]
        assert server.process.pid not in (first, second)
        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: len(pids_of_slow_nodes(folder)) == 6)
        server.wait_for("was killed by SIGKILL")
        (folder / "go").touch()
        assert {run.result(timeout=TIMEOUT)["a"] for run in runs} == {second, *pids_of_slow_nodes(folder)[4:]}
        assert first not in pids_of_slow_nodes(folder)[4:]
        assert client.start("chain", {"x": 1}).result(timeout=TIMEOUT)["b"] == "slept"
    server.signal(signal.SIGTERM)
    assert server.ends() == 0, server.printed


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
def test_a_worker_process_ends_for_a_function_that_does_not_return(folder: Path, how: str) -> None:
    timeout = {"FLOWCRAFT__DEFAULTS__TIMEOUT": "1s"} if how == "timed out" else {}
    server = started(folder, "dev", FLOWCRAFT__EXECUTOR__WORKER_TYPE="process", **timeout)
    assert eventually(lambda: server.printed.count("serving 'acceptance'") == 3)
    with client_of(folder) as client:
        run = client.start("long", {})
        assert eventually(lambda: bool(pids_of_slow_nodes(folder)))
        (deaf,) = pids_of_slow_nodes(folder)
        if how == "cancelled":
            assert run.cancel("enough", grace=0.2)
        assert run.wait(timeout=TIMEOUT).status == ("cancelled" if how == "cancelled" else "failed")
        assert eventually(lambda: not alive(deaf))
        server.wait_for("ended with exit code 75")
        assert client.start("chain", {"x": 1}).result(timeout=TIMEOUT)["b"] == "slept"
    server.signal(signal.SIGTERM)
    assert server.ends() == 0, server.printed


def test_worker_processes_end_with_a_killed_parent(folder: Path) -> None:
    server = started(folder, "dev", FLOWCRAFT__EXECUTOR__WORKER_TYPE="process")
    assert eventually(lambda: server.printed.count("serving 'acceptance'") == 3)
    workers = [int(text.split()[0].rstrip('",}')) for text in server.printed.split("is process ")[1:]]
    assert len(workers) == 2
    server.process.kill()
    server.process.wait()
    assert eventually(lambda: not any(alive(pid) for pid in workers))
    again = started(folder, "dev")
    again.signal(signal.SIGTERM)
    assert again.ends() == 0


def test_run_and_worker_on_an_external_redis(folder: Path, external: str) -> None:
    server = started(folder, "run", REDIS_URL=external)
    worker = started(folder, "worker", "--queue", "other", REDIS_URL=external)
    assert "on queue other" in worker.printed
    with Client(external, namespace="acceptance") as client:
        assert client.start("chain", {"x": 1}).result(timeout=TIMEOUT)["b"] == "slept"
    assert run_command(folder, "health", REDIS_URL=external).returncode == 0
    for process in (server, worker):
        process.signal(signal.SIGTERM)
        assert process.ends() == 0, process.printed


def test_run_needs_a_redis_that_answers(folder: Path, tmp_path: Path) -> None:
    result = run_command(folder, "run", REDIS_URL=f"unix://{tmp_path}/none.sock")
    assert result.returncode == 1
    assert "does not answer within 0.3 s" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_run_needs_a_redis_at_all(folder: Path) -> None:
    result = run_command(folder, "run")
    assert result.returncode == 1
    assert "this needs a Redis of its own: set redis.url" in result.stderr


def test_run_refuses_a_redis_that_evicts_and_dev_warns(folder: Path, external: str) -> None:
    redis.Redis.from_url(external).config_set("maxmemory-policy", "allkeys-lru")
    result = run_command(folder, "run", REDIS_URL=external)
    assert result.returncode == 1
    assert "maxmemory-policy allkeys-lru" in result.stderr
    server = started(folder, "dev", REDIS_URL=external)
    assert "maxmemory-policy allkeys-lru" in server.printed
    server.signal(signal.SIGTERM)
    assert server.ends() == 0
    allowed = started(folder, "run", REDIS_URL=external, FLOWCRAFT__REDIS__REQUIRE_NO_EVICTION="off")
    allowed.signal(signal.SIGTERM)
    assert allowed.ends() == 0


def test_nothing_is_started_of_a_deployment_with_mistakes(folder: Path) -> None:
    (folder / "flowcraft.yaml").write_text(FILE + "executer: {}\nlogging: {level: loud}\n")
    for command in ("dev", "run", "worker"):
        result = run_command(folder, command)
        assert result.returncode == 2
        assert "executer: unknown key; did you mean 'executor'?" in result.stderr
        assert result.stderr.splitlines()[-1] == "2 errors: nothing was started"
        assert "Traceback" not in result.stderr
    assert not (folder / ".flowcraft").exists()


def test_check(folder: Path, external: str, tmp_path: Path) -> None:
    right = run_command(folder, "check")
    assert right.returncode == 0, right.stderr
    assert "flowcraft.yaml is right: 3 handlers, 2 blueprints, Redis embedded, by " in right.stdout
    assert run_command(folder, "check", REDIS_URL=external).returncode == 0
    assert run_command(folder, "check", REDIS_URL=f"unix://{tmp_path}/none.sock").returncode == 1
    assert run_command(folder, "check", "--offline", REDIS_URL=f"unix://{tmp_path}/none.sock").returncode == 0
    (folder / "flowcraft.yaml").write_text(FILE + "executor: {}\n")
    wrong = run_command(folder, "check")
    assert wrong.returncode == 2
    assert "duplicate key 'executor'" in wrong.stderr
    found: Any = json.loads(run_command(folder, "check", "--format", "json").stdout)
    assert [(diagnostic["severity"], diagnostic["line"], diagnostic["column"]) for diagnostic in found] == [
        ("error", 10, 1)
    ]
    annotated = run_command(folder, "check", "--format", "github").stdout
    assert annotated.startswith("::error file=flowcraft.yaml,line=10,col=1::duplicate key")


def test_the_file_can_be_elsewhere_and_is_named_in_the_environment(folder: Path, tmp_path: Path) -> None:
    assert run_command(tmp_path, "check").returncode == 2
    assert run_command(tmp_path, "check", "-c", "app/flowcraft.yaml").returncode == 0
    assert run_command(tmp_path, "check", FLOWCRAFT_CONFIG=str(folder / "flowcraft.yaml")).returncode == 0


def test_runs_that_need_a_handler_which_was_renamed_are_notified_by_check_and_at_start(folder: Path) -> None:
    asks = folder / "flows" / "asks.yaml"
    asks.write_text("nodes:\n  ask: {uses: wait}\n  b: {uses: echo, needs: ask}\n")
    before = started(folder, "dev")
    with client_of(folder) as client:
        client.start("asks", run_id="r1").wait_for("waiting", timeout=TIMEOUT)
    for file in (folder / "flowcraft.yaml", *(folder / "flows").iterdir()):
        file.write_text(file.read_text().replace("  echo:", "  say:").replace("uses: echo", "uses: say"))
    notified = "run r1 needs the handler 'echo', which no worker has any more (blueprint 'asks')"
    assert f"warning: {notified}" in run_command(folder, "check").stderr
    before.signal(signal.SIGTERM)
    assert before.ends() == 0
    Server(folder, "dev", environ={}).wait_for(notified)


def test_config_show(folder: Path) -> None:
    shown = run_command(
        folder, "config", "show", "--origin", FLOWCRAFT__EXECUTOR__LEASE="2s", REDIS_URL="redis://:pw12@h"
    )
    assert shown.returncode == 0, shown.stderr
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in shown.stdout.splitlines()}
    assert rows["executor.lease"] == '"2s" environment variable FLOWCRAFT__EXECUTOR__LEASE'
    assert rows["executor.workers"] == "2 flowcraft.yaml:8"
    assert rows["logging.level"] == '"info" default'
    assert (
        rows["redis.url"]
        == '"redis://:********@h" flowcraft.yaml:9 (${REDIS_URL:-embedded:}; REDIS_URL from the environment)'
    )
    config = folder / "flowcraft.yaml"
    config.write_text(config.read_text().replace("redis: {", "x-redis: {"))
    other = run_command(folder, "config", "show", "--origin", REDIS_URL="redis://:pw12@h").stdout
    assert "default; of all but dev: REDIS_URL from the environment" in other
    assert "pw12" not in other
    optioned = run_command(folder, "config", "show", "--origin", "--workers", "7").stdout
    assert next(line.split() for line in optioned.splitlines() if line.startswith("executor.workers ")) == [
        "executor.workers", "7", "option", "for", "executor.workers",
    ]  # fmt: skip
    plain = run_command(folder, "config", "show")
    assert "lease: 1s" in plain.stdout


def test_logs_are_json_when_nobody_watches(folder: Path) -> None:
    server = started(folder, "dev")
    server.signal(signal.SIGTERM)
    assert server.ends() == 0
    lines = [json.loads(line) for line in server.printed.splitlines() if line.startswith("{")]
    assert lines
    assert all({"time", "level", "message", "logger"} <= set(line) for line in lines)


def test_a_worker_process_that_stands_still_is_replaced(folder: Path) -> None:
    work = folder / "deployed_work.py"
    work.write_text(
        work.read_text()
        + "\nimport os, signal\n"
        + "def echo(ctx):\n"
        + "    if ctx.attempt == 1 and not os.path.exists('stopped'):\n"
        + "        open('stopped', 'w').close()\n"
        + "        os.kill(os.getpid(), signal.SIGSTOP)\n"
        + "    return 'ran again'\n"
    )
    server = started(folder, "dev", "--processes", "2", FLOWCRAFT__EXECUTOR__LEASE="1s")
    with client_of(folder) as client:
        assert client.start("chain", {"x": 3}).result(timeout=TIMEOUT)["a"] == "ran again"
        assert eventually(lambda: "has not been seen for 10 s: killing it" in server.printed), server.printed
        assert eventually(lambda: len(client.workers()) >= 2)
        assert client.start("chain", {"x": 3}).result(timeout=TIMEOUT)["a"] == "ran again"


def test_a_worker_process_without_file_descriptors_is_replaced(folder: Path) -> None:
    work = folder / "deployed_work.py"
    work.write_text(
        work.read_text()
        + "\nimport os, resource\nLEAK = []\n"
        + "async def echo(ctx):\n"
        + "    if os.path.exists('leaked'):\n"
        + "        return os.getpid()\n"
        + "    open('leaked', 'w').close()\n"
        + "    resource.setrlimit(resource.RLIMIT_NOFILE, (90, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        + "    while True:\n"
        + "        LEAK.append(open('/dev/null'))\n"
    )
    server = started(folder, "dev", "--processes", "2")
    with client_of(folder) as client:
        first = client.start("chain", {"x": 3})
        assert eventually(lambda: "no file descriptor is free" in server.printed), server.printed
        server.wait_for("ended with exit code 75")
        runs = [client.start("chain", {"x": 3}) for _ in range(4)]
        assert len({run.result(timeout=TIMEOUT)["a"] for run in runs}) >= 1
        assert first.wait(timeout=TIMEOUT).status in ("failed", "completed")


@pytest.mark.parametrize(
    ("replies", "announced"),
    [
        (None, "cannot be read: No such file or directory"),
        ("default: no\nreplies:\n  - {mach: x, reply: y}\n", "replies[0].mach: unknown key"),
        ("defalt: no\n", "defalt: unknown key"),
    ],
)
@pytest.mark.parametrize("command", ["check", "dev"])
def test_mistakes_in_scripted_replies_are_reported_before_anything_starts(
    folder: Path, replies: str | None, announced: str, command: str
) -> None:
    file = folder / "flowcraft.yaml"
    file.write_text(file.read_text() + "llm: {providers: {demo: {type: scripted, file: replies.yaml}}}\n")
    if replies is not None:
        (folder / "replies.yaml").write_text(replies)
    result = run_command(folder, command)
    reported = result.stdout + result.stderr
    assert result.returncode == 2 and announced in reported, reported
    assert "llm.providers.demo.file" in reported and "flowcraft.yaml:" in reported
    assert "Traceback" not in reported and "Start a run" not in reported


@pytest.mark.parametrize("kind", ["fifo", "device", "dangling"])
def test_a_blueprint_that_is_no_regular_file_is_reported(folder: Path, kind: str) -> None:
    place = folder / "flows" / "odd.yaml"
    if kind == "fifo":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    result = run_command(folder, "check", "--offline")
    assert result.returncode == 2 and "odd.yaml" in result.stdout + result.stderr


def test_the_file_is_found_from_a_folder_below(folder: Path) -> None:
    below = folder / "flows" / "below"
    below.mkdir()
    result = run_command(below, "check", "--offline")
    assert result.returncode == 0 and "is right" in result.stdout, result.stderr


def test_a_worker_process_whose_modules_were_changed_is_replaced(folder: Path) -> None:
    work = folder / "deployed_work.py"
    work.write_text(
        work.read_text()
        + "\nimport os\n"
        + "def echo(ctx):\n"
        + "    if not os.path.exists('changed'):\n"
        + "        open('changed', 'w').close()\n"
        + "        import redis\n"
        + "        redis.connection.AbstractConnection.send_packed_command = lambda *_, **__: 1 / 0\n"
        + "    return os.getpid()\n"
    )
    server = started(folder, "dev", "--processes", "2", FLOWCRAFT__EXECUTOR__LEASE="1s")
    with client_of(folder) as client:
        first = client.start("chain", {"x": 3})
        assert eventually(lambda: "no lease is renewed, for errors of this process" in server.printed), server.printed
        server.wait_for("ended with exit code 75")
        assert first.wait(timeout=TIMEOUT).status == "completed"
        assert client.start("chain", {"x": 3}).wait(timeout=TIMEOUT).status == "completed"
    assert server.printed.count("met an error of its own") < 30, server.printed[-4000:]
