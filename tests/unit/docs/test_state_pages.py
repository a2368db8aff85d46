"""docs/store.md and docs/state-machine.md name what the scripts have: keys, fields, timers, events, states; no more and no less."""

import inspect
import re
from pathlib import Path

import pytest

from flowcraft_sdk.protocol import events, scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.lua_source import source_of

ROOT = Path(__file__).parents[3]
LUA = {path.stem: path.read_text("utf-8") for path in (ROOT / "sdk/flowcraft_sdk/protocol/lua").rglob("*.lua")}
CODE = "\n".join(line for text in LUA.values() for line in text.splitlines() if not line.lstrip().startswith("--"))
STORE = (ROOT / "docs/store.md").read_text("utf-8")
STATES = (ROOT / "docs/state-machine.md").read_text("utf-8")


def section(page: str, heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without heads."""
    lines = [line.replace(r"\|", "\0") for line in text.splitlines() if re.match(r"\|(?!\s*--)", line)]
    return [[cell.strip().replace("\0", "|") for cell in line.strip("|").split("|")] for line in lines][1:]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def literals(pattern: str, text: str = CODE) -> set[str]:
    return set(re.findall(pattern, text))


class TestKeys:
    def test_the_page_lists_each_key(self) -> None:
        cells = [cell for cell, *_ in rows(STORE.partition("## Timers")[0])]
        listed = {re.sub(r"^B |(?<=:)[A-Z].*?(?=!?$)", "", name) for cell in cells for name in quoted(cell)}
        assert listed == self.of_python() | self.of_lua()

    @staticmethod
    def of_lua() -> set[str]:
        found = literals(r"\bB \.\. '([^']+)'")
        found |= literals(r"(?:remove_entry|add_entry|write_beside\('\w+',|drop\(r,) ?\(?'([^']+)'")
        whole = {name.rpartition("'")[2] for name in found}
        return {re.sub(r"^(idx:st:).*", r"\1", name) for name in whole}

    @staticmethod
    def of_python() -> set[str]:
        keys = Keys("t")
        found = {keys.clock}
        for name, member in inspect.getmembers(Keys):
            if isinstance(member, property):
                value = getattr(keys, name)
            elif inspect.isfunction(member) and not name.startswith("_"):
                value = member(keys, *["X"] * (len(inspect.signature(member).parameters) - 1))
            else:
                continue
            if isinstance(value, str) and value.startswith(keys.base):
                found.add(value)
        return {re.sub(r"X(\|X)?(?=!?$)", "", name.removeprefix(keys.base)) for name in found}

    def test_kinds_of_timers(self) -> None:
        (row,) = [row for row in rows(STORE.partition("## Timers")[0]) if "`B timers`" in row[0]]
        assert "Timers" in row[2]
        listed = {kind for cell, *_ in rows(section(STORE, "Timers")) for kind in literals(r"`(\w)\|run\|", cell)}
        assert listed == literals(r"\bset_timer\([^\n]*?, '(\w)'")
        assert listed == literals(r"\bkind [=~]= '(\w)'", LUA["sweep"]), "the sweep fires each"
        known = re.findall(r"^  (\w) = function", LUA["examine_entries"], re.MULTILINE)
        assert listed == set(known), "the doctor knows each"

    def test_kinds_of_messages_on_control(self) -> None:
        (row,) = [row for row in rows(STORE.partition("## Timers")[0]) if "`B control`" in row[0]]
        sent = literals(r"notify_workers\([^\n]*?, '([\w-]+)'")
        assert {word for word in sent if f"`run|{word}" in row[2]} == sent


class TestFields:
    def test_plain_fields_of_a_run(self) -> None:
        text = section(STORE, "Fields of a run").partition("\n|")[0]
        listed = {name for name in quoted(text) if re.fullmatch(r"[a-z]+\d?", name)} | {"sn"}
        assert listed == self.plain()

    @staticmethod
    def plain() -> set[str]:
        found = literals(r"\b(?:get|put)\(\w+, '(\w+)'[,)]") | literals(r"\badd\('(\w+)',")
        for names in literals(
            r"'(?:HGET|HMGET|HSET|HSETNX|HDEL|HEXISTS|HINCRBY)', (?:r\.k|k|parent|B \.\. 'run:' \.\. [\w.]+), ([^\n]+)"
        ):
            found |= set(re.findall(r"(?<!:' \.\. )'(\w+)'", names.partition(") ")[0]))
        for names in literals(r"(?:names|fields, joins|local record) = \{\{?([^}]+)\}"):
            found |= set(re.findall(r"'(\w+)'", names))
        for names in literals(r"(?:set|fields)\[[^\n]*\] = ('\w+'(?:, [^\n]+)?)\n"):
            found |= set(re.findall(r"'(\w+)'", names))
        for names in literals(r"\bset = \{([^}]+)\}"):
            found |= set(re.findall(r"'(\w+)'", names))
        (statuses,) = literals(r"STATUSES = \{([^}]+)\}")
        return {name for name in found if not name.isupper()} - set(re.findall(r"(\w+) = true", statuses))

    def test_prefixes_of_fields(self) -> None:
        table = rows(section(STORE, "Fields of a run"))
        listed = {name.partition(":")[0] for cell, *_ in table for name in quoted(cell) if ":" in name}
        of_runs = literals(r"(?<!B \.\. )'([a-z]{1,2}|J):")
        assert listed == of_runs - {"e"}, "`e:` is a field of plans"

    def test_fields_of_a_plan(self) -> None:
        (row,) = [row for row in rows(STORE.partition("## Timers")[0]) if "`B plan:HASH`" in row[0]]
        read = literals(r"(?:plan_field\(r|field_of_plan\(plan|'plan:' \.\. (?:\w+|\(v\[3\] or ''\))), '(\w+):?") - {
            "hash"
        } | {
            "doc",  # this and the format are for workers only, no script reads them
            "format",
            "e",
            "s",
        }
        assert {name.partition(":")[0] for name in quoted(row[2])} == read


def test_letters_of_events() -> None:
    text = section(STORE, "Events")
    listed = set(re.findall(r"(?:^|, )([A-Za-z]) [a-z]", text[text.rindex("\nB ") :].replace("\n", "")))
    written = literals(r"\b(?:node_)?event\(r, '(\w)'") | literals(r"'([cEsuBpP])\|'") | literals(r"'(B)\|0\|\|'")
    written |= set(*re.findall(r"\((\w) progress \| (\w) custom\)", LUA["emit"]))
    assert listed == written == set(events._EVENTS)


class TestStates:
    def test_states_of_a_run(self) -> None:
        named = {word for row in rows(section(STATES, "Run")) for word in row[1].split(", ")}
        (listed,) = literals(r"STATUSES = \{([^}]+)\}")
        assert named == set(re.findall(r"(\w+) = true", listed))
        set_by = literals(r"(?:set_status|change_status)\(\w+, '(\w+)'") | literals(r"return '(timed_out|cancelled)'")
        set_by |= literals(r"'(failed)' or 'completed'") | literals(r"and '(scheduled)' or 'queued'")
        set_by |= literals(r"'st', '(\w+)', '(?:sr|en)'")
        assert named == set_by

    def test_states_of_a_node(self) -> None:
        listed = {letter for row in rows(section(STATES, "Node")) for letter in re.findall(r"\b[A-Z]\b", row[1])}
        written = literals(r"\bput_node\([^\n]*?, '([A-Z])'") | literals(r"'([A-Z])\|") | literals(r"and '([FX])' or")
        written |= literals(r"and 'F' or '(X)'") | literals(r"\bstate == '([CK])'")
        assert listed == written - {"E", "B"}, "E and B are events"

    @pytest.mark.parametrize("row", rows(section(STATES, "Run")), ids=lambda row: f"{row[0]} to {row[1]}")
    def test_scripts_set_the_states_of_runs_that_the_page_says(self, row: list[str]) -> None:
        for script in quoted(row[2]):
            source = source_of(script)
            for state in row[1].split(", "):
                assert re.search(rf"'{state}'", source), f"{script} does not set {state}"

    @pytest.mark.parametrize("row", rows(section(STATES, "Node")), ids=lambda row: row[0])
    def test_scripts_change_the_nodes_that_the_page_says(self, row: list[str]) -> None:
        for script in quoted(row[3]):
            assert script in scripts.ALL
            assert re.search(r"\b(?:put_node|begin_node|make_ready|write_fields_of)\(", source_of(script)), script

    def test_each_script_is_on_the_page(self) -> None:
        assert sorted(name for cell, *_ in rows(section(STATES, "Scripts")) for name in quoted(cell)) == sorted(
            scripts.ALL
        )


HANDWRITTEN = {
    r"redis\.call\('PUBLISH'": {"base", "notify", "sweep"},
    r"'ZADD', B \.\. 'timers'": {"base"},
    r"\br\.fired\[#r\.fired \+ 1\]": {"graph"},
    r"\br\.(?:parked|park) = r\.(?:parked|park) [+-]": {"run_end"},
    r"flowcraft\.work": {"base"},
}


@pytest.mark.parametrize(("pattern", "allowed"), HANDWRITTEN.items())
def test_a_transition_is_written_in_one_place(pattern: str, allowed: set[str]) -> None:
    assert {name for name, text in LUA.items() if re.search(pattern, text)} == allowed
