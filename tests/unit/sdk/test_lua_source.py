"""Records of the Lua scripts: declared once, read by the names of their fields, and written by Python in the same order."""

import inspect
import json
import re
from typing import Any

import pytest

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.lua_source import (
    LuaSourceError,
    declarations,
    fields_of,
    index_of,
    reader,
    source_of,
    substitute,
    writer,
)
from flowcraft_sdk.protocol.place_scripts import PlaceEntry
from flowcraft_sdk.protocol.scripts import ClaimMode, ClaimRequest
from tests.test_house import INCLUDES, SCRIPTS

EDGE = {"edge": ("target", "position", "mask")}
KEYS = Keys("t")
REQUEST = ClaimRequest("worker", 17, "queues", ClaimMode.QUEUE)


def test_fields_become_indexes() -> None:
    code = "fire(r, edge.target) .. next_edge.mask\nedge.position = edge.position + 1"
    assert substitute(code, EDGE)[0] == "fire(r, edge[1]) .. next_edge[3]\nedge[2] = edge[2] + 1"


def test_only_variables_of_a_record_are_touched() -> None:
    same = "r.edge.target, list[1].edge.target, edges.target, ledge.target -- edge.target\nx = 'edge.other' .. \"edge.other\""
    assert substitute(same, EDGE) == (same, {})
    assert substitute("a..edge.mask", EDGE)[0] == "a..edge[3]"


def test_the_rest_of_a_list_begins_at_its_index() -> None:
    assert substitute("for i = claim.values, #claim do", {"claim": ("run", "values...")})[0] == "for i = 2, #claim do"


def test_a_field_that_a_record_does_not_have_is_refused() -> None:
    with pytest.raises(
        LuaSourceError, match=r"x\.lua:2: record edge has no field colour; it has target, position, mask"
    ):
        substitute("local a\nreturn edge.colour", EDGE, "x.lua")


def test_arguments_without_names_are_refused() -> None:
    with pytest.raises(LuaSourceError, match=r"x\.lua:1: the head of x\.lua declares no arguments"):
        substitute("return ARGV.run", EDGE, "x.lua")


def test_a_record_is_declared_once() -> None:
    assert declarations("-- @fields edge target position mask\n-- ARGV run more...", "x.lua") == {
        **EDGE,
        "ARGV": ("run", "more..."),
    }
    with pytest.raises(LuaSourceError, match=r"x\.lua:2: record edge is declared twice"):
        declarations("-- @fields edge target\n-- @fields edge mask", "x.lua")
    with pytest.raises(LuaSourceError, match="has a field twice"):
        declarations("-- @fields edge mask mask", "x.lua")


def test_a_record_without_its_include_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowcraft_sdk.protocol import lua_source

    real = lua_source._read
    monkeypatch.setattr(
        lua_source, "_read", lambda path: "return entry.queue" if path == "none.lua" else real(path)
    )  # fmt: skip
    with pytest.raises(
        LuaSourceError, match=r"none\.lua:1: record entry is not declared in none\.lua or a file that it"
    ):
        source_of("none")


@pytest.mark.parametrize("path", [*SCRIPTS, *INCLUDES], ids=lambda path: path.stem)
def test_no_record_is_read_by_number(path: Any) -> None:
    shared = [record for each in INCLUDES for record in declarations(each.read_text("utf-8"), each.name)]
    pattern = re.compile(rf"(?<![\w.])(?:\w+_)?(?:{'|'.join([*shared, 'ARGV'])})\[\d+\]")
    lines = path.read_text("utf-8").splitlines()
    assert [line for line in lines if pattern.search(line) and not line.startswith("--")] == []


def test_python_writes_and_reads_in_the_order_of_the_declaration() -> None:
    fields = fields_of("plan", "edge")
    write = writer("plan", "edge", *reversed(fields))
    assert write(tuple(reversed(range(len(fields))))) == tuple(range(len(fields)))
    assert reader("plan", "edge", "queue", "target")("abcdefgh") == ("e", "a")
    assert index_of("claim", "claim", "values") == 12
    for refused in (
        lambda: writer("plan", "edge", "target"),
        lambda: reader("plan", "edge", "target", "colour"),
        lambda: fields_of("plan", "claim"),
    ):
        with pytest.raises(LuaSourceError):
            refused()


def arguments(wrapper: Any) -> dict[str, Any]:
    """A value of each parameter of a wrapper that no other has."""
    found: dict[str, Any] = {}
    for place, (name, parameter) in enumerate(inspect.signature(wrapper).parameters.items()):
        kind = str(parameter.annotation)
        if name == "keys":
            found[name] = KEYS
        elif name == "claim_request":
            found[name] = REQUEST
        elif name == "entry":
            found[name] = PlaceEntry("<run>", "<created>")
        elif name == "draft":
            found[name] = None
        elif "Sequence" in kind or "Iterable" in kind or "Mapping" in kind or kind.startswith("tuple"):
            found[name] = {} if "Mapping" in kind else ()
        else:
            found[name] = f"<{name}>" if "str" in kind else (place % 2 if kind == "bool" else 100 + place)
    return found


@pytest.mark.parametrize("name", sorted({*scripts.ALL} - {"complete"}))
def test_arguments_are_sent_in_the_order_of_the_head(name: str) -> None:
    wrapper = getattr(scripts, name)
    given = arguments(wrapper)
    text = next(path for path in SCRIPTS if path.stem == name).read_text("utf-8")
    fields = declarations(text, name)["ARGV"]
    call = wrapper(**given)
    fixed = [field for field in fields if not field.endswith("...")]
    assert len(call.args) >= len(fixed)
    request = {"worker": "worker", "lease_ms": 17, "queues": "queues", "mode": ClaimMode.QUEUE}
    for field, sent in zip(fixed, call.args, strict=False):
        names = [each for each in (field, f"{field}_id", f"{field}_json", f"{field}_hash") if each in given]
        if names:
            value = given[names[0]]
            as_json = json.dumps(value) if isinstance(value, tuple | dict) else None
            allowed = (0, "", as_json) if value == () else ("",) if value is None else (value, as_json)
            assert sent in allowed, f"{field} of {name}"
        elif "claim_request" in given and field in request:
            assert sent == request[field]


def test_the_words_of_an_outcome_are_sent_in_the_order_of_the_declaration() -> None:
    call = scripts.complete(
        KEYS, REQUEST, run_id="<run>", instance_id="<instance_id>", fencing_token="<fencing_token>", plan="<plan>",
        state="<state>", action="<action>", decisions="<decisions>", output=b"<output>",
        successor=("<successor>", "<queue>", 1, "u", "o:a", "c:x"), writes=[("k", b"1")], deletes=["d", "e"], values=[("0", b"2")] * 3,
    )  # fmt: skip
    assert call.about is not None
    node = dict(zip(fields_of("fast_path", "NODE"), call.about, strict=True))
    assert node == {
        "instance_id": "<instance_id>", "plan": "<plan>", "worker": "worker", "lease": 17, "queues": "queues", "state": "<state>",
        "action": "<action>", "decisions": "<decisions>", "successor": "<successor>", "next_queue": "<queue>", "next_position": 1,
        "next_undecided": "u", "next_input": "o:a", "next_reads": "c:x",
    }  # fmt: skip
    outcome = dict(zip(fields_of("fast_path", "OUTCOME"), call.args, strict=False))
    assert outcome == {
        "run": "<run>", "fencing_token": "<fencing_token>", "mode": "q", "output": b"<output>", "writes": 1, "deletes": 2,
        "values": 3, "more": "k",
    }  # fmt: skip
    assert index_of("fast_path", "OUTCOME", "mode") == scripts.MODE


def test_the_mode_of_a_failure_stands_where_that_of_an_outcome_does() -> None:
    fields = declarations(next(path for path in SCRIPTS if path.stem == "fail").read_text("utf-8"), "fail")["ARGV"]
    assert fields.index("mode") == scripts.MODE
