"""The JSON Schemas of `flowcraft.yaml` and of blueprint files, judged by an independent validator."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from flowcraft_sdk._config.include import Includes
from flowcraft_sdk._config.yaml_reader import read_yaml
from flowcraft_sdk._config.yaml_tree import PositionTable
from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.blueprints.agent_params import PROVIDED
from flowcraft_server.blueprints.json_schema import blueprint_schema
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading.loader import load_file, load_text
from flowcraft_server.config.json_schema import config_schema, described_by
from flowcraft_server.config.load import load_config
from flowcraft_server.config.model import Settings

ROOT = Path(__file__).parents[3]
CORPUS = sorted((ROOT / "tests/unit/blueprints/broken").glob("*.yaml"))
SKIPPED = {".venv", ".git", "build", ".flowcraft"}
_BLOCK = re.compile(r"^```yaml[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Params(BaseModel):
    to: str
    copies: int = Field(default=1, alias="howMany")
    more: "list[Params] | None" = None


HANDLERS = {
    "mail": HandlerSpec(params=Params, actions=("sent", "bounced")),
    "echo": HandlerSpec(),
    "again": HandlerSpec(params=Params),
}


@pytest.fixture(scope="module")
def config() -> Draft202012Validator:
    return Draft202012Validator(config_schema())


@pytest.fixture(scope="module")
def any_blueprint() -> Draft202012Validator:
    return Draft202012Validator(blueprint_schema(None))


@pytest.fixture(scope="module")
def blueprint() -> Draft202012Validator:
    return Draft202012Validator(blueprint_schema(HANDLERS, ["review"], {"again": ["to"]}))


def values_of(text: str, folder: Path | None = None) -> Any:
    """A text as Flowcraft reads it, by the rules of YAML 1.2."""
    tree, diagnostics = read_yaml(text, "file.yaml", Includes(folder))
    assert tree is not None, diagnostics
    return PositionTable().data(tree, ())


def errors(validator: Draft202012Validator, text: str) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(values_of(text))]


def yaml_files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*.yaml")):
        if not SKIPPED & set(path.relative_to(ROOT).parts):
            yield path


def texts_of_blueprints() -> Iterator[tuple[str, str, Path | None]]:
    """All texts here that might be a blueprint in YAML: files, blocks of pages, broken ones."""
    for path in yaml_files():
        if path.parent.name not in ("broken", "kubernetes"):
            yield str(path.relative_to(ROOT)), path.read_text("utf-8"), path.parent
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for number, found in enumerate(_BLOCK.finditer(page.read_text("utf-8"))):
            yield f"{page.name}#{number}", found[1], None
    for path in CORPUS:
        for case in yaml.safe_load(path.read_text("utf-8")):
            if case.get("format", "yaml") == "yaml":
                yield f"{path.stem}: {case['name']}", case["text"], None


def test_both_are_schemas() -> None:
    for schema in (config_schema(), blueprint_schema(None), blueprint_schema(HANDLERS, ["a"], {"mail": ["to"]})):
        Draft202012Validator.check_schema(schema)
        assert json.loads(json.dumps(schema)) == schema


def test_whatever_loads_is_valid(any_blueprint: Draft202012Validator) -> None:
    refused, seen = [], 0
    for name, text, folder in texts_of_blueprints():
        if "nodes:" not in text:
            continue
        loaded, diagnostics = load_file(ROOT / name) if folder is not None else load_text(text, name)
        if loaded is None or any(diagnostic.severity == "error" for diagnostic in diagnostics):
            continue
        if any(
            ".params" in diagnostic.path
            for diagnostic in lint(loaded, handlers=PROVIDED, blueprints={loaded.id: loaded})
        ):
            continue
        seen += 1
        refused += [
            f"{name} {error.json_path}: {error.message[:150]}"
            for error in any_blueprint.iter_errors(values_of(text, folder))
        ]
    assert refused == []
    assert seen > 150


def test_what_is_shaped_wrongly_is_refused(any_blueprint: Draft202012Validator) -> None:
    """Of the broken files those that no other value has a part in: unknown keys, wrong kinds, numbers without units."""
    shapes = (
        "unknown key",
        "expected a mapping",
        "expected a list",
        "has no unit",
        "expected a number",
        "needs 'uses'",
    )
    accepted, refused = [], 0
    for path in CORPUS:
        for case in yaml.safe_load(path.read_text("utf-8")):
            if case.get("format", "yaml") != "yaml" or path.stem in ("yaml_text", "operators"):
                continue
            loaded, diagnostics = load_text(case["text"])
            if loaded is None or not any(
                diagnostic.severity == "error" and shape in diagnostic.message
                for diagnostic in diagnostics
                for shape in shapes
            ):
                continue
            if any_blueprint.is_valid(values_of(case["text"])):
                accepted.append(f"{path.stem}: {case['name']}")
            else:
                refused += 1
    assert accepted == []
    assert refused >= 45


@pytest.mark.parametrize(
    "node",
    [
        "{uses: mial, params: {to: x}}",
        "{uses: mail, params: {copies: 1}}",
        "{uses: mail, params: {to: x, howMany: many}}",
        "{uses: mail, params: {to: x, more: [{to: 3}]}}",
        "{uses: mail, params: {to: x}, next: {sned: b}}",
        "{uses: again, params: {howMany: x}}",
        "{uses: map, inputs: list, params: {uses: mial}}",
        "{uses: wait, params: {timeout: 5}}",
        "{uses: echo, needs: {some: [b]}}",
    ],
)
def test_what_handlers_declare(blueprint: Draft202012Validator, node: str) -> None:
    assert errors(blueprint, f"nodes: {{a: {node}, b: {{uses: echo}}}}")


@pytest.mark.parametrize(
    "node",
    [
        "{uses: mail, params: {to: x, howMany: 2, more: [{to: y}]}, next: {sent: b, '*': b}}",
        "{uses: mail, params: {to: x}, next: b}",
        "{uses: again, params: {howMany: 2}}",
        "{uses: echo, params: {any: thing}, next: {whatever: b}}",
        "{call: review}",
        "{call: other, inputs: {a: b}}",
        "{uses: map, inputs: list, params: {uses: echo, outputKey: all}}",
        "{uses: echo, inputs: {a: {value: [1]}, b: '= x + 1'}, config: {timeout: '= sla'}}",
    ],
)
def test_what_they_take(blueprint: Draft202012Validator, node: str) -> None:
    assert errors(blueprint, f"nodes: {{a: {node}, b: {{uses: echo}}}}") == []


def test_files_of_deployments_are_valid(config: Draft202012Validator) -> None:
    found = [path for path in yaml_files() if path.name == "flowcraft.yaml"]
    found_texts = [(str(path), path.read_text("utf-8")) for path in found]
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for block in _BLOCK.finditer(page.read_text("utf-8")):
            if re.search(r"^(handlers|handlerModules|redis|executor|profiles):", block[1], re.MULTILINE):
                found_texts.append((page.name, block[1]))
    assert len(found_texts) > 8
    for name, text in found_texts:
        assert (name, errors(config, text)) == (name, [])


@pytest.mark.parametrize(
    "text",
    [
        "handlers: {a: 'm:f', b: {path: 'm:f', timeout: 30s, queue: io, params: {x: 1}}}",
        "retention: {completed: 7d, failed: {age: forever, count: forever}, bytes: 1GiB}",
        "executor: {queue: [a, b], workers: '${N}', lease: 10s}",
        "executor: {queue: a}\nhistory: off\nx-mine: {y: 1}\nredis:\n",
        "history: false\nllm: {providers: {a: {type: scripted, file: f.yaml}}}",
        "profiles: {prod: {redis: {url: '${U:?}'}, handlers: {a: {timeout: 1m}}}, dev: }",
        "defaults: {retryDelay: 1s, maxRetries: 3}",
        "defaults: {retryDelay: {initial: 1s, factor: 2, max: 1m, jitter: 0.1}}",
    ],
)
def test_a_right_file(config: Draft202012Validator, text: str) -> None:
    assert errors(config, text) == []


@pytest.mark.parametrize(
    "text",
    [
        "handler: {}",
        "handlers: {a: {timeout: 30s}}",
        "handlers: {a: {path: 'm:f', timeout: 30}}",
        "executor: {workers: many}",
        "executor: {workers: 0}",
        "executor: {lease: 10}",
        "redis: {fsync: never}",
        "limits: {maxValue: 16}",
        "retention: {completed: {age: for ever}}",
        "llm: {providers: {a: {type: scripted}}}",
        "llm: {providers: {a: {type: other, file: x}}}",
        "profiles: {prod: {redis: {urll: x}}}",
        "profiles: [prod]",
        "version: one",
        "blueprints: {dirs: blueprints, recursive: true}",
    ],
)
def test_a_wrong_file(config: Draft202012Validator, text: str) -> None:
    assert errors(config, text)


def test_what_is_shaped_wrongly_in_a_broken_file_is_refused(config: Draft202012Validator) -> None:
    """Of the broken files those whose mistake is the shape of a single value."""
    shapes = (
        "unknown key",
        "has no unit",
        "is required",
        "must be at",
        "expected a whole number",
        "expected a list",
        "not allowed",
    )
    accepted, refused = [], 0
    for case in yaml.safe_load((Path(__file__).parent / "broken.yaml").read_text("utf-8")):
        if any(shape in line for shape in shapes for line in case["expect"]):
            if config.is_valid(values_of(case["text"])):
                accepted.append(case["name"])
            else:
                refused += 1
    assert accepted == ["too small a size"]  # a bound of a value that is written with a unit
    assert refused >= 25


def test_each_key_is_described() -> None:
    schema = config_schema()
    assert schema["properties"].keys() == {field.alias or name for name, field in Settings.model_fields.items()} | {
        "profiles"
    }
    about, described = described_by(Settings)
    assert about.startswith("Everything that can be set")
    assert described.keys() == Settings.model_fields.keys()
    assert schema["properties"]["name"]["description"].startswith("Namespace of all keys in Redis")


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "flowcraft.yaml").write_text(
        "handlers: {hello: schema_h:hello, gone: schema_h:gone}\nblueprints: {dirs: [b]}\n"
    )
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one.yaml").write_text("nodes: {a: {uses: hello, next: {yes: a}}}\n")
    code = "from flowcraft_sdk import handler\n\n@handler(actions=['hi'])\ndef hello(ctx): ...\n"
    (tmp_path / "schema_h.py").write_text(code)
    server = str(Path(sys.executable).with_name("flowcraft-server"))
    done = subprocess.run([server, "schema", "--write"], cwd=tmp_path, capture_output=True, text=True, check=False)
    names = ("config", "blueprint", "eval")
    assert done.stdout.split() == [f".flowcraft/{name}.schema.json" for name in names], done.stderr
    assert "handlers.gone" in done.stderr
    written = json.loads((tmp_path / ".flowcraft/blueprint.schema.json").read_text())
    uses = written["$defs"]["node"]["properties"]["uses"]["anyOf"][0]["enum"]
    assert uses[:2] == ["gone", "hello"] or uses[:2] == ["hello", "gone"]
    validator = Draft202012Validator(written)
    assert errors(validator, "nodes: {a: {uses: hello, next: {yes: b}}, b: {uses: gone}}")
    assert errors(validator, "nodes: {a: {uses: hello, next: {hi: b}}, b: {uses: gone}}") == []
    done = subprocess.run(
        [server, "check", "--offline", "--format", "sarif"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert_sarif(json.loads(done.stdout))


def assert_sarif(log: dict[str, Any]) -> None:
    """What SARIF 2.1.0 wants of what we write (sections 3.13 to 3.30)."""
    assert log["version"] == "2.1.0"
    assert log.keys() == {"$schema", "version", "runs"}
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    rules = [rule["id"] for rule in driver["rules"]]
    assert driver["name"]
    assert run["results"]
    for result in run["results"]:
        assert result.keys() <= {"ruleId", "ruleIndex", "level", "message", "locations"}
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("error", "warning")
        assert result["message"]["text"]
        for location in result["locations"]:
            place = location["physicalLocation"]
            assert re.fullmatch(r"[\w./%:-]+", place["artifactLocation"]["uri"])
            assert place["artifactLocation"].get("uriBaseId", "%SRCROOT%") in run["originalUriBaseIds"]
            assert place["region"]["startLine"] >= 1
            assert place["region"]["startColumn"] >= 1


def test_sarif_of_names_with_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowcraft_server.cli.sarif import sarif

    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "ä b.yaml").write_text("nodes: {a: {uses: x, neds: c}}\n")
    (tmp_path / "flowcraft.yaml").write_text("executor: {workers: many}\nblueprints: {dirs: [flows]}\n")
    log = sarif(load_config("flowcraft.yaml").diagnostics, Path("flowcraft.yaml"))
    assert_sarif(log)
    found = [(result["ruleId"], result["locations"][0]["physicalLocation"]) for result in log["runs"][0]["results"]]
    assert ("flowcraft/config", {"artifactLocation": {"uri": "flowcraft.yaml", "uriBaseId": "%SRCROOT%"},
            "region": {"startLine": 1, "startColumn": 21}}) in found  # fmt: skip
    assert any(place["artifactLocation"]["uri"] == "flows/%C3%A4%20b.yaml" for _, place in found)
