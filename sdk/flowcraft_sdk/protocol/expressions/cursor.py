"""A place in the tokens of one expression: looking, moving on, and what to say when something is missing."""

from collections.abc import Callable
from typing import TypeVar

from flowcraft_sdk.protocol.expressions.errors import ExpressionError
from flowcraft_sdk.protocol.expressions.lexer import Token, tokenize
from flowcraft_sdk.protocol.expressions.limits import MAX_NESTING

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_Item = TypeVar("_Item")


class Cursor:
    """Reads the tokens of `source` from left to right.

    Raises:
        ExpressionError: from the constructor, when the source has no tokens of the language.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = tokenize(source)
        self._position = 0
        self._nesting = 0

    @property
    def token(self) -> Token:
        """The token to be read next."""
        return self._tokens[self._position]

    @property
    def following(self) -> Token:
        """The token after `token`; the end stays the end."""
        return self._tokens[min(self._position + 1, len(self._tokens) - 1)]

    def at(self, operator: str) -> bool:
        """Whether `operator`, in its canonical spelling, comes next."""
        return self.token.kind == "operator" and self.token.text == operator

    def advance(self) -> Token:
        """Step over the next token and return it."""
        token = self.token
        self._position += 1
        return token

    def accept(self, operator: str) -> Token | None:
        """Step over `operator` if it comes next."""
        return self.advance() if self.at(operator) else None

    def expect(self, operator: str, message: str, position: Token) -> None:
        """Step over `operator`, or raise `message`: at `position` if the source ends here, else at what was found."""
        if self.accept(operator):
            return
        if self.token.kind == "end":
            raise self.error(message, position)
        raise self.error(f"{message}; found '{self.token.written}'")

    def enter(self) -> None:
        """Go one level deeper; `leave` comes back."""
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self.error(f"nested too deeply; at most {MAX_NESTING} levels are allowed")

    def leave(self) -> None:
        """Come back from the level that `enter` opened."""
        self._nesting -= 1

    def close(self, opening: Token) -> None:
        """Step over the bracket that closes `opening`."""
        self.expect(_CLOSING[opening.text], f"'{opening.text}' is never closed", opening)

    def bracketed(self, item: Callable[[], _Item]) -> tuple[_Item, ...]:
        """The comma-separated items in the brackets that open here; a comma may follow the last one."""
        opening = self.advance()
        items: list[_Item] = []
        while not self.at(_CLOSING[opening.text]):
            if self.token.kind == "end":
                raise self.error(f"'{opening.text}' is never closed", opening)
            items.append(item())
            if not self.accept(","):
                break
        self.close(opening)
        return tuple(items)

    def error(self, message: str, token: Token | None = None) -> ExpressionError:
        """The error `message` at `token`, by default at the next one."""
        return ExpressionError(message, self._source, (token or self.token).offset)

    def missing_value(self) -> ExpressionError:
        """The error of a place where a value should be."""
        found = self.token
        if self._position == 0:
            if found.kind == "end":
                return ExpressionError("the expression is empty", self._source, 0)
            return self.error(_instead("expected a value", found))
        before = self._tokens[self._position - 1]
        message = f"expected a value after '{before.written}'"
        return self.error(message, before) if found.kind == "end" else self.error(_instead(message, found))


def _instead(message: str, found: Token) -> str:
    return f"{message}, found '{found.written}'"
