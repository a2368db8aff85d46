"""Paths whose first name is right: what handlers, inputs, schemas and called blueprints say of their values is what they are checked with."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, NotRequired, TypedDict, TypeVar

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field, field_serializer, model_serializer

from flowcraft_sdk import AsyncNodeContext, NodeContext, NodeResult
from flowcraft_sdk import handler as declare
from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.blueprints.output_schemas import ANYTHING, schema_of
from flowcraft_server.blueprints.schema_walk import Nowhere, shape_of, walk_shape
from flowcraft_server.testing.handlers import as_runnable
from tests.unit.blueprints.registry import HANDLERS, messages_of, read


class Room(TypedDict):
    number: int
    floor: NotRequired[str]


class Reservation(TypedDict):
    slot: str
    room: Room
    guests: list[Room]


HANDLERS_OF_TYPES = {
    **HANDLERS,
    "reserve": HandlerSpec(output=Reservation),
    "shout": HandlerSpec(output=str),
    "gone": HandlerSpec(output=None | Reservation),
    "open": HandlerSpec(output=dict[str, Any]),
    "count": HandlerSpec(output=int, writes=("customer", "note")),
}
CALLED = {
    "sums": read(
        """
        id: sums
        inputs: {order: object, customer: string}
        outputs: {gross: total, by: who.slot}
        nodes: {total: {uses: shout}, who: {uses: reserve}}
        """
    ),
    "free": read("id: free\nnodes: {total: {uses: shout}}"),
}
BEGIN = "id: main\ninputs: {customer: string, order: object, lines: array, at: any}\ncontext: {note: string}\n"


def found(nodes: str, rest: str = "") -> list[str]:
    text = f"{BEGIN}{rest}nodes:\n" + "".join(f"  {line.strip()}\n" for line in nodes.strip().splitlines())
    options: dict[str, Any] = {"handlers": HANDLERS_OF_TYPES, "blueprints": CALLED}
    shown = [message.removesuffix("   [warning]") for message in messages_of(text, **options)]
    return [message for message in shown if "nothing reads" not in message]  # of the inputs that these leave alone


@pytest.mark.parametrize(
    ("nodes", "rest", "message"),
    [
        ("r: {uses: reserve}\na: {uses: echo, needs: r, inputs: r.slott}", "", "nodes.a.inputs: 'r' has no 'slott'; did you mean 'slot'?"),
        ("r: {uses: reserve}\na: {uses: echo, needs: r, inputs: {x: r.zzz}}", "",
         "nodes.a.inputs.x: 'r' has no 'zzz'; it has slot, room, guests"),
        ("r: {uses: reserve}\na: {uses: echo, needs: r, inputs: r.room.numbr}", "",
         "nodes.a.inputs: 'r.room' has no 'numbr'; did you mean 'number'?"),
        ("r: {uses: reserve}\na: {uses: echo, needs: r, inputs: r.guests.number}", "",
         "nodes.a.inputs: 'r.guests' is a list and has no 'number': read one of its items, as in r.guests.0.number"),
        ("r: {uses: gone}\na: {uses: echo, needs: r, inputs: _outputs.r.slott}", "", "nodes.a.inputs: '_outputs.r' has no 'slott'; did you mean 'slot'?"),
        ("a: {uses: echo, inputs: customer.name}", "",
         "nodes.a.inputs: 'customer' is a string and has no parts: 'customer.name' is always null"),
        ("a: {uses: echo, inputs: note.name}", "", "nodes.a.inputs: 'note' is a string and has no parts: 'note.name' is always null"),
        ("a: {uses: echo, inputs: lines.name}", "",
         "nodes.a.inputs: 'lines' is a list and has no 'name': read one of its items, as in lines.0.name"),
        ("a: {uses: echo, inputs: '= customer.name + 1'}", "",
         "nodes.a.inputs: 'customer' is a string and has no parts: 'customer.name' is always null"),
        ("r: {uses: reserve}", "outputs: {x: r.slott}\n", "outputs.x: 'r' has no 'slott'; did you mean 'slot'?"),
        ("r: {uses: reserve}", "outputs: {x: '= upper(r.slott)'}\n", "outputs.x: 'r' has no 'slott'; did you mean 'slot'?"),
        ("r: {uses: reserve}\na: {uses: echo}", "edges: [{source: r, target: a, condition: result.output.slott}]\n",
         "edges[0].condition: 'result.output' has no 'slott'; did you mean 'slot'?"),
        ("r: {uses: reserve}\na: {uses: echo}", "edges: [{source: r, target: a, transform: context.r.room.numbr}]\n",
         "edges[0].transform: 'r.room' has no 'numbr'; did you mean 'number'?"),
        ("r: {uses: reserve, config: {timeout: '= r.slott'}}", "", "nodes.r.config.timeout: 'r' has no 'slott'; did you mean 'slot'?"),
        ("one: {call: sums, inputs: {order: order, customer: customer}}", "outputs: {x: one.gros}\n",
         "outputs.x: 'one' has no 'gros'; did you mean 'gross'?"),
        ("one: {call: sums, inputs: {order: order, customer: customer}}", "outputs: {x: one.gross.y}\n",
         "outputs.x: 'one.gross' is a string and has no parts: 'one.gross.y' is always null"),
        ("one: {call: sums, inputs: {order: order, customer: customer.id}}", "",
         "nodes.one.inputs.customer: 'customer' is a string and has no parts: 'customer.id' is always null"),
        ("one: {call: sums, inputs: {order: order, customer: customer}, outputs: {a: who.slott, b: gross}}", "",
         "nodes.one.outputs.a: 'who' has no 'slott'; did you mean 'slot'?"),
        ("one: {call: free, outputs: {a: total.x, b: total}}", "",
         "nodes.one.outputs.a: 'total' is a string and has no parts: 'total.x' is always null"),
        ("m: {uses: map, inputs: lines, params: {uses: reserve}}", "outputs: {x: m.0.slott}\n",
         "outputs.x: 'm.0' has no 'slott'; did you mean 'slot'?"),
        ("m: {uses: map, inputs: lines, params: {uses: reserve}}", "outputs: {x: m.slot}\n",
         "outputs.x: 'm' is a list and has no 'slot': read one of its items, as in m.0.slot"),
        ("r: {uses: reserve}\nm: {uses: map, needs: r, inputs: r.guests, params: {call: sums, inputs: {order: order, customer: item.flor}}}", "",
         "nodes.m.params.inputs.customer: 'item' has no 'flor'; did you mean 'floor'?"),
        ("w: {uses: wait, params: {schema: {type: object, properties: {agreed: {type: boolean}}}}}", "outputs: {x: w.agred}\n",
         "outputs.x: 'w' has no 'agred'; did you mean 'agreed'?"),
        ("w: {uses: agent, inputs: customer, params: {instructions: x, output: {type: object, properties: {label: {type: string}}}}}",
         "outputs: {x: w.labl}\n", "outputs.x: 'w' has no 'labl'; did you mean 'label'?"),
        ("w: {uses: agent, inputs: customer, params: {instructions: x}}", "outputs: {x: w.label}\n",
         "outputs.x: 'w' is a string and has no parts: 'w.label' is always null"),
        ("w: {uses: agent, inputs: {who: customer}, params: {instructions: x, memory: '{{ who.id }}'}}", "",
         "nodes.w.params.memory: 'who' is a string and has no parts: 'who.id' is always null"),
        ("l: {uses: loop-controller, params: {condition: customer.x}, next: {continue: a, break: b}}\na: {uses: echo, next: l}\nb: {uses: echo}", "",
         "nodes.l.params.condition: 'customer' is a string and has no parts: 'customer.x' is always null"),
        ("r: {uses: reserve, config: {fallback: f}}\nf: {uses: gone}", "outputs: {x: r.slott}\n", "outputs.x: 'r' has no 'slott'; did you mean 'slot'?"),
    ],
)  # fmt: skip
def test_what_leads_nowhere_is_found(nodes: str, rest: str, message: str) -> None:
    assert found(nodes, rest) == [message]


@pytest.mark.parametrize(
    ("nodes", "rest"),
    [
        ("r: {uses: reserve}\na: {uses: echo, needs: r, inputs: {x: r.slot, y: r.room.floor, z: r.guests.0.number}}", ""),
        ("r: {uses: open}", "outputs: {x: r.anything.at.all}\n"),
        ("r: {uses: echo}", "outputs: {x: r.anything}\n"),
        ("a: {uses: echo, inputs: {x: order.total, y: at.any.thing, z: lines.0.name}}", ""),
        ("a: {uses: echo, inputs: {x: '= customer.length + lines.length'}}", ""),
        ("r: {uses: reserve, config: {fallback: f}}\nf: {uses: echo}", "outputs: {x: r.slott}\n"),
        ("r: {uses: reserve, config: {fallback: f}}\nf: {uses: echo}", "outputs: {x: _own.r.slot}\n"),
        ("one: {call: free}", "outputs: {x: one.anything}\n"),
        ("one: {call: sums, inputs: {order: order, customer: customer}, outputs: {a: gross, b: by}}", "outputs: {x: one.a, y: one.b}\n"),
        ("w: {uses: wait, params: {schema: {type: object, properties: {agreed: {type: boolean}}}}}", "outputs: {x: w.reason}\n"),
        ("w: {uses: wait}", "outputs: {x: w.reason}\n"),
        ("m: {uses: map, inputs: lines, params: {uses: reserve}, config: {onItemError: collect}}", "outputs: {x: m.0.error.message, y: m.1.slot}\n"),
        ("r: {uses: reserve}\na: {uses: echo}", "edges: [{source: r, target: a, condition: result.output.slot and input.x and result.action}]\n"),
        ("c: {uses: count}\na: {uses: echo, needs: c, inputs: customer.name}", ""),  # the handler writes this key
        ("one: {call: sums, inputs: {order: order, customer: customer}, outputs: {customer: who, b: gross}, next: a}\na: {uses: echo, inputs: customer.slot}",
         ""),
    ],
)  # fmt: skip
def test_what_may_lead_somewhere_is_not(nodes: str, rest: str) -> None:
    assert found(nodes, rest) == []


def test_where_handlers_are_not_known_nothing_is_said_of_their_outputs() -> None:
    text = "nodes: {r: {uses: reserve}, a: {uses: echo, needs: r, inputs: r.slott}}"
    assert messages_of(text, handlers=None) == []
    assert len(messages_of(text, handlers=HANDLERS_OF_TYPES)) == 1


Item = TypeVar("Item")


@dataclasses.dataclass
class Branch:
    name: str
    below: "list[Branch]" = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Base:
    name: str


@dataclasses.dataclass
class Derived(Base):
    more: str


class Model(BaseModel):
    at: datetime
    other: "Branch | None" = None
    kind: Literal["a", "b"] = "a"
    masked: str = Field(exclude=True, default="")
    spelt: Annotated[str, "a note"] = ""
    changed: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def made(self) -> int:
        return 1

    @field_serializer("changed")
    def change(self, value: str) -> dict[str, str]:
        return {"was": value}


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str = ""


class Dumped(BaseModel):
    name: str = ""

    @model_serializer
    def dump(self) -> dict[str, str]:
        return {"other": self.name}


class Names(RootModel[list[str]]):
    pass


class Page(BaseModel, Generic[Item]):
    items: list[Item]


def leads(kind: Any, path: str) -> str:
    found = walk_shape(shape_of(schema_of(kind)), path.split("."), lengths=False)
    return "unknown" if found is None else "nowhere" if isinstance(found, Nowhere) and found.certain else "somewhere"


@pytest.mark.parametrize(
    ("kind", "somewhere", "nowhere", "unknown"),
    [
        (Branch, ["name", "below.0.below.3.name"], ["nam", "below.name", "below.0.nam", "name.x"], []),
        (Base, ["name"], [], []),
        (Derived, ["name", "more"], ["x"], []),
        (Model, ["at", "other.name", "kind", "spelt", "made", "changed"], ["x", "other.x", "kind.x", "masked", "at.year"],
         ["changed.was", "made.x"]),
        (Loose, ["name"], [], []),
        (Dumped, [], [], ["other"]),
        (Names, ["0"], ["name"], []),
        (Page[Base], ["items.0.name"], ["item"], []),
        (dict[str, Reservation], ["any.slot"], ["any.slott"], []),
        (list[int], ["0"], ["x", "0.x"], []),
        (tuple[int, ...], ["0"], ["0.x"], []),
        (tuple[int, str], [], ["x"], ["1.x"]),
        (Reservation | None, ["slot"], ["slott"], []),
        (Reservation | dict[str, Any], [], [], ["slott.x"]),
        (None, [], ["x"], []),
        (Any, [], [], ["x"]),
        (object, [], [], ["x"]),
        (NodeResult, [], [], ["x"]),
        (Mapping[str, int], ["x"], ["x.y"], []),
        (Callable, [], [], ["x"]),
    ],
)  # fmt: skip
def test_types_say_where_paths_lead(kind: Any, somewhere: list[str], nowhere: list[str], unknown: list[str]) -> None:
    assert {path: leads(kind, path) for path in (*somewhere, *nowhere, *unknown)} == {
        **dict.fromkeys(somewhere, "somewhere"),
        **dict.fromkeys(nowhere, "nowhere"),
        **dict.fromkeys(unknown, "unknown"),
    }


def plain(ctx: NodeContext) -> Reservation:
    raise NotImplementedError


async def awaited(ctx: AsyncNodeContext) -> "Reservation":
    raise NotImplementedError


def misspelt(ctx: NodeContext) -> "Reservatoin":  # type: ignore[name-defined] # noqa: F821
    raise NotImplementedError


def silent(ctx: NodeContext):  # type: ignore[no-untyped-def]
    return ctx.input


@functools.wraps(plain)
def wrapping(ctx: NodeContext) -> Any:
    return {"other": plain(ctx)}


@declare(output=Room)
def with_result(ctx: NodeContext) -> NodeResult:
    return NodeResult({"number": 1}, action="x")


class Called:
    def __call__(self, ctx: NodeContext) -> Reservation:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "known"),
    [
        (plain, Reservation),
        (awaited, Reservation),
        (functools.partial(plain), Reservation),
        (Called, Reservation),
        (Called().__call__, Reservation),
        (with_result, Room),
        (misspelt, Any),
        (silent, Any),
        (wrapping, Any),
    ],
)
def test_the_return_annotation_is_what_a_handler_declares(function: Any, known: Any) -> None:
    assert as_runnable("h", function).declared.output is known


def test_schemas_that_are_not_read_in_full_say_nothing() -> None:
    for schema in (
        {"allOf": [{"type": "object", "properties": {"a": {}}, "additionalProperties": False}]},
        {"type": "object", "properties": {"a": {}}, "patternProperties": {"^x": {}}, "additionalProperties": False},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/$defs/none"},
        {"type": "unheard of"},
        True,
        ANYTHING,
    ):
        assert walk_shape(shape_of(schema), ["x"], lengths=False) is None, schema


def test_a_schema_that_only_refers_to_itself_ends() -> None:
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    assert isinstance(walk_shape(shape_of(schema), ["x"], lengths=False), Nowhere | None)
