"""The rules of the house: of no use to a user, but what keeps the code easy to work on."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import flowcraft_sdk
import flowcraft_server
from flowcraft_sdk.protocol import run_record, scripts
from flowcraft_sdk.records import NodeStatus, RunStatus

ROOT = Path(__file__).parents[1]
LONGEST = 500
SCRIPTS = sorted((ROOT / "sdk/flowcraft_sdk/protocol/lua").glob("*.lua"))
INCLUDES = sorted((ROOT / "sdk/flowcraft_sdk/protocol/lua/include").glob("*.lua"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
DANGEROUS_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal", "jsonpickle"}
DANGEROUS_CALLS = {"eval", "exec", "compile", "__import__"}


@cache
def files() -> list[Path]:
    """All files that are or might be committed."""
    command = ["git", "ls-files", "-co", "-z", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive, or no git on this machine
        listed = list(_walked())
    return sorted({ROOT / name for name in listed if name and (ROOT / name).is_file()})


def _walked() -> Iterator[str]:
    ignored = {line.strip("/\n") for line in (ROOT / ".gitignore").open(encoding="utf-8")} | {".git"}
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in ignored and not name.endswith((".egg-info", "_cache"))]
        yield from (os.path.relpath(os.path.join(folder, name), ROOT) for name in names if not name.endswith(".pyc"))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_files_are_short() -> None:
    long = {}
    for path in files():
        if path.suffix in (".py", ".lua") and not shown(path).startswith("tests/"):
            lines = len(path.read_text("utf-8").splitlines())
            if lines > LONGEST:
                long[shown(path)] = lines
    assert long == {}, f"more than {LONGEST} lines: split them along what they do"


def test_both_distributions_have_one_version_and_the_server_pins_the_sdk() -> None:
    server = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    sdk = tomllib.loads((ROOT / "sdk/pyproject.toml").read_text("utf-8"))["project"]
    assert {server["version"], sdk["version"], flowcraft_sdk.__version__, flowcraft_server.__version__} == {
        server["version"]
    }
    assert f"flowcraft-sdk=={sdk['version']}" in server["dependencies"]
    assert server["requires-python"] == sdk["requires-python"]
    assert (ROOT / "sdk/LICENSE").read_text("utf-8") == (ROOT / "LICENSE").read_text("utf-8")


def test_the_sdk_is_light() -> None:
    script = "import sys, flowcraft_sdk; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "flowcraft_sdk" in loaded
    heavy = {"huey", "starlette", "loguru", "yaml", "flowcraft_server", "pydantic_settings", "click", "rich", "openai"}
    assert heavy & set(loaded) == set()


@pytest.mark.parametrize("folder", ["sdk", "server", "handlers", "deploy"])
def test_nothing_runs_what_it_is_sent(folder: str) -> None:
    found = []
    for path in files():
        if path.suffix == ".py" and shown(path).startswith(f"{folder}/"):
            found += [f"{shown(path)}:{line}: {what}" for line, what in dangerous(path.read_text("utf-8"))]
    assert found == []


def dangerous(text: str) -> Iterator[tuple[int, str]]:
    """Lines that could run data: pickle and its like, eval, exec, shells, and YAML loaders that make objects."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            modules = []
        for module in modules:
            if module.partition(".")[0] in DANGEROUS_MODULES:
                yield node.lineno, f"import {module}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called.removeprefix("builtins.") in DANGEROUS_CALLS:
            yield node.lineno, called
        if called in ("os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            yield node.lineno, called
        if any(word.arg == "shell" and not _is_false(word.value) for word in node.keywords):
            yield node.lineno, f"{called}(shell=...)"


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from pickle import loads", "import cloudpickle.x", "eval('1')", "def f():\n    exec(x)",
        "builtins.eval(x)", "compile(x, 'f', 'exec')", "yaml.load(x, Loader=y)", "subprocess.run(x, shell=True)",
    ],
)  # fmt: skip
def test_the_rule_above_would_notice(text: str) -> None:
    assert list(dangerous(text))
    assert not list(dangerous("import json, re\nre.compile(x)\nsubprocess.run(x, shell=False)\nself.eval"))


def test_no_file_tells_of_the_machine_it_was_written_on() -> None:
    slash = "/"  # put together here, so that this file does not hold them itself
    patterns = [
        rf"(?<![\w.$-]){slash}(?:root|work|home|Users){slash}\w",
        rf"[A-Z]:\\{'Users'}\\",
        r"--(?:extra-)?index" + r"-url|(?:extra-)?index" + r"-url\s*=|--trusted" + r"-host",
        r"https?://[^\s\"')]*" + r"(?:/simple\b|pypi\.|artifactory|devpi|nexus)",
    ]
    pattern = re.compile("|".join(patterns))
    found = []
    for path in files():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{shown(path)}:{n}: {line.strip()[:100]}"
            for n, line in enumerate(text.splitlines(), 1)
            if pattern.search(line)
        ]
    assert found == []


RETIRED = {
    "who": "the process, worker, client or user", "nobody": "nothing, no worker", "somebody": "a worker, a client",
    "whoever": "the process that", "ear": "subscription", "switchboard": "subscription registry", "bell": "wake event",
    "seat": "claim request", "doze": "wait for notification", "drop_letters": "delete_dead_letters",
    "trouble": "condition, reason", "complain": "report, warn", "straight": "fast path", "follower": "successor",
    "hands_over": "direct_handoff", "brought_value": "edge_value", "inst": "instance_id", "fence": "fencing_token",
    "companions": "sibling nodes", "insist": "call_with_retry", "plainly": "read_with_retry", "disown": "lose_lease",
    "conclude": "build_outcome_call", "janitor": "retention", "lease keeper": "lease renewer",
    "work_loop": "thread_loop", "patience": "timeout",
}  # fmt: skip
"""Words that the code and the pages do not use, and what to write in their place: see CONTRIBUTING.md."""

RETIRED_IN_LUA = {
    "tell": "notify", "tells": "notify", "told": "notified", "said": "payload", "says": "returns", "unheard": "ignored",
    "letter": "state", "fences": "fencing tokens", "companion": "sibling",
    "bring": "carry", "brings": "carries", "brought": "carried, input_value", "caught": "recovered", "live": "active", "park": "parked",
    "general": "slow path", "own_successor": "direct_handoff", "listeners": "subscribers", "whom": "which node", "news": "change",
    "way": "path", "ways": "paths", "hangs": "is stuck", "goes on": "continues", "go on": "continue", "is over": "has ended",
    "bury": "leave_tombstone", "put aside": "retire", "puts aside": "retires",
}  # fmt: skip
"""Further words that Lua code and its comments do not use. Names of fields in Redis stay as they are: they stand in quotes."""
SPOKEN = dict.fromkeys(("told", "tell", "tells", "telling", "untold"), "notify, report, log, print, send")
SPOKEN |= dict.fromkeys(("said", "unsaid"), "payload, message, value") | dict.fromkeys(
    ("hear", "hears", "heard"), "receive, notice"
)
"""Words that processes and messages do not do; outside of Lua, also as a part of a name such as `_errors_told`."""

MEANT_OTHERWISE = re.compile(r"straight to")


def test_retired_words_stay_retired() -> None:
    retired = rf"(?<![\w.-])(?:{'|'.join(RETIRED)})(?![\w-])"
    spoken = rf"(?<![A-Za-z.-])(?:{'|'.join(SPOKEN)})(?![A-Za-z-])"
    in_lua, elsewhere = re.compile(retired, re.IGNORECASE), re.compile(f"{retired}|{spoken}", re.IGNORECASE)
    found = []
    for path in files():
        name = shown(path)
        is_page = path in PAGES
        is_code = path.suffix in (".py", ".lua") and name.startswith(
            ("sdk/", "server/flowcraft_server/", "handlers/", "deploy/")
        )
        if not (is_page or is_code) or "demo/" in name:
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for word in (in_lua if path.suffix == ".lua" else elsewhere).findall(MEANT_OTHERWISE.sub("", line)):
                found.append(f"{name}:{number}: {word}: write {(RETIRED | SPOKEN)[word.lower()]}")
    assert found == []


def test_retired_words_stay_retired_in_lua() -> None:
    pattern = re.compile(rf"(?<![\w'`-])({'|'.join(RETIRED_IN_LUA)})(?![\w'-])", re.IGNORECASE)
    found = [
        f"{shown(path)}:{number}: {word}: write {RETIRED_IN_LUA[word.lower()]}"
        for path in (*SCRIPTS, *INCLUDES)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for word in pattern.findall(re.sub(r"'[^']*'", "''", line.replace("refuse_record", "")))
    ]
    assert found == []


class TestScripts:
    @pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
    def test_each_opens_with_its_contract(self, path: Path) -> None:
        head = []
        for line in path.read_text("utf-8").splitlines():
            if not line.startswith("--"):
                break
            head.append(line)
        text = "\n".join(head)
        assert re.match(r"-- [A-Z]", text), "the first line says what the script does"
        for part in ("KEYS", "ARGV", "RETURNS"):
            assert re.search(rf"^-- {part} \S", text, re.MULTILINE), f"{path.name} does not name its {part}"

    @pytest.mark.parametrize("path", INCLUDES, ids=lambda path: path.stem)
    def test_each_include_says_what_it_is(self, path: Path) -> None:
        assert re.match(r"-- \S", path.read_text("utf-8"))

    @pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
    def test_each_has_a_direct_test(self, path: Path) -> None:
        direct = ("tests/engine/test_scripts.py", "tests/engine/test_suspects.py", "tests/engine/test_shared_limits.py",
                  "tests/engine/test_model_call_limits.py", "tests/engine/test_usage_and_budgets.py")  # fmt: skip
        direct += (
            "tests/engine/test_place_scripts.py",
            "tests/engine/test_parked_calls.py",
            "tests/engine/test_reply_cache.py",
        )
        text = "".join((ROOT / name).read_text("utf-8") for name in direct)
        called = rf"\bscripts\.{path.stem}\("
        if path.stem == "advance":
            called += r"|\.clock\.advance\("
        assert re.search(called, text), f"{path.name} is not called in {' or '.join(direct)}"

    def test_each_has_a_typed_wrapper(self) -> None:
        names = {path.stem for path in SCRIPTS}
        assert names == set(scripts.ALL)
        assert all(callable(getattr(scripts, name)) for name in names)


class TestStateMachine:
    """docs/state-machine.md says what the code does."""

    @staticmethod
    def rows(heading: str) -> list[list[str]]:
        text = (ROOT / "docs/state-machine.md").read_text("utf-8")
        section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section is not None, f"there is no section '{heading}'"
        lines = [line for line in section[1].splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]

    def test_states_of_a_run(self) -> None:
        live = {status.value for status in RunStatus if not status.is_terminal} - {"unknown"}
        ended = {status.value for status in RunStatus if status.is_terminal}
        left, reached, by = set(), set(), set()
        for before, after, how, _when in self.rows("Run"):
            names = {name.strip() for name in before.split(",")} - {"-"}
            left |= live if names == {"any active one"} else names
            reached.add(after)
            by |= {name.strip(" `") for name in re.sub(r"\([^)]*\)", "", how).split(",")} - {"any"}
        assert left == live, "each live state is left somewhere, and no ended one"
        assert reached == live | ended, "each state is reached somewhere"
        assert by <= {path.stem for path in SCRIPTS}, "what changes a run is a script"

    def test_states_of_a_node(self) -> None:
        states = self.rows("Node")
        letters: dict[str, NodeStatus] = {}
        for state, letter, _to, _by in states:
            found = re.findall(r"\b[A-Z]\b", letter)
            assert len(found) == 1, f"'{state}' has one letter"
            letters[found[0]] = NodeStatus(state.partition(",")[0])
        assert letters == run_record._STATES
        assert set(letters.values()) == set(NodeStatus) - {NodeStatus.UNKNOWN}

    def test_a_node_goes_only_to_states_that_exist(self) -> None:
        known = {status.value for status in NodeStatus} | {"recovered"}
        for state, _letter, to, _by in self.rows("Node"):
            names = {name.strip() for name in re.sub(r"\([^)]*\)", "", to).split(",")} - {"-"}
            assert names <= known, state


class TestPages:
    @pytest.mark.parametrize("path", PAGES, ids=shown)
    def test_make_targets_exist(self, path: Path) -> None:
        targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
        text = path.read_text("utf-8")
        code = re.findall(r"`[^`\n]+`|^    .+$|^```.*?^```", text, re.MULTILINE | re.DOTALL)
        named = {target for part in code for target in re.findall(r"\bmake ([a-z][\w-]*)", part)}
        assert named <= targets
        assert named or path.name != "README.md"

    @pytest.mark.parametrize("path", PAGES, ids=shown)
    def test_links_lead_somewhere(self, path: Path) -> None:
        broken = []
        for link in re.findall(r"\[[^\]\n]*\]\(([^)\s]+)\)", outside_of_code(path.read_text("utf-8"))):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name) if name else path
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(link)
        assert broken == []

    def test_each_page_is_in_the_index(self) -> None:
        index = (ROOT / "docs/index.md").read_text("utf-8")
        pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
        assert {page for page in pages if f"({page})" not in index} == {"index.md"}
        navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
        assert {page for page in pages if not re.search(rf"\b{re.escape(page)}$", navigation, re.MULTILINE)} == set()

    def test_each_dependency_is_accounted_for(self) -> None:
        page = (ROOT / "docs/dependencies.md").read_text("utf-8").lower()
        for file in ("pyproject.toml", "sdk/pyproject.toml"):
            project = tomllib.loads((ROOT / file).read_text("utf-8"))["project"]
            extras = project.get("optional-dependencies", {}).values()
            wanted = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
            names = {re.match(r"[\w-]+", requirement)[0].lower() for requirement in wanted} - {"flowcraft-sdk"}
            assert {name for name in names if not re.search(rf"\b{name}\b", page)} == set()

    def test_what_must_pass_is_run(self) -> None:
        run = re.findall(r"^make ([\w-]+)", (ROOT / ".ci/run").read_text("utf-8"), re.MULTILINE)
        # The tests last: their summary is the last line. The guard only reports.
        assert run == [
            "setup",
            "test-ui",
            "check",
            "check-docker",
            "check-image",
            "docs",
            "test-cluster",
            "guard",
            "test",
        ]


def outside_of_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as they are linked to."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_lua_unpacks_nothing_without_a_bound() -> None:
    """Lua's stack takes some 8,000 values: each `unpack` says how many there can be, or takes a part of known size."""
    unbounded = [
        f"{shown(path)}: {line.strip()}"
        for path in (*SCRIPTS, *INCLUDES)
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"\bunpack\s*\(", line.partition("--")[0])
        and not re.search(r"unpack\(\w+, from, math\.min\(from \+ \d{3,4}, #\w+\)\)|-- .*at most", line)
    ]
    assert unbounded == []
