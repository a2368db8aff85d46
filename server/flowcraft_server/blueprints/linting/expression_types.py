"""What kind of value an expression gives, and operators that can only give null, as far as types are known."""

from collections.abc import Callable, Iterator
from datetime import timedelta

from flowcraft_sdk.protocol.expressions.nodes import (
    Arithmetic,
    Call,
    Choice,
    Comparison,
    Constant,
    ListLiteral,
    Name,
    Negative,
    Node,
    Not,
    ObjectLiteral,
    Path,
)
from flowcraft_sdk.protocol.expressions.parser import parse
from flowcraft_sdk.protocol.expressions.reads import parts_of

KindOf = Callable[[str], str | None]
"""The kind of what a name stands for, None if that is not known."""

_CONSTANTS = {str: "string", int: "number", float: "number", bool: "boolean", timedelta: "duration"}
_NUMBERS = ("int", "float", "len", "round", "abs", "sum")
_TEXTS = ("str", "lower", "upper", "trim", "join")
_FLAGS = ("bool", "contains", "startsWith", "endsWith", "exists", "any", "all")
_LISTS = ("keys", "values", "split")
_FUNCTIONS = {
    name: kind
    for names, kind in ((_NUMBERS, "number"), (_TEXTS, "string"), (_FLAGS, "boolean"), (_LISTS, "array"))
    for name in names
}
_ALIKE = {"integer": "number", "list": "array", "any": None}
_NEVER = ("boolean", "object", "array")


def kind_of(source: str, known: KindOf) -> str | None:
    """`number`, `string`, `boolean`, `object`, `array` or `duration`; None if it is not known.

    Args:
        source: an expression that can be read.
    """
    return _kind(parse(source), known)


def misuses(source: str, known: KindOf) -> Iterator[str]:
    """What is certain to give null in an expression that can be read, one message for each operator."""
    pending = [parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, Arithmetic):
            yield from _wrong_operands(node, known)
        pending.extend(parts_of(node))


def _wrong_operands(node: Arithmetic, known: KindOf) -> Iterator[str]:
    left, first = _kind(node.first, known), node.first
    for symbol, operand in node.rest:
        right = _kind(operand, known)
        for kind, part in ((left, first), (right, operand)):
            if kind in _NEVER or (kind == "string" and symbol in "*/%"):
                yield f"'{symbol}' gives null: {_named(part)} is of type {kind}"
        if symbol == "+" and {left, right} == {"string", "number"}:
            yield "'+' gives null for a text and a number; write str(...) or float(...) around one of them"
        left = _result(symbol, left, right)


def _named(node: Node) -> str:
    if isinstance(node, Name):
        return f"'{node.name}'"
    return f"'{node.steps[0]}'" if isinstance(node, Path) and len(node.steps) == 1 else "one side"


def _kind(node: Node, known: KindOf) -> str | None:
    match node:
        case Constant(value):
            return _CONSTANTS.get(type(value))
        case Name(name):
            kind = known(name)
            return _ALIKE.get(kind, kind) if kind is not None else None
        case Path(Name("context"), (str() as key,)):
            return _kind(Name(key), known)
        case ListLiteral():
            return "array"
        case ObjectLiteral():
            return "object"
        case Not() | Comparison():
            return "boolean"
        case Negative(operand):
            return _kind(operand, known)
        case Arithmetic(first, rest):
            kind = _kind(first, known)
            for symbol, operand in rest:
                kind = _result(symbol, kind, _kind(operand, known))
            return kind
        case Choice(_, then, otherwise):
            kind = _kind(then, known)
            return kind if kind == _kind(otherwise, known) else None
        case Call(function, _):
            return _FUNCTIONS.get(function)
        case _:
            return None


def _result(symbol: str, left: str | None, right: str | None) -> str | None:
    if left == right and left in ("number", "string", "duration"):
        return "number" if symbol == "/" else left
    if symbol in "*/" and {left, right} == {"number", "duration"}:
        return "duration"
    return None
