"""Models that cannot be called from here are found by `check`, each at its place, and no call is made."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from flowcraft_server.cli.server import main as server

FILE = """handlers: {echo: 'json:dumps'}
llm: {default: own, providers: {own: {type: openai-compatible, model: my-own, apiKey: k}}}
"""
AGENTS = """inputs: {q: string}
nodes:
  a: {uses: agent, inputs: q, params: {model: "openai:gpt-4"}, next: b}
  b: {uses: agent, inputs: q, params: {model: [own, "opnai:gpt-4"]}, next: c}
  c: {uses: agent, inputs: q, params: {model: own}}
"""
UNKNOWN = "the price of the model 'my-own' is not known, and its calls would fail: set llm.prices"


@pytest.fixture(autouse=True)
def _deployment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "blueprints").mkdir()


def warnings_of(file: str, blueprint: str) -> list[str]:
    Path("flowcraft.yaml").write_text(f"{file}blueprints: {{dirs: [blueprints]}}\n")
    Path("blueprints/b.yaml").write_text(blueprint)
    done = CliRunner().invoke(server, ["check", "--offline"])
    assert done.exit_code == 0, done.output
    return [line.removesuffix("   [warning]") for line in done.output.splitlines() if line.endswith("[warning]")]


def test_a_model_of_an_agent_without_key_or_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    key, name = warnings_of(FILE, AGENTS)
    assert key.startswith(
        "blueprints/b.yaml:3:47   nodes.a.params.model: model 'openai:gpt-4': Set the `OPENAI_API_KEY`"
    )
    assert key.endswith(": the agent would fail") and "built-in test model" not in key
    about = "nodes.b.params.model[1]: model 'opnai:gpt-4': Unknown model: opnai:gpt-4: the agent would fail"
    assert name == f"blueprints/b.yaml:4:53   {about}"
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert warnings_of(FILE, AGENTS) == [name]


@pytest.mark.parametrize(
    ("blueprint", "place"),
    [
        ("budget: {usd: 1}\nnodes: {a: {uses: echo, inputs: q}}\n", "1:15   budget.usd"),
        (
            "budget: {tokens: 9}\nnodes: {a: {uses: echo, inputs: q, config: {budget: {usd: 1}}}}\n",
            "2:59   nodes.a.config.budget.usd",
        ),
        ("budget: {usd: 1}\nnodes: {a: {uses: agent, inputs: q}}\n", "1:15   budget.usd"),
    ],
)
def test_a_budget_in_usd_of_a_model_without_a_price(blueprint: str, place: str) -> None:
    assert f"blueprints/b.yaml:{place}: {UNKNOWN}" in warnings_of(FILE, blueprint)
    priced = FILE.replace("default: own", "default: own, prices: {my-own: {input: 1, output: 2}}")
    assert not any("price" in line for line in warnings_of(priced, blueprint))
    known = FILE.replace("my-own", "gpt-4o")
    assert not any("price" in line for line in warnings_of(known, blueprint))


def test_a_budget_in_usd_of_a_tag() -> None:
    (only,) = warnings_of(
        f"{FILE}budgets: {{tagsPerDay: {{x: {{usd: 3}}, y: {{tokens: 3}}}}}}\n", "nodes: {a: {uses: echo}}\n"
    )
    assert only == f"flowcraft.yaml:3:33   budgets.tagsPerDay.x.usd: {UNKNOWN}"


def test_nothing_is_looked_up_for_a_budget_in_tokens() -> None:
    assert warnings_of(FILE, "budget: {tokens: 9}\nnodes: {a: {uses: echo}}\n") == []
