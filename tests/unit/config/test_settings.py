"""Values: defaults, units, and what is shown about wrong ones and unknown keys."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flowcraft_server.config.llm_section import OpenAIProviderSection
from flowcraft_server.config.load import LoadResult
from flowcraft_server.config.model import Settings
from flowcraft_server.config.sections import ExecutorSection, RedisSection

Load = Callable[..., LoadResult]
Reported = Callable[..., list[str]]

MODULE = "handlers: {h: 'json:dumps'}\n"  # something importable, so that there is something to serve


def settings(load: Load, text: str, **options: Any) -> Settings:
    result = load(MODULE + text, **options)
    assert result.settings is not None, result.diagnostics
    return result.settings


def test_defaults(load: Load) -> None:
    found = settings(load, "")
    assert found.name == "flowcraft"
    assert found.redis.embedded
    assert found.redis.data_dir == ".flowcraft/data"
    assert found.executor.queues == ("default",)
    assert found.executor.async_concurrency == 1000
    assert (found.executor.lease, found.executor.heartbeat) == (10, 3)
    assert (found.executor.drain_timeout, found.executor.cancel_grace, found.executor.max_crashes) == (25, 30, 3)
    assert (found.limits.subflow_depth, found.limits.max_value) == (16, 16 * 1024**2)
    assert found.retention.failed.age == 30 * 86400
    assert found.history.enabled
    assert found == Settings(handlers=found.handlers)


def test_everything_can_be_set(load: Load) -> None:
    found = settings(
        load,
        """
version: 1
name: shop.eu-1
handlerModules: []
blueprints: {dirs: []}
redis: {url: "valkeys://u:p@h:6380/2", dataDir: d, fsync: always, requireNoEviction: off, connectTimeout: 500ms, partitions: 16,
        durability: replica}
executor: {queue: [a, b, a], workers: 2, workerType: process, asyncConcurrency: 5, lease: 4s, drainTimeout: 0s,
           cancelGrace: 1m, maxCrashes: 1}
defaults: {maxRetries: 3, retryDelay: {initial: 1s, factor: 2, max: 1m, jitter: 0.2}, timeout: 5m, joinStrategy: any}
limits: {subflowDepth: 3, maxValue: 64KiB}
retention: {completed: {age: 1h}, failed: {age: forever}, cancelled: {age: 2w}}
history: {events: 50}
llm:
  default: main
  providers:
    main: {type: openai-compatible, apiKey: k, model: m, timeout: 5s, retries: {maxRetries: 2, on: [429, 5xx]}}
    demo: {type: scripted, file: replies.yaml}
logging: {level: debug, format: json}
""",
    )
    assert found.redis.url == "rediss://u:p@h:6380/2"
    assert not found.redis.require_no_eviction
    assert found.redis.partitions == 16
    assert found.redis.durability == "replicas:1"
    assert found.executor.queues == ("a", "b")
    assert found.executor.heartbeat == pytest.approx(1.2)
    assert found.defaults.retry_delay is not None
    assert (found.defaults.retry_delay.max, found.defaults.retry_delay.jitter) == (60, 0.2)
    assert found.retention.failed.age is None
    assert found.retention.cancelled.age == 14 * 86400
    main = found.llm.providers["main"]
    assert isinstance(main, OpenAIProviderSection)
    assert main.api_key.get_secret_value() == "k"
    assert main.retries.on == (429, "5xx")


def test_what_is_kept(load: Load) -> None:
    found = settings(
        load, "retention: {completed: 2d, failed: {count: 7}, cancelled: forever, bytes: 1GiB, tombstones: 90d}"
    )
    assert (found.retention.completed.age, found.retention.completed.count) == (2 * 86400, 10_000)
    assert (found.retention.failed.age, found.retention.failed.count) == (30 * 86400, 7)
    assert (found.retention.cancelled.age, found.retention.bytes) == (None, 1024**3)
    assert (found.retention.tombstones.age, found.retention.tombstones.count) == (90 * 86400, 100_000)
    everything = "{age: forever, count: forever}"
    found = settings(load, f"retention: {{completed: {everything}, bytes: forever}}")
    assert (found.retention.completed.age, found.retention.completed.count, found.retention.bytes) == (None,) * 3


@pytest.mark.parametrize(
    ("written", "enabled"), [("on", True), ("off", False), ("true", True), ("{enabled: off}", False)]
)
def test_history_has_a_short_form(load: Load, written: str, enabled: bool) -> None:
    assert settings(load, f"history: {written}\n").history.enabled is enabled


def test_a_fixed_retry_delay_has_a_short_form(load: Load) -> None:
    delay = settings(load, "defaults: {retryDelay: 2s}\n").defaults.retry_delay
    assert delay is not None
    assert (delay.initial, delay.factor) == (2, 1)


def test_sections_whose_keys_are_commented_out_are_as_good_as_absent(load: Load) -> None:
    found = settings(load, "executor:\n  # workers: 4\nblueprints:\n  dirs:\nhandlerModules:\n")
    assert found.executor.workers == 4


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("executor: {workers: many}", "2:21   executor.workers: expected a whole number, got 'many'"),
        ("executor: {workers: 1.5}", "executor.workers: expected a whole number, got '1.5'"),
        ("executor: {workers: 0}", "executor.workers: must be at least 1, got '0'"),
        ("executor: {workers: [1]}", "executor.workers: expected a whole number, got a list"),
        ("executor: {workers: }", "executor.workers: has no value; write one, or take the key out"),
        ("executor: 4", "2:11   executor: expected a mapping (key: value), got '4'"),
        ("executor: {lease: 30}", "executor.lease: 30 has no unit; write 30s or 30ms"),
        ("executor: {lease: '30'}", "executor.lease: 30 has no unit; write 30s or 30ms"),
        ("executor: {lease: soon}", "executor.lease: expected a duration, got 'soon'; write 30s or 500ms"),
        ("executor: {lease: true}", "executor.lease: expected a duration; write 30s or 500ms"),
        ("executor: {lease: 0s}", "executor.lease: must be at least 100ms, got '0s'"),
        ("executor: {workerType: threads}", "expected thread or process, got 'threads'; did you mean 'thread'?"),
        ("executor: {workerType: greenlet}", "expected thread or process, got 'greenlet'"),
        ("executor: {queue: []}", "executor.queue: needs at least one entry"),
        ("executor: {queue: [ok, 'not ok']}", "executor.queue[1]: has characters that are not allowed here"),
        ("name: 'a:b'", "name: has characters that are not allowed here"),
        ("limits: {maxValue: 5}", "limits.maxValue: 5 has no unit; write 64KiB or 16MiB"),
        ("limits: {maxValue: 5TB}", "limits.maxValue: expected a size, got '5TB'; write 64KiB or 16MiB"),
        ("limits: {named: {crm: {rate: 5}}}", "limits.named.crm.rate: 5 has no unit; write 5/s or 5/m"),
        ("defaults: {retryDelay: 5}", "defaults.retryDelay: 5 has no unit; write 5s or 5ms"),
        ("defaults: {retryDelay: {factor: 2}}", "defaults.retryDelay.initial: is required"),
        ("defaults: {joinStrategy: some}", "defaults.joinStrategy: expected all or any, got 'some'"),
        ("history: maybe", "2:10   history: expected on or off, got 'maybe'"),
        ("retention: {completed: {age: 7}}", "retention.completed.age: 7 has no unit; write 7s or 7ms"),
        (
            "redis: {url: localhost:6379}",
            "redis.url: expected an address such as redis://host:6379/0, rediss:// or unix://, or embedded:",
        ),
        ("redis: {url: 'redis://h:x'}", "redis.url: the port is not a number from 1 to 65535"),
        ("redis: {fsync: sometimes}", "redis.fsync: expected always or everysec, got 'sometimes'"),
        ("version: 2", "version: this server reads version 1 of the file, not 2"),
        ("version: one", "version: expected a whole number, got 'one'"),
        (
            "logging: {level: loud}",
            "logging.level: expected trace, debug, info, warning, error or critical, got 'loud'",
        ),
        ("mcp: {a: {}}", "mcp.a: a server has a `url` or a `command`, one of the two"),
        ("mcp: {a: {url: host}}", "mcp.a.url: expected an http:// or https:// address, got 'host'"),
        (
            "mcp: {a: {command: [x], headers: {a: b}}}",
            "mcp.a.headers: a server that is started has no headers; its secrets go into `env`",
        ),
        ("mcp: {a b: {command: [x]}}", "mcp: a server's name has 1 to 32 letters, digits, _ and -, got 'a b'"),
        ("llm: {default: x}", "llm.default: no provider 'x'; known: auto"),
        (
            "llm: {providers: {a: {type: gpt}}}",
            "llm.providers.a.type: expected openai-compatible, recorded or scripted, got 'gpt'",
        ),
        (
            "llm: {providers: {a: {model: m}}}",
            "llm.providers.a.type: is required: openai-compatible, recorded or scripted",
        ),
        ("llm: {providers: {a: {type: openai-compatible}}}", "llm.providers.a.model: is required"),
        (
            "llm: {providers: {a: {type: scripted, file: f, model: m}}}",
            "llm.providers.a.model: unknown key; known: type, file",
        ),
        (
            "llm: {providers: {a: {type: openai-compatible, model: m, baseUrl: host}}}",
            "llm.providers.a.baseUrl: expected an http:// or https:// address, got 'host'",
        ),
        (
            "llm: {providers: {a: {type: openai-compatible, model: m, retries: {on: [429, sometimes]}}}}",
            "llm.providers.a.retries.on[1]: ",
        ),
        ("mpc: {}", "2:1   mpc: unknown key; did you mean 'mcp'?"),
        ("redis: {uri: x}", "redis.uri: unknown key; did you mean 'url'?"),
        ("api: {port: 80}", "2:7   api.port: unknown key; did you mean 'bind'?"),
        ("api: {tokens: []}", "api.tokens: unknown key; it belongs under 'api.auth': api: {auth: {tokens: ...}}"),
        ("broker_url: x", "broker_url: unknown key; it belongs under 'redis': redis: {url: ...}"),
        ("workers: 4", "workers: unknown key; it belongs under 'executor': executor: {workers: ...}"),
        ("executor: {concurrency: 4}", "executor.concurrency: unknown key; did you mean 'workers'?"),
        ("beat_schedule: {}", "beat_schedule: unknown key; did you mean 'schedules'?"),
        ("mcp: {a: {uri: 'http://h'}}", "2:11   mcp.a.uri: unknown key; did you mean 'url'?"),
        ("handlers2: {}", "2:1   handlers2: unknown key; did you mean 'handlers'?"),
        ("profile: {}", "profile: unknown key; did you mean 'profiles'?"),
        ("executor: {drain_timeout: 3s}", "executor.drain_timeout: unknown key; did you mean 'drainTimeout'?"),
        ("executor: {recycleAfter: 3}", "executor.recycleAfter: unknown key; known: queue, workers, workerType"),
        ("tracers: {}", "tracers: unknown key; known: version, name, handlers"),
        ("retention: {completed: {number: 3}}", "retention.completed.number: unknown key; known: age, count"),
        ("retention: {tombstones: 60s}", "retention.tombstones: must be at least 1d, got '60s'"),
        ("retention: {completed: {count: 0}}", "retention.completed.count: must be at least 1, got '0'"),
        ("retention: {completed: {count: many}}", "retention.completed.count: expected a whole number"),
        ("retention: {bytes: 5}", "retention.bytes: 5 has no unit; write 64KiB or 16MiB"),
        ("redis: {partitions: 0}", "redis.partitions: must be at least 1, got '0'"),
        ("redis: {partitions: 257}", "redis.partitions: must be at most 256, got '257'"),
        ("redis: {partitions: some}", "redis.partitions: expected a whole number, got 'some'"),
        (
            "redis: {durability: sometimes}",
            "redis.durability: expected async, fsync, replica or replicas:N, got 'sometimes'",
        ),
        (
            "redis: {durability: 'replicas:0'}",
            "redis.durability: expected async, fsync, replica or replicas:N, got 'replicas:0'",
        ),
    ],
)
def test_mistakes(reported: Reported, text: str, shown: str) -> None:
    diagnostics = reported(MODULE + text + "\n")
    assert len(diagnostics) == 1, diagnostics
    assert diagnostics[0].startswith("flowcraft.yaml:2:")
    assert shown in diagnostics[0]


def test_processes_of_threads_and_processes_of_one_thread_do_not_go_together(load: Load, reported: Reported) -> None:
    (diagnostic,) = reported(MODULE + "executor:\n  workerType: process\n  processes: 2\n")
    assert diagnostic == (
        "flowcraft.yaml:4:14   executor.processes: counts with workerType: thread (it is process, line 3); "
        "with process, workers says how many there are"
    )
    assert settings(load, "executor: {workerType: process, processes: 1}\n").executor.processes == 1
    assert settings(load, "executor: {processes: 3}\n").executor.workers == 4


def test_a_heartbeat_that_is_too_slow_names_the_lease_and_its_line(reported: Reported) -> None:
    text = MODULE + "executor:\n  lease: 30s\n  heartbeat: 20s\n"
    assert reported(text) == [
        "flowcraft.yaml:4:14   executor.heartbeat: 20s must be less than half of lease (30s, line 3)"
    ]


def test_a_heartbeat_is_measured_against_the_default_lease_too(reported: Reported) -> None:
    assert reported(MODULE + "executor: {heartbeat: 5s}\n") == [
        "flowcraft.yaml:2:23   executor.heartbeat: 5s must be less than half of lease (10s)"
    ]


def test_every_mistake_is_reported_at_once_by_line(reported: Reported) -> None:
    diagnostics = reported(
        "version: 1\n"
        "handlers: {a: nowhere_at_all:x}\n"
        "executor: {workers: x, lease: 3, wrong: 1}\n"
        "redis: {url: '${NOT_SET}'}\n"
        "redis: {}\n"
        "blueprints: {dirs: [missing]}\n"
    )
    assert [diagnostic.partition("   ")[0] for diagnostic in diagnostics] == [
        "flowcraft.yaml:2:15",
        "flowcraft.yaml:3:21",
        "flowcraft.yaml:3:31",
        "flowcraft.yaml:3:34",
        "flowcraft.yaml:4:14",
        "flowcraft.yaml:5:1",
        "flowcraft.yaml:6:21",
    ]


def test_an_unset_variable_is_not_complained_about_twice(reported: Reported) -> None:
    text = MODULE + "llm: {providers: {a: {type: openai-compatible, model: '${M}'}}}\nexecutor: {queue: ['${Q}']}\n"
    assert [diagnostic.partition("   ")[2] for diagnostic in reported(text)] == [
        "llm.providers.a.model: environment variable M is not set (written as ${M})",
        "executor.queue[0]: environment variable Q is not set (written as ${Q})",
    ]


def test_a_wrong_value_out_of_a_variable_says_how_it_was_written(reported: Reported) -> None:
    diagnostics = reported(MODULE + "executor: {workers: '${N:-four}'}\n")
    assert diagnostics == [
        "flowcraft.yaml:2:21   executor.workers: expected a whole number, got 'four' (written as ${N:-four})"
    ]


def test_a_variable_for_a_number_is_a_number(load: Load) -> None:
    text = "executor: {workers: '${N}', lease: '${L}'}\nhistory: '${H}'\n"
    found = settings(load, text, environ={"N": "8", "L": "4s", "H": "off"})
    assert found.executor.workers == 8
    assert found.executor.lease == 4
    assert not found.history.enabled


def test_variables_stay_text_in_params(load: Load) -> None:
    text = "handlers: {h: {path: 'json:dumps', params: {n: '${N}', list: [1, '$$x']}}}\n"
    result = load(text, environ={"N": "8"})
    assert result.handlers["h"].params == {"n": "8", "list": [1, "$x"]}


def test_secrets_do_not_show(reported: Reported, load: Load) -> None:
    text = MODULE + "llm: {providers: {a: {type: openai-compatible, model: m, apiKey: [sk-1]}}}\n"
    assert "sk-1" not in "".join(reported(text))
    result = load(
        MODULE
        + "redis: {url: 'redis://:hidden@h'}\n"
        + "llm: {providers: {a: {type: openai-compatible, model: m, apiKey: sk-1}}}\n"
    )
    assert "sk-1" not in repr(result.settings)
    assert "hidden" not in repr(result.settings)
    assert result.secrets == {"sk-1", "hidden"}


def test_a_default_provider_without_a_key_is_a_warning(load: Load) -> None:
    text = "llm: {default: a, providers: {a: {type: openai-compatible, model: m, apiKey: ''}}}\n"
    result = load(MODULE + text)
    assert [str(diagnostic) for diagnostic in result.diagnostics] == [
        "flowcraft.yaml:2:78   llm.providers.a.apiKey: is empty; nodes that call this provider will fail   [warning]"
    ]
    assert result.settings is not None


def test_recorded_replies_need_no_key_once_there_are_some(folder: Path, reported: Reported) -> None:
    text = "llm: {default: a, providers: {a: {type: recorded, file: tape.jsonl, model: m, apiKey: ''}}}\n"
    (only,) = reported(MODULE + text)
    assert "apiKey: is empty, and nothing is recorded yet: nodes that call this provider will fail" in only
    (folder / "tape.jsonl").write_text("")
    assert reported(MODULE + text) == []


def test_a_default_provider_without_its_extra_is_a_warning(reported: Reported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcraft_server.config.load.has_models_extra", lambda: False)
    text = "llm: {default: a, providers: {a: {type: openai-compatible, model: m, apiKey: k}}}\n"
    (only,) = reported(MODULE + text)
    assert "llm.providers.a.type: needs the extra llm: pip install 'flowcraft-server[llm]'; nodes that call" in only


def test_tracing_without_its_extra_is_a_warning(reported: Reported, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reported(MODULE + "tracing: on\n") == []
    monkeypatch.setattr("flowcraft_server.config.load.has_tracing_extra", lambda: False)
    (only,) = reported(MODULE + "tracing: on\n")
    assert only.startswith(
        "flowcraft.yaml:2:10   tracing: is on and needs the extra otel: pip install 'flowcraft-server[otel]';"
    )
    assert reported(MODULE + "tracing: off\n") == []


def test_a_file_that_serves_nothing(reported: Reported) -> None:
    assert reported("name: x\n") == [
        "flowcraft.yaml:1:1   there is nothing to serve: name handlers, handlerModules or blueprints"
    ]


def test_settings_made_by_code_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "elsewhere")
    monkeypatch.setenv("VERSION", "9")
    assert Settings().name == "flowcraft"
    assert Settings(executor=ExecutorSection(lease=1, workers=2)).executor.heartbeat == pytest.approx(0.3)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().executor.workers = 3
    with pytest.raises(ValidationError):
        RedisSection(url="embedded:").url = "x"
