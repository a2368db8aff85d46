"""One mistake is reported once: what only follows from it is left out."""

from collections.abc import Callable
from pathlib import Path

import pytest

Reported = Callable[..., list[str]]

FILE = "handlers: {dump: {path: 'json:dumps', limit: crm}}\n"
FLOWS = "blueprints: {dirs: [flows]}\n"
LIMITS = "limits: {named: {crm: {rate: 10/s}}}\n"
NIGHTLY = "schedules: {nightly: {blueprint: child, every: 15m}}\n"
CHILD = "id: child\nnodes:\n  a: {uses: dump, inputs: amount, config: {limit: crm}}\n"
TAKES = "id: takes\ninputs: {amount: integer}\nnodes:\n  a: {uses: dump, inputs: amount}\n"


@pytest.fixture
def flows(folder: Path) -> Path:
    place = folder / "flows"
    place.mkdir()
    (place / "child.yaml").write_text(CHILD)
    return place


@pytest.mark.parametrize(
    ("text", "about"),
    [
        (
            "handlerModules: [json]\n" + FLOWS + LIMITS,
            "handlerModules[0]: no function of 'json' has @handler before it",
        ),
        (FILE + FLOWS + LIMITS + "mcp: {a: {uri: 'http://h'}}\n", "mcp.a.uri: unknown key; did you mean 'url'?"),
        (FILE + LIMITS + NIGHTLY + "blueprnts: {dirs: [flows]}\n", "did you mean 'blueprints'?"),
        (FILE + LIMITS + NIGHTLY + "blueprints: {dir: [flows]}\n", "did you mean 'dirs'?"),
        (FILE + LIMITS + NIGHTLY + "blueprints: {dirs: [flow]}\n", "no folder 'flow'"),
        (FILE + FLOWS + "limits: {named: {crm: 10/s}}\n", "limits.named.crm: expected a mapping"),
        (FILE + FLOWS + "limits: {named: {crm: {rate: 10}}}\n", "limits.named.crm.rate: 10 has no unit"),
        (FILE + FLOWS + "limits: {named: [crm]}\n", "limits.named: expected a mapping"),
        (FILE + FLOWS + "limits: {naned: {crm: {rate: 10/s}}}\n", "did you mean 'named'?"),
        (FILE + FLOWS + "limts: {named: {crm: {rate: 10/s}}}\n", "did you mean 'limits'?"),
    ],
)
@pytest.mark.usefixtures("flows")
def test_a_wrong_section_explains_what_is_missing_of_it(reported: Reported, text: str, about: str) -> None:
    (only,) = reported(text)
    assert about in only


@pytest.mark.parametrize(
    ("node", "about"),
    [
        ("sub: {call: takes, inputs: {amont: amount}}", "blueprint 'takes' has no input of this name; did you mean 'amount'?"),
        ("nap: {uses: sleep, params: {durations: 3s}}", "'sleep' has no such param; did you mean 'duration'?"),
        ("each: {uses: map, inputs: items, params: {caall: takes}}", "'map' has no such param; did you mean 'call'?"),
        ("look: {uses: typed, params: {tokn: x}}", "handler 'typed' has no such param; did you mean 'token'?"),
    ],
)  # fmt: skip
def test_a_misspelt_key_explains_what_is_missing(flows: Path, reported: Reported, node: str, about: str) -> None:
    (flows / "takes.yaml").write_text(TAKES)
    (flows / "main.yaml").write_text(f"nodes:\n  {node}\n")
    (flows.parent / "deployed_typed.py").write_text(
        "from pydantic import BaseModel\nfrom flowcraft_sdk import handler\n"
        "class Params(BaseModel):\n    token: str\n"
        "@handler(params=Params)\ndef f(ctx): pass\n"
    )
    entries = "handlers: {dump: 'json:dumps', typed: 'deployed_typed:f'}\n"
    (only,) = reported(entries + FLOWS + LIMITS)
    assert about in only


def test_the_input_of_a_schedule_is_misspelt_or_missing(flows: Path, reported: Reported) -> None:
    (flows / "takes.yaml").write_text(TAKES)
    ticks = "schedules: {nightly: {blueprint: takes, every: 15m, input: {amonut: 3}}}\n"
    (only,) = reported(FILE + FLOWS + LIMITS + ticks)
    assert "did you mean 'amount'?" in only
    (only,) = reported(FILE + FLOWS + LIMITS + ticks.replace("amonut", "other"))
    assert "input 'amount' of blueprint 'takes' is missing" in only


def test_a_file_that_cannot_be_read_may_have_the_blueprint(flows: Path, reported: Reported) -> None:
    (flows / "broken.yaml").write_text("id: other\nnodes:\n  a: {uses: dump\n")
    (flows / "main.yaml").write_text("nodes:\n  a: {call: other}\n  b: {call: chld}\n")
    ticks = "schedules: {nightly: {blueprint: other, every: 15m}}\n"
    broken, near = reported(FILE + FLOWS + LIMITS + ticks)
    assert "flows/broken.yaml:4:1   not valid YAML" in broken
    assert "no blueprint 'chld'; did you mean 'child'?" in near


def test_misspelt_nodes_are_not_missing_besides(flows: Path, reported: Reported) -> None:
    (flows / "child.yaml").write_text("nods:\n  a: {uses: dump}\n")
    (only,) = reported(FILE + FLOWS + LIMITS)
    assert "unknown key; did you mean 'nodes'?" in only


@pytest.mark.parametrize("key", ["budget", "maxRetries", "max_retries"])
def test_what_belongs_under_config_is_shown_there(flows: Path, reported: Reported, key: str) -> None:
    (flows / "main.yaml").write_text(f"nodes:\n  a: {{uses: agent, params: {{{key}: 3}}}}\n")
    (only,) = [line for line in reported(FILE + FLOWS + LIMITS) if f"params.{key}" in line]
    name = "budget" if key == "budget" else "maxRetries"
    assert only.endswith(f"it belongs under 'config': config: {{{name}: ...}}")


@pytest.mark.parametrize(
    ("written", "about"),
    [
        ("lifspan: deployed_pool:lifespan", "lifspan: unknown key; did you mean 'lifespan'?"),
        ("lifespan: deployed_pool.lifespan", "did you mean 'deployed_pool:lifespan'?"),
        ("lifespan: '${LIFE}'", "environment variable LIFE is not set"),
    ],
)
def test_a_wrong_lifespan_explains_what_it_does_not_yield(
    folder: Path, reported: Reported, written: str, about: str
) -> None:
    (folder / "deployed_pool.py").write_text(
        "def lifespan():\n    yield {'pool': 1}\n\n\ndef takes(ctx, *, pool):\n    return pool\n"
    )
    (only,) = reported(f"handlers: {{takes: 'deployed_pool:takes'}}\n{written}\n")
    assert about in only


@pytest.mark.parametrize(
    ("served", "queue", "about"),
    [
        ("[default, io]", "oi", "'oi' is none of executor.queue in flowcraft.yaml; did you mean 'io'?"),
        ("mails", "mail", "did you mean 'mails'?"),
        ("[default, io]", "reports", None),  # other workers may serve it
        ("gpu1", "gpu2", None),
    ],
)
def test_a_misspelt_queue_is_found(flows: Path, reported: Reported, served: str, queue: str, about: str | None) -> None:
    (flows / "child.yaml").write_text(f"nodes: {{a: {{uses: dump, config: {{queue: {queue}}}}}}}\n")
    found = reported(f"{FILE}{LIMITS}{FLOWS}executor: {{queue: {served}}}\n")
    assert len(found) == (about is not None), found
    if about is not None:
        assert "flows/child.yaml:1:41   nodes.a.config.queue: " in found[0] and about in found[0]
