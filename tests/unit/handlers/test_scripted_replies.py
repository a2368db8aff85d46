"""Every prompt of the shipped blueprints has a scripted reply."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flowcraft_server.llm import Scripted
from handlers.templates import render

ROOT = Path(__file__).parents[3]
SAMPLE = {
    "topic": "tests",
    "resume": "I know SQL.",
    "coverLetter": "Dear team",
    "review": "Good.",
    "summary": "A happy customer writes: Good.",
    "draft": "Everybody talks about tests, few have tried it",
    "outline": "1. Why tests matters",
}


def _prompts() -> list[Any]:
    found = []
    for path in sorted((ROOT / "blueprints").glob("*.yaml")):
        for node_id, node in yaml.safe_load(path.read_text("utf-8"))["nodes"].items():
            if node["uses"].startswith("llm-"):
                found.append(pytest.param(node["params"], id=f"{path.stem}.{node_id}"))
    return found


@pytest.fixture(scope="module")
def scripted() -> Scripted:
    return Scripted.from_file("scripted", ROOT / "handlers" / "scripted_replies.yaml")


@pytest.mark.parametrize("params", _prompts())
def test_a_rule_matches(scripted: Scripted, params: dict[str, Any]) -> None:
    values = {name: SAMPLE.get(name, "user@example.org and more") for name in params["inputs"]}
    reply = scripted.script.reply_to(render(params["promptTemplate"], values))
    assert reply is not scripted.script.default
    assert "{{" not in reply.text
