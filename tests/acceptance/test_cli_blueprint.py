"""`flowcraft blueprint` and `flowcraft signal`."""

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flowcraft_sdk import RunStatus
from flowcraft_server.cli.client import main
from flowcraft_server.cli.server import main as server
from flowcraft_server.testing import TestEnvironment

GREETING = """id: greeting
description: Greets.
inputs: {name: string, tone: {type: string, default: calm}}
defaults: {timeout: 5s}
nodes:
  zeta: {uses: echo, inputs: name, params: {zz: 1, aa: {y: 1, b: 2}}, next: {"yes": ask, "*": alpha}}
  ask: {uses: wait, params: {actions: [ok, no]}, next: {ok: alpha, "no": zeta}}
  alpha: {call: other, inputs: {topic: name}, needs: {any: [greet]}}
  greet: {uses: echo}
"""
OTHER = "id: other\nnodes: {only: {uses: echo}}\n"
ASK = "id: ask\nnodes:\n  ask: {uses: wait, params: {actions: [ok, 'no']}, next: {ok: done, 'no': done}}\n  done: {uses: echo}\n"
Flowcraft = Callable[..., Result]


def echo(ctx: Any) -> Any:
    return ctx.input


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints={"greeting": GREETING, "other": OTHER, "ask": ASK}, handlers={"echo": echo}) as env:
        yield env


@pytest.fixture
def deployment(env: TestEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deployment that is the working folder, with Redis and the blueprints of the environment."""
    (tmp_path / "blueprints").mkdir()
    (tmp_path / "blueprints" / "greeting.yaml").write_text(GREETING)
    (tmp_path / "blueprints" / "other.yaml").write_text(OTHER)
    module = f"hands_{secrets.token_hex(4)}"  # one process imports a module once
    (tmp_path / f"{module}.py").write_text("def echo(ctx):\n    return ctx.input\n")
    (tmp_path / "flowcraft.yaml").write_text(
        f"name: {env.namespace}\nredis: {{url: {env.url}}}\nhandlers: {{echo: {module}:echo}}\nblueprints: {{dirs: [blueprints]}}\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("FLOWCRAFT_CONFIG", "FLOWCRAFT_PROFILE", "REDIS_URL", "FLOWCRAFT_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def flowcraft(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=stdin)


def good(*arguments: str) -> str:
    result = flowcraft(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


class TestShow:
    def test_json_is_the_plain_form_with_everything_worked_in(self, deployment: Path) -> None:
        plain = json.loads(good("blueprint", "show", "blueprints/greeting.yaml", "--json"))
        assert list(plain) == ["id", "description", "inputs", "nodes", "edges"]
        zeta, ask, alpha, greet = plain["nodes"]
        assert (zeta["id"], zeta["config"]) == ("zeta", {"timeout": 5000})
        assert (list(zeta["params"]), list(zeta["params"]["aa"])) == (["zz", "aa"], ["y", "b"])
        assert alpha["uses"] == "subflow"
        assert alpha["params"] == {"blueprintId": "other", "inputs": {"topic": "name"}}
        assert alpha["config"] == {"joinStrategy": "any"}
        assert ask["params"]["actions"] == ["ok", "no"]
        assert plain["edges"] == [
            {"source": "zeta", "target": "ask", "action": "yes"},
            {"source": "zeta", "target": "alpha"},
            {"source": "ask", "target": "alpha", "action": "ok"},
            {"source": "ask", "target": "zeta", "action": "no"},
            {"source": "greet", "target": "alpha"},
        ]
        assert greet["id"] == "greet"

    def test_the_plain_form_is_a_blueprint_file_itself(self, deployment: Path) -> None:
        plain = good("blueprint", "show", "greeting", "--json")
        (deployment / "plain.json").write_text(plain)
        assert good("blueprint", "show", "plain.json", "--json") == plain
        assert good("blueprint", "diff", "greeting", "plain.json") == "no difference\n"

    def test_an_analysis(self, deployment: Path) -> None:
        text = good("blueprint", "show", "greeting")
        for line in (
            "inputs     name: string, tone?: string", "nodes      4: echo, wait, subflow", "edges      5",
            "starts     greet, zeta", "ends       alpha", "cycles     zeta -> ask -> zeta",
        ):  # fmt: skip
            assert line in text
        assert "leads into the cycle zeta -> ask -> zeta; it begins with 'zeta'" in text

    def test_a_diagram(self, deployment: Path) -> None:
        assert good("blueprint", "show", "greeting", "--mermaid").startswith("flowchart TD\n    zeta(")

    def test_what_is_published(self, deployment: Path, env: TestEnvironment) -> None:
        version = {info.id: info.version for info in env.client.blueprints()}["ask"]
        for reference in ("ask", "ask@published", f"ask@{version}", f"ask@{version[:8]}"):
            assert json.loads(good("blueprint", "show", reference, "--json"))["nodes"][0]["id"] == "ask"
        assert f"ask ({version[:12]}, published)" in good("blueprint", "show", "ask")

    def test_what_is_not_there(self, deployment: Path) -> None:
        for reference, code, printed in [
            ("greting", 3, "no blueprint 'greting' is published; did you mean 'greeting'?"),
            ("ask@00000000", 3, "no blueprint 'ask' in version 00000000"),
            ("ask@0", 2, "4 characters"),
            ("none.yaml", 2, "none.yaml:1:1   cannot be read: No such file or directory"),
        ]:
            result = flowcraft("blueprint", "show", reference)
            assert (result.exit_code, result.stdout) == (code, "")
            assert printed in result.stderr
        assert flowcraft("blueprint", "show", "ask", "--json", "--mermaid").exit_code == 2


class TestList:
    def test_files_with_the_versions_they_are_published_under(self, deployment: Path, env: TestEnvironment) -> None:
        rows = json.loads(good("blueprint", "list", "--json"))
        published = {info.id: info.version for info in env.client.blueprints()}
        assert [row["id"] for row in rows] == ["greeting", "other"]
        assert rows[0]["file"] == "blueprints/greeting.yaml"
        assert (rows[0]["version"], rows[0]["nodes"]) == (published["greeting"], 4)
        assert rows[1]["version"] == published["other"]
        assert published["other"][:12] in good("blueprint", "list")

    def test_what_is_published(self, deployment: Path, env: TestEnvironment) -> None:
        for arguments in (
            ["blueprint", "list", "--published"],
            ["--url", env.url, "--namespace", env.namespace, "blueprint", "list"],
        ):
            rows = json.loads(good(*arguments, "--json"))
            assert [row["id"] for row in rows] == ["ask", "greeting", "other"]

    def test_a_profile(self, deployment: Path) -> None:
        (deployment / "more").mkdir()
        (deployment / "more" / "third.yaml").write_text("nodes: {a: {uses: echo}}\n")
        with (deployment / "flowcraft.yaml").open("a") as file:
            file.write("profiles: {more: {blueprints: {dirs: [more]}}, away: {redis: {url: redis://127.0.0.1:1}}}\n")
        rows = json.loads(good("--profile", "more", "blueprint", "list", "--json"))
        assert [row["id"] for row in rows] == ["third"]
        assert good("--profile", "more", "blueprint", "check") == "1 blueprint: 0 errors\n"
        assert "127.0.0.1:1" in flowcraft("--profile", "away", "list").stderr

    def test_a_broken_file_is_reported(self, deployment: Path) -> None:
        (deployment / "blueprints" / "broken.yaml").write_text("nodes: {a: {uses: echo, needs: nobody}}\n")
        result = flowcraft("blueprint", "list", "--json")
        assert result.exit_code == 2
        assert {row["id"]: row["version"] for row in json.loads(result.stdout)}["broken"] is None
        assert "blueprints/broken.yaml:1:" in result.stderr


class TestCheck:
    BROKEN = "nodes:\n  a: {uses: ecko, next: b}\n  b: {call: othr}\n"

    def test_the_deployment_as_the_server_checks_it(self, deployment: Path) -> None:
        assert good("blueprint", "check").startswith("2 blueprints: 0 errors")
        (deployment / "blueprints" / "broken.yaml").write_text(self.BROKEN)
        (deployment / "blueprints" / "worse.yaml").write_text("nodes: [\n")
        ours = flowcraft("blueprint", "check")
        theirs = CliRunner().invoke(server, ["check", "--offline"])
        assert (ours.exit_code, theirs.exit_code) == (2, 2)
        assert ours.stderr.splitlines()[:-1] == theirs.stderr.splitlines()[:-1]
        assert len(ours.stderr.splitlines()) >= 4

    def test_single_files_with_what_the_deployment_knows(self, deployment: Path) -> None:
        (deployment / "new.yaml").write_text(self.BROKEN)
        result = flowcraft("blueprint", "check", "new.yaml", "blueprints/other.yaml")
        assert result.exit_code == 2
        assert "new.yaml:2:13   nodes.a.uses: no handler 'ecko'" in result.stderr
        assert "no blueprint 'othr'; did you mean 'other'?" in result.stderr
        assert result.stderr.endswith("2 blueprints: 2 errors\n")
        assert good("blueprint", "check", "blueprints/other.yaml") == "1 blueprint: 0 errors\n"
        assert good("blueprint", "check", "blueprints").startswith("2 blueprints: 0 errors")

    def test_two_files_with_one_id(self, deployment: Path) -> None:
        (deployment / "new.yaml").write_text(OTHER)
        assert good("blueprint", "check", "new.yaml").startswith("1 blueprint")
        assert "is taken by" in flowcraft("blueprint", "check", "new.yaml", "blueprints/other.yaml").stderr

    def test_formats(self, deployment: Path) -> None:
        (deployment / "new.yaml").write_text(self.BROKEN)
        found = json.loads(flowcraft("blueprint", "check", "new.yaml", "--format", "json").stdout)
        assert [(diagnostic["line"], diagnostic["severity"]) for diagnostic in found] == [(2, "error"), (3, "error")]
        assert (
            "::error file=new.yaml,line=2" in flowcraft("blueprint", "check", "new.yaml", "--format", "github").stdout
        )

    def test_without_a_deployment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("FLOWCRAFT_CONFIG", raising=False)
        (tmp_path / "a.yaml").write_text("nodes: {a: {uses: whatever}}\n")
        assert good("blueprint", "check", "a.yaml") == "1 blueprint: 0 errors\n"
        assert "name files, or a deployment" in flowcraft("blueprint", "check").stderr


class TestDiff:
    def test_a_file_and_what_is_published(self, deployment: Path) -> None:
        assert good("blueprint", "diff", "greeting@published", "greeting") == "no difference\n"
        path = deployment / "blueprints" / "greeting.yaml"
        path.write_text(
            GREETING.replace("zz: 1", "zz: 2")
            .replace("  greet: {uses: echo}", "  hello: {uses: echo}")
            .replace("[greet]", "[hello]")
        )
        text = good("blueprint", "diff", "greeting@published", "greeting")
        for line in (
            "  - greet (uses echo)",
            "  + hello (uses echo)",
            "      params.zz: 1 -> 2",
            "  - greet -> alpha",
            "  + hello -> alpha",
        ):
            assert line in text.splitlines()
        found = json.loads(good("blueprint", "diff", "greeting@published", str(path), "--json"))
        assert (found["from"]["origin"], found["to"]["id"]) == ("published", "greeting")
        assert found["nodes"]["added"] == ["hello"]


class TestSignal:
    def waiting(self, env: TestEnvironment) -> str:
        run = env.client.start("ask")
        run.wait_for(RunStatus.WAITING, timeout=60)
        return run.run_id

    def test_payload_and_action(self, deployment: Path, env: TestEnvironment) -> None:
        run_id = self.waiting(env)
        assert f"ask waits\n  flowcraft signal {run_id} ask --action ok   (or no)\n" in good("show", run_id)
        assert good("signal", run_id, "ask", "-i", "by=Ann", "-i", "n=3", "--action", "ok", "--id", "s").strip()
        assert env.client.get_handle(run_id).result(timeout=60)["done"] == {"by": "Ann", "n": 3}
        assert good("signal", run_id, "ask", "--action", "ok", "--id", "s", "-i", "by=Ann") == "completed\n"

    def test_any_json_from_a_file(self, deployment: Path, env: TestEnvironment) -> None:
        run_id = self.waiting(env)
        result = flowcraft("signal", run_id, "-f", "-", "--action", "ok", "--json", stdin="[1, null]")
        assert json.loads(result.stdout)["run_id"] == run_id
        assert env.client.get_handle(run_id).result(timeout=60)["done"] == [1, None]

    def test_what_is_refused(self, deployment: Path, env: TestEnvironment) -> None:
        run_id = self.waiting(env)
        for arguments, code, printed in [
            (["nope"], 3, "no run nope"),
            ([run_id, "done"], 2, "node 'done' does not wait for a signal; waiting: ask"),
            ([run_id, "--action", "maybe"], 2, 'action: expected "ok" or "no", got "maybe"'),
            ([run_id, "--buffer"], 2, "needs node_id"),
            ([run_id, "-i", "x"], 2, "expected key=value"),
        ]:
            result = flowcraft("signal", *arguments)
            assert (result.exit_code, result.stdout) == (code, "")
            assert printed in result.stderr
        assert "not JSON" in flowcraft("signal", run_id, "-f", "-", stdin="{").stderr
        assert "is a JSON object" in flowcraft("signal", run_id, "-f", "-", "-i", "a=1", stdin="[]").stderr
        env.client.get_handle(run_id).cancel()
        assert "has ended (cancelled)" in flowcraft("signal", run_id, "ask").stderr
