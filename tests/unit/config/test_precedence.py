"""Which value counts: option, environment, profile, file, default; and where each comes from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowcraft_server.config.load import LoadResult, load_config, load_settings
from flowcraft_server.config.show import plain_settings, with_origins

Load = Callable[..., LoadResult]
Reported = Callable[..., list[str]]

BASE = """
handlers: {h: 'json:dumps'}
executor: {workers: 1, lease: 5s}
redis: {url: "${REDIS_URL:-embedded:}"}
profiles:
  prod:
    executor: {workers: 2}
    redis: {url: "${REDIS_URL:?}"}
  ci: {logging: {level: error}}
x-note: {anything: [goes]}
"""


def workers(result: LoadResult) -> int:
    assert result.settings is not None, result.diagnostics
    return result.settings.executor.workers


def test_each_level_counts_before_the_next(load: Load) -> None:
    environ = {"REDIS_URL": "redis://h"}
    override = {"FLOWCRAFT__EXECUTOR__WORKERS": "3"}
    assert workers(load(BASE)) == 1
    assert workers(load(BASE, profile="prod", environ=environ)) == 2
    assert workers(load(BASE, profile="prod", environ=environ | override)) == 3
    assert workers(load(BASE, profile="prod", environ=environ | override, overrides={"executor.workers": 4})) == 4


def test_a_profile_is_merged_not_put_in_place(load: Load) -> None:
    result = load(BASE, profile="prod", environ={"REDIS_URL": "redis://h"})
    assert result.settings is not None
    assert result.settings.executor.lease == 5
    assert result.profile == "prod"


def test_the_environment_names_the_profile_and_an_option_another(load: Load) -> None:
    environ = {"FLOWCRAFT_PROFILE": "prod", "REDIS_URL": "redis://h"}
    assert load(BASE, environ=environ).profile == "prod"
    assert load(BASE, environ=environ, profile="ci").profile == "ci"


def test_variables_of_a_profile_that_is_not_used_are_not_needed(reported: Reported) -> None:
    assert reported(BASE) == []
    assert "REDIS_URL is not set" in reported(BASE, profile="prod")[0]


def test_variables_of_a_value_that_is_overridden_are_not_needed(load: Load) -> None:
    assert load(BASE, profile="prod", overrides={"redis.url": "redis://h"}).settings is not None
    assert load(BASE, profile="prod", environ={"FLOWCRAFT__REDIS__URL": "redis://h"}).settings is not None


def test_unknown_profiles_and_typing_errors_in_any_of_them(reported: Reported) -> None:
    assert reported(BASE, profile="prd") == ["no profile 'prd'; did you mean 'prod'?"]
    assert reported(BASE, profile="x") == ["no profile 'x'; known: prod, ci"]
    (diagnostic,) = reported(BASE + "wrong: 1\n")
    assert diagnostic.startswith("flowcraft.yaml:11:1   wrong: unknown key; known: version, name, handlers, ")
    assert (
        "profiles.p.executor.worker: unknown key; did you mean 'workers'?"
        in reported("handlers: {h: 'json:dumps'}\nprofiles: {p: {executor: {worker: 1}}}\n")[0]
    )
    assert "profiles: expected a mapping" in reported("handlers: {h: 'json:dumps'}\nprofiles: [a]\n")[0]


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("FLOWCRAFT__EXECUTOR__DRAIN_TIMEOUT", "3s", ("executor", "drain_timeout"), 3),
        ("FLOWCRAFT__EXECUTOR__DRAINTIMEOUT", "3s", ("executor", "drain_timeout"), 3),
        ("flowcraft__executor__drainTimeout", "3s", ("executor", "drain_timeout"), 3),
        ("FLOWCRAFT__EXECUTOR__QUEUE", "a, b", ("executor", "queues"), ("a", "b")),
        ("FLOWCRAFT__EXECUTOR__QUEUE", "[a]", ("executor", "queues"), ("a",)),
        ("FLOWCRAFT__REDIS__REQUIRE_NO_EVICTION", "off", ("redis", "require_no_eviction"), False),
        ("FLOWCRAFT__NAME", "123", ("name",), "123"),
        ("FLOWCRAFT__DEFAULTS__RETRY_DELAY__INITIAL", "1s", ("defaults", "retry_delay", "initial"), 1),
        ("FLOWCRAFT__HISTORY__EVENTS", "20", ("history", "events"), 20),
    ],
)
def test_the_environment_can_set_any_value(load: Load, name: str, text: str, path: tuple[str, ...], value: Any) -> None:
    result = load(BASE, environ={name: text})
    found: Any = result.settings
    assert found is not None, result.diagnostics
    for part in path:
        found = getattr(found, part)
    assert found == value


def test_the_environment_reaches_into_handlers_and_providers(load: Load) -> None:
    text = (
        "handlers: {my-handler: 'json:dumps'}\n"
        "llm: {providers: {main: {type: openai-compatible, model: m}}}\nhistory: off\n"
    )
    environ = {
        "FLOWCRAFT__HANDLERS__MY_HANDLER__TIMEOUT": "9s",
        "FLOWCRAFT__LLM__PROVIDERS__MAIN__API_KEY": "sk-12345",
        "FLOWCRAFT__HISTORY__EVENTS": "99",
    }
    result = load(text, environ=environ)
    assert result.settings is not None, result.diagnostics
    assert result.handlers["my-handler"].timeout == 9
    assert result.settings.history.events == 99
    assert not result.settings.history.enabled
    assert result.secrets == {"sk-12345"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("FLOWCRAFT__EXECUTOR__WORKRES", "unknown key 'WORKRES'; did you mean 'workers'?"),
        ("FLOWCRAFT__EXECUTOR", "'executor' is a section; name one of its keys after another '__'"),
        ("FLOWCRAFT__EXECUTOR__WORKERS__MAX", "'MAX' cannot be set, there is nothing below 'executor.workers'"),
    ],
)
def test_mistakes_in_names_of_the_environment(reported: Reported, name: str, shown: str) -> None:
    assert reported(BASE, environ={name: "1"}) == [f"environment variable {name}: {shown}"]


def test_a_wrong_value_says_which_variable_it_comes_from(reported: Reported) -> None:
    assert reported(BASE, environ={"FLOWCRAFT__EXECUTOR__WORKERS": "x"}) == [
        "executor.workers: expected a whole number, got 'x' (from environment variable FLOWCRAFT__EXECUTOR__WORKERS)"
    ]
    assert reported(BASE, environ={"FLOWCRAFT__EXECUTOR__LEASE": "10"}) == [
        "executor.lease: 10 has no unit; write 10s or 10ms (from environment variable FLOWCRAFT__EXECUTOR__LEASE)"
    ]
    assert "(from option for executor.workers)" in reported(BASE, overrides={"executor.workers": "x"})[0]


def test_empty_variables_set_nothing(load: Load) -> None:
    assert workers(load(BASE, environ={"FLOWCRAFT__EXECUTOR__WORKERS": ""})) == 1


def test_a_file_of_variables_beside_the_file(folder: Path, load: Load) -> None:
    (folder / ".env").write_text("N=5\nQUOTED='a b'\nFLOWCRAFT__NAME=shop\n# comment\nEMPTY\n")
    text = "handlers: {h: 'json:dumps'}\nexecutor: {workers: '${N}'}\n"
    result = load(text)
    assert workers(result) == 5
    assert result.settings is not None
    assert result.settings.name == "shop"
    assert workers(load(text, environ={"N": "6"})) == 6


def test_a_handlers_short_form_and_a_profiles_long_one_meet(load: Load) -> None:
    text = "handlers: {h: 'json:dumps'}\nprofiles: {p: {handlers: {h: {timeout: 3s}}}}\n"
    assert load(text, profile="p").handlers["h"].timeout == 3


def test_files_that_cannot_be_read(folder: Path) -> None:
    (missing,) = load_config(folder / "nowhere.yaml", environ={}).diagnostics
    assert str(missing) == "nowhere.yaml: no such file; name another one, or make it"
    (folder / "binary.yaml").write_bytes(b"a: \xff\n")
    (binary,) = load_config(folder / "binary.yaml", environ={}).diagnostics
    assert str(binary) == "binary.yaml:1:4   not UTF-8 text: byte 0xff; save it as UTF-8"
    (folder / "right.yaml").write_text("name: x\n")
    (folder / ".env").write_bytes("A=1\nB=stra\xdfe\n".encode("latin-1"))
    (environment,) = load_config(folder / "right.yaml", environ={}).diagnostics
    assert str(environment) == f"{folder / '.env'}:2:7   not UTF-8 text: byte 0xdf; save it as UTF-8"
    (folder / ".env").unlink()
    (folder / "folder.yaml").mkdir()
    (folder_itself,) = load_config(folder / "folder.yaml", environ={}).diagnostics
    assert "cannot be read" in str(folder_itself)


def test_a_file_that_is_no_yaml_is_reported_once(reported: Reported) -> None:
    (diagnostic,) = reported("handlers: [\n")
    assert "not valid YAML" in diagnostic


def test_a_variable_that_is_not_set_is_reported_once(reported: Reported) -> None:
    (diagnostic,) = reported("handlers: {h: 'json:dumps', g: '${G}'}\n")
    assert "environment variable G is not set" in diagnostic
    (diagnostic,) = reported("handlers: {h: 'json:dumps'}\nblueprints: {dirs: ['${D}']}\n")
    assert "environment variable D is not set" in diagnostic


def test_a_byte_order_mark_is_no_part_of_the_file(folder: Path) -> None:
    (folder / "bom.yaml").write_bytes(b"\xef\xbb\xbfhandlers: {h: 'json:dumps'}\n")
    assert load_config(folder / "bom.yaml", environ={}).settings is not None


def test_settings_alone_import_nothing(folder: Path) -> None:
    (folder / "flowcraft.yaml").write_text("handlers: {h: 'nowhere_at_all:x'}\nblueprints: {dirs: [missing]}\n")
    result = load_settings("flowcraft.yaml", environ={})
    assert result.settings is not None
    assert result.diagnostics == []


def test_what_is_shown_names_its_origin(load: Load) -> None:
    result = load(BASE, environ={"FLOWCRAFT__EXECUTOR__LEASE": "7s"}, overrides={"logging.level": "debug"})
    assert result.settings is not None
    rows = {
        path: (value, origin) for path, value, origin in with_origins(plain_settings(result.settings), result.values)
    }
    assert rows["executor.workers"] == (1, "flowcraft.yaml:3")
    assert rows["executor.lease"] == ("7s", "environment variable FLOWCRAFT__EXECUTOR__LEASE")
    assert rows["logging.level"] == ("debug", "option for logging.level")
    assert rows["executor.drainTimeout"] == ("25s", "default")
    assert rows["redis.url"] == ("embedded:", "flowcraft.yaml:4 (${REDIS_URL:-embedded:}; REDIS_URL not set)")
    assert rows["retention.failed.age"] == ("30d", "default")
    assert rows["limits.maxValue"] == ("16MiB", "default")


def origins_of(result: LoadResult) -> dict[str, str]:
    assert result.settings is not None, result.diagnostics
    return {path: origin for path, _, origin in with_origins(plain_settings(result.settings), result.values)}


def test_values_of_a_profile_and_of_the_env_file_say_so(folder: Path, load: Load) -> None:
    (folder / ".env").write_text("# ours\n\nFLOWCRAFT__EXECUTOR__LEASE=7s\nREDIS_URL=redis://h\nFLOWCRAFT__NAME=x\n")
    rows = origins_of(load(BASE, profile="prod", environ={"FLOWCRAFT__NAME": "y"}))
    assert rows["executor.workers"] == "flowcraft.yaml:7 (profile prod)"
    assert rows["executor.lease"] == ".env:3 (FLOWCRAFT__EXECUTOR__LEASE)"
    assert rows["name"] == "environment variable FLOWCRAFT__NAME"
    assert rows["redis.url"] == "flowcraft.yaml:8 (profile prod) (${REDIS_URL:?}; REDIS_URL from .env:4)"
    assert origins_of(load(BASE, environ={"REDIS_URL": "redis://h"}))["redis.url"].endswith(
        "REDIS_URL from the environment)"
    )


def test_origins_hold_no_secret(load: Load) -> None:
    text = (
        "handlers: {h: 'json:dumps'}\nredis: {url: '${R:-redis://:hidden@h}'}\n"
        "llm: {providers: {a: {type: openai-compatible, model: m, apiKey: '${K:-sk-12345}'}}}\n"
    )
    for environ in ({}, {"K": "sk-9876543", "R": "redis://:pw12@h"}):
        rows = origins_of(load(text, environ=environ))
        assert not any(secret in str(rows) for secret in ("hidden", "sk-12345", "sk-9876543", "pw12")), rows
        assert rows["llm.providers.a.apiKey"].startswith("flowcraft.yaml:3 (${K:-********}; K ")


def test_what_is_shown_can_be_loaded_again_and_holds_no_secret(folder: Path, load: Load) -> None:
    (folder / "token").write_text("from-a-file\n")
    result = load(
        "handlers: {h: {path: 'json:dumps', params: {authToken: t0ken, url: 'http://x/?${file:token}'}}}\n"
        "redis: {url: 'redis://:hidden@h'}\n"
        "retention: {failed: {age: forever}}\n"
        "llm: {providers: {a: {type: openai-compatible, model: m, apiKey: sk-12345}}}\n"
    )
    assert result.settings is not None
    plain = plain_settings(result.settings, result.secrets)
    assert not any(secret in str(plain) for secret in ("t0ken", "from-a-file", "hidden", "sk-12345"))
    assert plain["redis"]["url"] == "redis://:********@h"
    again = load(yaml.safe_dump(plain))
    assert again.settings is not None, again.diagnostics
    assert again.settings.retention == result.settings.retention
    assert again.settings.executor == result.settings.executor


def test_values_of_profiles_that_were_not_asked_for_are_checked(reported: Reported) -> None:
    base = "handlers: {h: 'json:dumps'}\nexecutor: {heartbeat: 4s}\n"
    for written, place, found in (
        ("{logging: {level: warn}}", ":3:33", "profiles.p.logging.level: expected trace, debug, info, warning"),
        ("{executor: {workers: many}}", ":3:3", "profiles.p.executor.workers: expected a whole number, got 'many'"),
        ("{executor: {lease: 6s}}", ":3:", "profiles.p.executor.heartbeat: 4s must be less than half of lease (6s"),
        ("{llm: {default: x, providers: {a: {type: scripted, file: f}}}}", ":3:", "profiles.p.llm.default: no provider 'x'"),
        ("{executor: {workers: '${N:-many}'}}", ":3:3", "got 'many' (written as ${N:-many})"),
        ("{llm: {providers: {a: {type: recorded, file: f}}}}", ":3:", "profiles.p.llm.providers.a.model: is required"),
    ):  # fmt: skip
        lines = reported(f"{base}profiles: {{p: {written}}}\n")
        assert len(lines) == 1 and place in lines[0] and found in lines[0], (written, lines)


def test_what_a_profile_leaves_to_variables_is_no_mistake(reported: Reported) -> None:
    token = "{name: a, role: admin, token: '${TOKEN:?}'}"
    for written in (
        "{redis: {url: '${U:?}'}}",
        f"{{api: {{bind: '0.0.0.0:80', auth: {{tokens: [{token}]}}}}}}",
        "{executor: {workers: '${N:?}', lease: '${L:?}'}}",
    ):
        assert reported(f"handlers: {{h: 'json:dumps'}}\nprofiles: {{p: {written}}}\n") == []


def test_a_mistake_of_the_file_is_reported_once_whatever_profiles_there_are(reported: Reported) -> None:
    lines = reported("handlers: {h: 'json:dumps'}\nexecutor: {workers: x}\nprofiles: {p: {executor: {lease: 20s}}}\n")
    assert len(lines) == 1 and lines[0].partition("executor")[0].find(":2:") > 0, lines
