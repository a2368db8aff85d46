"""An expression ready to be evaluated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft_sdk.protocol.expressions.closures import Evaluate, build
from flowcraft_sdk.protocol.expressions.parser import parse
from flowcraft_sdk.protocol.expressions.reads import reads_of


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression. It has no state: threads may share it.

    Attributes:
        source: its text.
        names: the top-level names that it may read.
        reads: the paths that it may read as far as their keys are written in it, such as ("result", "output", "v");
            an index is the text of its number.
    """

    source: str
    names: frozenset[str]
    reads: frozenset[tuple[str, ...]]
    _evaluate: Evaluate = field(repr=False, compare=False)

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value of the expression over `scope`, top-level names to decoded JSON values.

        Never raises for data, whatever its shape: a missing name or path is None, a comparison of unlike types is
        False, arithmetic with anything but numbers is None. A list or an object that was read is part of the result
        itself, not a copy.
        """
        return self._evaluate(scope)


def compile_expression(source: str) -> Expression:
    """Read `source`, at most 4,096 characters, once; the result evaluates in about a microsecond.

    Raises:
        ExpressionError: it is not a valid expression; the error shows where.
    """
    node = parse(source)
    reads = reads_of(node)
    return Expression(source, frozenset(path[0] for path in reads), reads, build(node))
