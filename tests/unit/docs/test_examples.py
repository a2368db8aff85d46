"""The examples of README and docs are true: blueprints load and run as they say, files of settings are right, code runs.

A block of `yaml` with nodes or edges is a blueprint, any other one is a `flowcraft.yaml`. A block `runs` behind a
blueprint says what comes of it: `START -> RESULT`, both JSON; the result may have more keys than are named, and
`START -> failed: TEXT` is a run that fails with TEXT in its message. The handlers are those of the page's Python block
that fills HANDLERS. Python blocks are compiled, and run unless they name a Redis or files of the reader's own. Blocks that
name their file ("```yaml flowcraft.yaml") belong to a walkthrough and are tried by test_walkthroughs.py.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowcraft_sdk import Client, RunFailedError
from flowcraft_sdk._config.value_tree import Tree
from flowcraft_server.blueprints.linting.builtin_nodes import PARAMS
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading import keys as loader_keys
from flowcraft_server.blueprints.loading.contract import INPUT_TYPES
from flowcraft_server.blueprints.loading.loader import load_text
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.config.llm_section import OpenAIProviderSection
from flowcraft_server.config.load import load_settings
from flowcraft_server.config.model import Settings
from flowcraft_server.config.sections import DefaultsSection, RetryDelaySection
from flowcraft_server.config.show import plain_settings
from flowcraft_server.testing import TestEnvironment

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "sdk/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ENVIRONMENT = {"REDIS_URL": "redis://localhost:6379/0", "OPENAI_API_KEY": "k", "MAIL_FROM": "a@b.example"}
ELSEWHERE = ("redis://", "from_config", "flowcraft.yaml", "handlers.", "from .")


@dataclass(frozen=True)
class Block:
    """A fenced block; what stands under one `##` heading belongs together."""

    page: Path
    line: int
    language: str
    text: str
    section: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    language, begun, lines, section = "", 0, [], ""
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if begun and line == "```":
            yield Block(page, begun, language, "\n".join(lines) + "\n", section)
            begun, lines = 0, []
        elif begun:
            lines.append(line)
        elif line.startswith("```"):
            begun, language = number, line.removeprefix("```").strip()
        elif line.startswith("## "):
            section = line
    assert not begun, f"{page}:{begun}: this block is not closed"


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
YAML = [block for block in BLOCKS if block.language == "yaml"]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def as_blueprint(block: Block) -> str | None:
    """The text of a whole blueprint; None for a file of settings."""
    keys = yaml.load(block.text, yaml.BaseLoader)
    if "nodes" in keys:
        return block.text
    if "edges" not in keys:
        return None
    ends = {edge[end] for edge in keys["edges"] for end in ("source", "target")}
    return block.text + "nodes: {" + ", ".join(f"{name}: {{uses: x}}" for name in sorted(ends)) + "}\n"


def loaded(block: Block) -> Blueprint:
    blueprint, diagnostics = load_text(as_blueprint(block) or "", str(block), "example")
    assert [str(diagnostic) for diagnostic in diagnostics] == []
    assert blueprint is not None
    return blueprint


@dataclass
class Group:
    """What stands in one section of a page: its blueprints, and what comes of running them."""

    blueprints: list[Blueprint] = field(default_factory=list)
    runs: list[tuple[Block, str, str]] = field(default_factory=list)


def groups() -> dict[tuple[Path, str], Group]:
    found: dict[tuple[Path, str], Group] = {}
    for block in BLOCKS:
        group = found.setdefault((block.page, block.section), Group())
        if block.language == "yaml" and as_blueprint(block) is not None:
            group.blueprints.append(loaded(block))
        elif block.language == "runs":
            assert group.blueprints, f"{block}: there is no blueprint above"
            group.runs.extend(
                (block, group.blueprints[-1].id, line) for line in block.text.splitlines() if line.strip()
            )
    return {place: group for place, group in found.items() if group.runs}


def handlers_of(page: Path) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in PYTHON:
        if block.page == page and "HANDLERS = " in block.text:
            exec(compile(block.text, str(block), "exec"), names)
    return dict(names["HANDLERS"])


@pytest.mark.parametrize("block", YAML, ids=str)
def test_yaml_is_accepted(block: Block, tmp_path: Path) -> None:
    if as_blueprint(block) is not None:
        blueprint = loaded(block)
        siblings = {other.id: other for other in map(_quietly, YAML) if other is not None}
        diagnostics = lint(blueprint, handlers=None, blueprints={**siblings, blueprint.id: blueprint})
        assert [str(diagnostic) for diagnostic in diagnostics if diagnostic.severity == "error"] == []
        return
    file = tmp_path / "flowcraft.yaml"
    file.write_text(block.text, "utf-8")
    (tmp_path / "secret").write_text("s3cret", "utf-8")
    for profile in [None, *(yaml.safe_load(block.text).get("profiles") or ())]:
        result = load_settings(file, profile=profile, environ=ENVIRONMENT)
        assert [diagnostic.message for diagnostic in result.diagnostics] == []


def _quietly(block: Block) -> Blueprint | None:
    text = as_blueprint(block)
    return None if text is None else load_text(text, str(block), "example")[0]


@pytest.mark.parametrize(("page", "section"), list(groups()), ids=lambda part: getattr(part, "name", part))
def test_blueprints_run_as_the_page_says(page: Path, section: str) -> None:
    group = groups()[page, section]
    with TestEnvironment(blueprints=group.blueprints, handlers=handlers_of(page)) as env:
        for block, blueprint_id, line in group.runs:
            start, arrow, shown = line.partition(" -> ")
            assert arrow, f"{block}: START -> RESULT"
            if shown.startswith("failed: "):
                with pytest.raises(RunFailedError) as caught:
                    env.client.execute(blueprint_id, json.loads(start), timeout=10)
                assert shown.removeprefix("failed: ") in str(caught.value), line
                continue
            result, expected = env.client.execute(blueprint_id, json.loads(start), timeout=10), json.loads(shown)
            assert {key: result.get(key, "nothing") for key in expected} == expected, f"{block}: {line}"


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles_and_runs(block: Block) -> None:
    code = compile(block.text, str(block), "exec", dont_inherit=True)
    if any(word in block.text for word in ELSEWHERE):
        return
    siblings = [loaded(other) for other in YAML if other.page == block.page and as_blueprint(other)]
    handlers = handlers_of(block.page) if any("HANDLERS = " in b.text and b.page == block.page for b in PYTHON) else {}
    with TestEnvironment(blueprints=siblings, handlers=handlers, check=bool(handlers)) as env:
        names: dict[str, Any] = {"client": env.client, "url": env.url, "namespace": env.namespace}
        assert isinstance(names["client"], Client)
        exec(code, names)
        main = names.get("main")
        if asyncio.iscoroutinefunction(main):
            asyncio.run(main())
        elif callable(main):
            main()
        for name in [name for name in names if name.startswith("test_")]:
            names[name]()


class TestConfigurationPage:
    TEXT = (ROOT / "docs/configuration.md").read_text("utf-8")

    def rows(self) -> dict[str, str]:
        table = self.TEXT.partition("| key | default | |")[2].partition("Without a default:")[0]
        return dict(re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|", table, re.MULTILINE))

    def test_each_key_is_there_with_its_default(self) -> None:
        defaults = {}
        for path, value in Tree(plain_settings(Settings())).leaves():
            text = {True: "on", False: "off"}.get(value) if isinstance(value, bool) else None
            defaults[".".join(map(str, path))] = text or (value if isinstance(value, str) else json.dumps(value))
        described_apart = {"handlers", "llm.providers", "mcp", "limits.named", "schedules", "hooks"}
        assert self.rows() == {name: text for name, text in defaults.items() if name not in described_apart}

    @pytest.mark.parametrize("section", [RetryDelaySection, OpenAIProviderSection, DefaultsSection])
    def test_keys_without_a_default_are_there(self, section: Any) -> None:
        for field_ in section.model_fields.values():
            assert re.search(rf"[`.]{field_.alias}\b", self.TEXT), field_.alias


class TestBlueprintPage:
    TEXT = (ROOT / "docs/blueprints.md").read_text("utf-8")

    @pytest.mark.parametrize(
        "keys",
        [
            loader_keys.BLUEPRINT_KEYS, loader_keys.NODE_KEYS, loader_keys.EDGE_KEYS, loader_keys.CONFIG_KEYS,
            loader_keys.RETRY_DELAY_KEYS, loader_keys.CONTRACT_KEYS, tuple(PARAMS), INPUT_TYPES,
            *(tuple(params) for params in PARAMS.values()),
        ],
        ids=lambda keys: keys[0],
    )  # fmt: skip
    def test_each_key_is_there(self, keys: tuple[str, ...]) -> None:
        missing = [key for key in keys if not re.search(rf"[`.{{ ,]{re.escape(key)}\b", self.TEXT)]
        assert missing == []
