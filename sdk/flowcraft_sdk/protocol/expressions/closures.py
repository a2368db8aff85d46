"""Parsed expressions to Python closures: the shape of an expression is looked at once, not at every evaluation."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

from flowcraft_sdk.protocol.expressions.arithmetic import add, divide, multiply, negative, remainder, subtract
from flowcraft_sdk.protocol.expressions.functions import FUNCTIONS
from flowcraft_sdk.protocol.expressions.nodes import (
    Arithmetic,
    Call,
    Choice,
    Comparison,
    Constant,
    ListLiteral,
    Logic,
    Name,
    Negative,
    Node,
    Not,
    ObjectLiteral,
    Path,
)
from flowcraft_sdk.protocol.expressions.values import contains, equal, member, ordered, truthy

Evaluate = Callable[[Mapping[str, Any]], Any]
"""An expression as a function of its scope."""

_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_PLAIN_NUMBERS = frozenset({int, float})
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
}


def build(node: Node) -> Evaluate:
    """The function that evaluates `node`."""
    match node:
        case Constant(value):
            return lambda scope: value
        case Name(name):
            return lambda scope: scope.get(name)
        case Path():
            return _path(node)
        case ListLiteral(items):
            parts = [build(item) for item in items]
            return lambda scope: [part(scope) for part in parts]
        case ObjectLiteral(entries):
            built = [(key, build(value)) for key, value in entries]
            return lambda scope: {key: value(scope) for key, value in built}
        case Not(operand):
            denied = build(operand)
            return lambda scope: not truthy(denied(scope))
        case Negative(operand):
            positive = build(operand)
            return lambda scope: negative(positive(scope))
        case Logic():
            return _logic(node)
        case Arithmetic():
            return _arithmetic(node)
        case Comparison():
            return _comparison(node)
        case Choice(condition, then, otherwise):
            test, yes, no = build(condition), build(then), build(otherwise)
            return lambda scope: yes(scope) if truthy(test(scope)) else no(scope)
        case Call():
            return _call(node)


def _path(path: Path) -> Evaluate:
    if isinstance(path.root, Name) and all(isinstance(step, str) for step in path.steps):
        return _keys(path.root.name, tuple(str(step) for step in path.steps))
    root = build(path.root)
    steps = [_step(step) for step in path.steps]

    def evaluate(scope: Mapping[str, Any]) -> Any:
        value = root(scope)
        for step in steps:
            value = member(value, step(scope))
        return value

    return evaluate


def _keys(name: str, keys: tuple[str, ...]) -> Evaluate:
    def evaluate(scope: Mapping[str, Any]) -> Any:
        value = scope.get(name)
        for key in keys:
            value = value.get(key) if type(value) is dict else member(value, key)
        return value

    return evaluate


def _step(step: str | int | Node) -> Evaluate:
    if isinstance(step, (str, int)):
        return lambda scope: step
    return build(step)


def _logic(logic: Logic) -> Evaluate:
    *leading, last = [build(operand) for operand in logic.operands]
    decides: Callable[[Any], bool] = {
        "and": lambda value: not truthy(value),
        "or": truthy,
        "??": lambda value: value is not None,
    }[logic.operator]

    def evaluate(scope: Mapping[str, Any]) -> Any:
        for operand in leading:
            value = operand(scope)
            if decides(value):
                return value
        return last(scope)

    return evaluate


def _arithmetic(node: Arithmetic) -> Evaluate:
    first = build(node.first)
    rest = [(_ARITHMETIC[symbol], build(operand)) for symbol, operand in node.rest]

    def evaluate(scope: Mapping[str, Any]) -> Any:
        value = first(scope)
        for calculate, operand in rest:
            value = calculate(value, operand(scope))
        return value

    return evaluate


def _comparison(node: Comparison) -> Evaluate:
    left, right = build(node.left), build(node.right)
    match node.operator:
        case "==":
            return lambda scope: equal(left(scope), right(scope))
        case "!=":
            return lambda scope: not equal(left(scope), right(scope))
        case "in":
            return lambda scope: contains(right(scope), left(scope))
        case "not in":
            return lambda scope: not contains(right(scope), left(scope))
        case order:
            return _order(_ORDER[order], left, right)


def _order(test: Callable[[Any, Any], Any], left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(scope: Mapping[str, Any]) -> Any:
        low, high = left(scope), right(scope)
        # The usual case without a call; comparing an int with a float never raises.
        if type(low) in _PLAIN_NUMBERS and type(high) in _PLAIN_NUMBERS:
            return test(low, high)
        return ordered(test, low, high)

    return evaluate


def _call(call: Call) -> Evaluate:
    apply = FUNCTIONS[call.function].apply
    arguments = [build(argument) for argument in call.arguments]
    if len(arguments) == 1:
        only = arguments[0]
        return lambda scope: apply(only(scope))
    return lambda scope: apply(*[argument(scope) for argument in arguments])
