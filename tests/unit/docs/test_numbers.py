"""What the pages say in numbers and names is what the code does."""

import inspect
import re
from pathlib import Path

import pytest

import flowcraft_sdk
from flowcraft_sdk.protocol import bounds
from flowcraft_server.blueprints.compiling import compiler
from flowcraft_server.blueprints.linting import sizes as linter_sizes
from flowcraft_server.worker import prefetch

ROOT = Path(__file__).parents[3]
DOCS = {path.relative_to(ROOT / "docs").as_posix(): path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.md")}
LUA = ROOT / "sdk/flowcraft_sdk/protocol/lua"
SOURCES = {path.relative_to(LUA).as_posix(): path.read_text("utf-8") for path in LUA.rglob("*.lua")}


def row(page: str, *words: str) -> str:
    """The line of a table that holds all of these words."""
    (found,) = [
        line for line in DOCS[page].splitlines() if line.startswith("|") and all(word in line for word in words)
    ]
    return found


def number(name: str, pattern: str) -> int:
    """A constant of a script."""
    found = re.search(pattern, SOURCES[name])
    assert found is not None, f"{name} has no {pattern}"
    return int(found[1])


def test_sorted_sets_and_hashes() -> None:
    used = {name for text in SOURCES.values() for name in re.findall(r"B \.\. '(\w+)'", text)}
    reported = set(
        re.findall(r"`(?:B )?(\w+)`", "\n".join(line for line in DOCS["store.md"].splitlines() if line.startswith("|")))
    )
    assert used - reported - {"control"} == set()


@pytest.mark.parametrize(
    ("page", "shown", "value"),
    [
        ("state-machine.md", r"\((\d+) a process at most\)", prefetch.MOST_AHEAD),
        ("state-machine.md", r"A call takes (\d+) steps at most", number("include/graph.lua", r"setting\('steps', '(\d+)'\)")),
        ("state-machine.md", r"more than (\d+) edges keeps them in chunks", number("include/joins.lua", r"CHUNK = (\d+)")),
        ("state-machine.md", r"more than (\d+) edges keeps them in chunks", compiler.WIDEST_STRING),
        ("store.md", r"more than (\d+) edges of a node are in pieces", compiler.EDGES_A_PIECE),
        ("store.md", r"more than (\d+) edges of a node are in pieces", number("include/graph.lua", r"PIECE = (\d+)")),
        ("store.md", r"was set aside: .*?; ([\d,]+) at most", number("include/base.lua", r"MOST_BROKEN = (\d+)")),
        ("store.md", r"latest ([\d,]+) signals", number("include/waits.lua", r"MOST_SIGNALS = (\d+)")),
        ("blueprints.md", r"\| nodes \| ([\d,]+) \|", linter_sizes.MOST_NODES),
        ("blueprints.md", r"or from one \| ([\d,]+) \|", linter_sizes.MOST_EDGES),
        ("blueprints.md", r"run begins \| ([\d,]+) \|", linter_sizes.MOST_STARTS),
        ("blueprints.md", r"`inputs` of a node \| ([\d,]+) \|", linter_sizes.MOST_NAMES),
        ("blueprints.md", r"end in one \| ([\d,]+); [\d,]+ \|", linter_sizes.MOST_IN_LOOP),
        ("blueprints.md", r"loops within each other \| ([\d,]+) \|", linter_sizes.MOST_NESTED),
        ("blueprints.md", r"end in one \| [\d,]+; ([\d,]+) \|", linter_sizes.MOST_LOOP_EDGES),
        ("sdk.md", r"name \| (\d+) characters", bounds.LONGEST_NAME),
        ("sdk.md", r"one tag \| (\d+);", bounds.MOST_TAGS),
        ("sdk.md", r"one tag \| \d+; (\d+) characters", bounds.LONGEST_TAG),
        ("sdk.md", r"one key \| ([\d,]+);", bounds.MOST_KEYS),
        ("sdk.md", r"one key \| [\d,]+; ([\d,]+) characters", bounds.LONGEST_KEY),
        ("sdk.md", r"cancellation \| ([\d,]+) characters", bounds.LONGEST_REASON),
        ("sdk.md", r"child run \| ([\d,]+) characters", bounds.LONGEST_PATH),
        ("sdk.md", r"`page_size` of a list[^|]*\| ([\d,]+);", bounds.MOST_A_PAGE),
        ("sdk.md", r"`page_size` of a list[^|]*\| [\d,]+; ([\d,]+) \|", bounds.MOST_DEAD_LETTERS),
        ("sdk.md", r"id of an event[^|]*\| (\d+) digits", bounds.LONGEST_EVENT_ID),
        ("sdk.md", r"progress message \| ([\d,]+) characters", bounds.LONGEST_MESSAGE),
    ],
)  # fmt: skip
def test_numbers(page: str, shown: str, value: int) -> None:
    found = re.search(shown, DOCS[page])
    assert found is not None, f"{page} does not say {shown}"
    assert int(found[1].replace(",", "")) == value


def test_files_that_pages_and_docstrings_name_are_there() -> None:
    places = [
        ROOT,
        ROOT / "sdk/flowcraft_sdk",
        ROOT / "server/flowcraft_server",
        LUA,
        LUA / "include",
        ROOT / "docs",
        ROOT / "sdk/flowcraft_sdk/protocol",
    ]
    places += [ROOT / "server/flowcraft_server/blueprints", ROOT / "benchmarks", ROOT / "tests", ROOT / "examples"]
    places += [
        ROOT / "examples/agents/blueprints"
    ]  # the folder that an `!include` of the page on agents is relative to
    texts = {f"docs/{name}": text for name, text in DOCS.items()}
    texts |= {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
        for folder in ("sdk/flowcraft_sdk", "server/flowcraft_server", "handlers")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".lua")
    }
    missing = [
        f"{where}: {name}"
        for where, text in texts.items()
        for name in re.findall(
            r"(?<![\w/$.-])((?:[\w-]+/)*[\w-]+\.lua)\b|(?<![\w/$.-])((?:[\w-]+/)+[\w-]+\.(?:py|md))\b", text
        )
        for name in filter(None, name)
        if not any((place / name).exists() for place in [*places, (ROOT / where).parent])
    ]
    assert sorted(set(missing)) == []


def test_attributes_that_pages_name_exist() -> None:
    wrong = []
    for page, text in DOCS.items():
        for owner, attribute in re.findall(r"`(\w+)\.(\w+)[(`]", text):
            kind = getattr(flowcraft_sdk, owner, None)
            if isinstance(kind, type) and not hasattr(kind, attribute) and attribute not in _fields(kind):
                wrong.append(f"{page}: {owner}.{attribute}")
    assert wrong == []


def _fields(kind: type) -> set[str]:
    """Names of the fields of a class, and of what its `__init__` sets."""
    fields = {
        *getattr(kind, "model_fields", ()),
        *getattr(kind, "__dataclass_fields__", ()),
        *inspect.getfullargspec(kind.__init__).args,
    }
    return fields | set(kind.__init__.__code__.co_names if hasattr(kind.__init__, "__code__") else ())
