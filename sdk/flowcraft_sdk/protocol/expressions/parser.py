"""Tokens to a parsed expression: precedence climbing, with the nesting bounded.

From loose to tight: `? :` and `if else`, `??`, `or`, `and`, `not`, comparisons, `+ -`, `* / %`, `! -`, paths.
"""

from flowcraft_sdk.protocol.expressions.cursor import Cursor
from flowcraft_sdk.protocol.expressions.functions import FUNCTIONS, instead_of_method, unknown_function
from flowcraft_sdk.protocol.expressions.lexer import Token
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

_NOT = 4
_COMPARE = 5
_SIGN = 8
_LEVELS = {
    operator: level
    for level, operators in (
        (1, ("??",)),
        (2, ("or",)),
        (3, ("and",)),
        (_COMPARE, ("==", "!=", "<", "<=", ">", ">=", "in")),
        (6, ("+", "-")),
        (7, ("*", "/", "%")),
    )
    for operator in operators
}


def parse(source: str) -> Node:
    """The parsed form of `source`.

    Raises:
        ExpressionError: it is not a valid expression.
    """
    cursor = Cursor(source)
    node = _Parser(cursor).expression()
    found = cursor.token
    if found.kind != "end":
        hint = "; write '=='" if found.text == "is" else ""
        raise cursor.error(f"expected an operator or the end, found '{found.written}'{hint}")
    return node


class _Parser:
    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def expression(self) -> Node:
        cursor = self._cursor
        cursor.enter()
        node = self._operation(0)
        if position := cursor.accept("?"):
            then = self.expression()
            cursor.expect(":", "'?' needs a ':' and a second value", position)
            node = Choice(node, then, self.expression())
        elif position := cursor.accept("if"):
            condition = self._operation(0)
            cursor.expect("else", "'if' needs an 'else' and a second value", position)
            node = Choice(condition, node, self.expression())
        cursor.leave()
        return node

    def _operation(self, loosest: int) -> Node:
        """An operand and all operators after it that bind at least as tightly as `loosest`."""
        node = self._prefix(loosest)
        while (level := self._level()) >= loosest and level > 0:
            rest: list[tuple[str, Node]] = []
            while self._level() == level:
                if level == _COMPARE and rest:
                    raise self._cursor.error("comparisons do not chain; write 'a < b and b < c'")
                operator = self._operator()
                rest.append((operator, self._operation(level + 1)))
            node = _combined(level, node, rest)
        return node

    def _level(self) -> int:
        cursor = self._cursor
        if cursor.token.kind != "operator":
            return 0
        if cursor.token.text == "not":
            return _COMPARE if cursor.following.text == "in" else 0
        return _LEVELS.get(cursor.token.text, 0)

    def _operator(self) -> str:
        if self._cursor.accept("not"):
            return f"not {self._cursor.advance().text}"
        return self._cursor.advance().text

    def _prefix(self, loosest: int) -> Node:
        cursor = self._cursor
        if not (cursor.at("not") or cursor.at("!") or cursor.at("-")):
            return self._path()
        if cursor.at("not") and loosest > _NOT:
            raise cursor.error("put parentheses around 'not ...' here")
        cursor.enter()
        sign = cursor.advance().text
        operand = self._operation(_NOT if sign == "not" else _SIGN)
        cursor.leave()
        return _negative(operand) if sign == "-" else Not(operand)

    def _path(self) -> Node:
        cursor = self._cursor
        start = cursor.token
        root = self._value()
        steps: list[str | int | Node] = []
        while True:
            if dot := cursor.accept("."):
                if dot.written == "?." and cursor.at("["):
                    continue
                if cursor.token.kind != "key":
                    raise cursor.error("expected a key after '.'", dot if cursor.token.kind == "end" else None)
                steps.append(cursor.advance().text)
            elif cursor.at("["):
                steps.append(self._index())
            elif cursor.at("("):
                raise cursor.error(instead_of_method(steps[-1] if steps else None), start)
            else:
                return Path(root, tuple(steps)) if steps else root

    def _index(self) -> str | int | Node:
        opening = self._cursor.advance()
        if self._cursor.at("]"):
            raise self._cursor.error("expected a key or an index between '[' and ']'")
        step = self.expression()
        self._cursor.close(opening)
        if isinstance(step, Constant) and (isinstance(step.value, str) or type(step.value) is int):
            return step.value
        return step

    def _value(self) -> Node:
        cursor = self._cursor
        if cursor.token.kind == "constant":
            return Constant(cursor.advance().value)
        if cursor.token.kind == "name":
            name = cursor.advance()
            return self._call(name) if cursor.at("(") else Name(name.text)
        if cursor.at("["):
            return ListLiteral(cursor.bracketed(self.expression))
        if cursor.at("{"):
            keys: set[str] = set()
            return ObjectLiteral(cursor.bracketed(lambda: self._entry(keys)))
        if opening := cursor.accept("("):
            node = self.expression()
            cursor.close(opening)
            return node
        raise cursor.missing_value()

    def _entry(self, taken: set[str]) -> tuple[str, Node]:
        cursor = self._cursor
        token = cursor.token
        is_text = token.kind == "constant" and isinstance(token.value, str)
        if not is_text and not token.is_word:
            raise cursor.error("expected a key: a name, or a text in quotes")
        key = str(token.value) if is_text else token.written
        if key in taken:
            raise cursor.error(f"the key '{key}' is written twice")
        taken.add(key)
        cursor.advance()
        if token.kind == "name" and (cursor.at(",") or cursor.at("}")):
            return key, Name(key)
        cursor.expect(":", f"expected ':' after the key '{key}'", token)
        return key, self.expression()

    def _call(self, name: Token) -> Node:
        cursor = self._cursor
        function = FUNCTIONS.get(name.text)
        if function is None:
            raise cursor.error(unknown_function(name.text), name)
        arguments = cursor.bracketed(self.expression)
        if not function.takes(len(arguments)):
            raise cursor.error(f"{name.text} takes {function.arity}, not {len(arguments)}", name)
        return Call(name.text, arguments)


def _combined(level: int, first: Node, rest: list[tuple[str, Node]]) -> Node:
    if level == _COMPARE:
        operator, right = rest[0]
        return Comparison(operator, first, right)
    if level > _COMPARE:
        return Arithmetic(first, tuple(rest))
    return Logic(rest[0][0], (first, *(operand for _, operand in rest)))


def _negative(operand: Node) -> Node:
    # A folded sign makes `-1` a constant, which an index and a comparison can then use as it is.
    if isinstance(operand, Constant) and isinstance(operand.value, (int, float)):
        return Negative(operand) if isinstance(operand.value, bool) else Constant(-operand.value)
    return Negative(operand)
