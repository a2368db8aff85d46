"""The Dockerfile keeps the rules, and the checker notices when one does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.check_dockerfile import check, steps
from deploy.dockerfile import Ignored, Unreadable, read_instructions, read_stages

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "Dockerfile").read_text("utf-8")


def rules(text: str, root: Path = ROOT) -> list[str]:
    return [finding.rule for finding in check(text, root)]


class TestOurs:
    def test_it_keeps_all_rules(self) -> None:
        assert [str(finding) for finding in check(TEXT, ROOT)] == []

    def test_it_is_what_the_readme_says(self) -> None:
        last = read_stages(TEXT)[-1]
        assert last.last("ENTRYPOINT").listed() == ["flowcraft-server"]
        assert last.last("CMD").listed() == ["run"]
        assert last.last("USER").rest.split(":")[0] == "10001"
        assert last.last("WORKDIR").rest == "/app"
        assert '"health"' in last.last("HEALTHCHECK").rest

    def test_nothing_but_what_is_copied_reaches_the_build(self) -> None:
        ignored = Ignored((ROOT / ".dockerignore").read_text("utf-8").splitlines())
        for kept in (
            "server/flowcraft_server/__init__.py",
            "sdk/flowcraft_sdk/protocol/lua/start.lua",
            "flowcraft.yaml",
        ):
            assert not ignored(kept)
        for left in (
            ".env",
            ".git/config",
            ".venv/bin/python",
            "tests/test_house.py",
            "handlers/.env",
            "docs/index.md",
        ):
            assert ignored(left)
        assert ignored("server/flowcraft_server/__pycache__/x.pyc")

    def test_the_install_steps_are_those_of_the_dockerfile(self) -> None:
        script = "\n".join(steps(TEXT, ROOT, "/T"))
        assert "/T/opt/venv/bin/pip" in script
        assert "-c constraints.txt ./sdk '.[llm]'" in script
        assert "useradd" not in script
        assert not [line for line in script.splitlines() if " /opt/" in line or " /src" in line]

    def test_the_command_tells_by_its_exit_code(self, tmp_path: Path) -> None:
        bad = tmp_path / "Dockerfile"
        bad.write_text("FROM python:latest\n")
        for file, code in ((ROOT / "Dockerfile", 0), (bad, 1)):
            command = [sys.executable, "-m", "deploy.check_dockerfile", "--file", str(file)]
            assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == code

    def test_compose_gives_redis_that_keeps_data(self) -> None:
        services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))["services"]
        command = " ".join(services["redis"]["command"])
        assert "--maxmemory-policy noeviction" in command
        assert "--appendonly yes" in command
        assert services["server"]["environment"]["REDIS_URL"].startswith("redis://redis:")
        assert int(services["server"]["stop_grace_period"].rstrip("s")) > 25


class TestBadOnes:
    @pytest.mark.parametrize(
        ("old", "new", "rule"),
        [
            ("python:3.11.14-slim-bookworm AS", "python AS", "base-tag"),
            ("python:3.11.14-slim-bookworm AS", "python:latest AS", "base-tag"),
            ("python:3.11.14-slim-bookworm AS", "python:latest-slim AS", "base-tag"),
            ("python:3.11.14-slim-bookworm AS", "registry:5000/python AS", "base-tag"),
            ("python:3.11.14-slim-bookworm AS", "python:slim AS", "base-tag"),
            ("USER 10001:10001\n", "", "user"),
            ("USER 10001:10001", "USER root", "user"),
            ("USER 10001:10001", "USER 0:0", "user"),
            ("USER 10001:10001", "USER flowcraft", "user"),
            ("USER 10001:10001", "USER 10001\nUSER root", "user"),
            ("RUN python", "RUN apt-get update && apt-get install -y --no-install-recommends git\nRUN python", "apt"),
            ("RUN python", "RUN apt-get install -y git && rm -rf /var/lib/apt/lists/*\nRUN python", "apt"),
            ("pip --no-cache-dir", "pip", "pip-cache"),
            (" -c constraints.txt", "", "constraints"),
            ("-c constraints.txt ./sdk", "-c constraints.txt -e ./sdk", "editable"),
            ('ENTRYPOINT ["flowcraft-server"]', "ENTRYPOINT flowcraft-server", "exec-form"),
            ('ENTRYPOINT ["flowcraft-server"]', "ENTRYPOINT ['flowcraft-server']", "exec-form"),
            ('ENTRYPOINT ["flowcraft-server"]\n', "", "entrypoint"),
            ('CMD ["run"]', "CMD run", "exec-form"),
            ('CMD ["flowcraft-server", "health"]', "CMD flowcraft-server health", "exec-form"),
            ("HEALTHCHECK --interval=10s --timeout=10s --start-period=20s --retries=3 CMD", "LABEL x=", "healthcheck"),
            ("COPY handlers ./handlers", "COPY handlers ./handlers\nHEALTHCHECK NONE", None),
            ('CMD ["run"]', 'CMD ["run"]\nHEALTHCHECK NONE', "healthcheck"),
            ("COPY handlers ./handlers", "COPY handelrs ./handlers", "copy"),
            ("COPY handlers ./handlers", "COPY tests ./tests", "copy"),
            ("COPY handlers ./handlers", 'COPY ["nothing here", "./"]', "copy"),
            ("COPY handlers ./handlers", "COPY *.nothing ./", "copy"),
            ("COPY handlers ./handlers", "ADD handlers ./handlers", "copy"),
            ("--from=builder", "--from=bulider", "copy"),
            ("WORKDIR /app", "WORKDIR app", "workdir"),
            ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGKILL", "stopsignal"),
        ],
    )
    def test_each_kind_is_noticed(self, old: str, new: str, rule: str | None) -> None:
        assert old in TEXT
        assert rules(TEXT.replace(old, new, 1)) == ([rule] if rule else [])

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no FROM"),
            ("# nothing\n", "no FROM"),
            ("RUN x\nFROM python:3.11\n", "before the first FROM"),
            ("FROM python:3.11 builder\n", r"FROM image \[AS name\]"),
            ("FROM python:3.11\nRUN <<EOF\nls\nEOF\n", "here-documents"),
            ("FROM python:3.11\nRUN ls \\\n", "nothing follows"),
            ("FROM\n", "no instruction"),
        ],
    )
    def test_what_cannot_be_read_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(Unreadable, match=message):
            check(text, ROOT)

    def test_a_finding_names_the_line_it_begins_at(self) -> None:
        finding = next(iter(check(TEXT.replace("pip --no-cache-dir", "pip"), ROOT)))
        assert TEXT.splitlines()[finding.line - 1].startswith("RUN PIP_CONSTRAINT")

    def test_constraints_and_cache_may_be_set_by_env(self) -> None:
        text = TEXT.replace("pip --no-cache-dir", "pip").replace(" -c constraints.txt", "")
        text = text.replace("WORKDIR /src", "WORKDIR /src\nENV PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/src/constraints.txt")
        assert rules(text) == []


class TestReading:
    def test_continued_lines_comments_and_flags(self) -> None:
        text = "from a:1.2\nrun --mount=type=cache,target=/x \\\n  # said in between\n\n  one \\\n  two\n"
        first, second = read_instructions(text)
        assert (first.name, second.name, second.line, second.rest.split()) == ("FROM", "RUN", 2, ["one", "two"])
        assert second.flag("mount") == "type=cache,target=/x"

    def test_a_digest_pins_and_a_stage_may_be_a_base(self) -> None:
        assert "base-tag" not in rules(f"FROM a@sha256:{'0' * 64} AS x\nFROM x\nFROM scratch\n")

    @pytest.mark.parametrize(
        ("patterns", "path", "ignored"),
        [
            (["*", "!sdk"], "sdk/a/b.py", False),
            (["*", "!sdk", "sdk/a"], "sdk/a/b.py", True),
            (["**/*.pyc"], "a/b/c.pyc", True),
            (["**/*.pyc"], "c.pyc", True),
            (["*.pyc"], "a/c.pyc", False),
            (["a?c", "# said", ""], "abc", True),
            (["/docs/"], "docs/index.md", True),
            (["docs.md"], "docs-md", False),
        ],
    )
    def test_dockerignore(self, patterns: list[str], path: str, ignored: bool) -> None:
        assert Ignored(patterns)(path) is ignored

    def test_the_exec_form_is_json(self) -> None:
        entry = read_instructions(f"ENTRYPOINT {json.dumps(['a', 'b c'])}")[0]
        assert entry.listed() == ["a", "b c"]
