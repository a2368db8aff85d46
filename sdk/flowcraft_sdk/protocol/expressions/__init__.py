"""The expression language of edge conditions, edge transforms and loop conditions.

A small language of our own: it reads values by key and by index, compares, calculates and builds lists and objects,
in JavaScript's and in Python's spelling alike. It has no loops, no assignments and no access to Python objects, so the
cost of an evaluation is bounded by the size of the expression and of the data it reads. `docs/expressions.md` is its
reference.
"""

from flowcraft_sdk.protocol.expressions.errors import ExpressionError
from flowcraft_sdk.protocol.expressions.expression import Expression, compile_expression
from flowcraft_sdk.protocol.expressions.values import truthy

__all__ = ["Expression", "ExpressionError", "compile_expression", "truthy"]
