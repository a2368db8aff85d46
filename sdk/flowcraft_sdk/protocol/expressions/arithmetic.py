"""Numbers: `+ - * / %`, signs and rounding. The result is a finite number of bounded size, or null.

What is no number may be a duration or a time, see `spans`.

Whole numbers stay exact; a division that leaves no remainder gives a whole number. The remainder has the sign of the
dividend, as in JavaScript. A decimal stays a decimal unless the other operand is a float.
"""

import math
from collections.abc import Callable
from datetime import timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from flowcraft_sdk.protocol.expressions import spans
from flowcraft_sdk.protocol.expressions.limits import MAX_INTEGER_BITS, MAX_TEXT

# A context of our own: a handler in the same thread may have changed the thread's.
_DECIMAL = Context(prec=28)
_EXACT = Context(prec=64)
_LARGEST_FRACTION = 2**53
_MOST_DIGITS = 15


def is_number(value: Any) -> bool:
    """Whether it is a number of the language; a boolean is none."""
    kind = type(value)
    return kind is int or kind is float or kind is Decimal


def bounded(value: Any) -> Any:
    """The number itself, or None if it is not finite or has too many digits."""
    kind = type(value)
    if kind is int:
        return value if value.bit_length() <= MAX_INTEGER_BITS else None
    if kind is float:
        return value if math.isfinite(value) else None
    return value if kind is Decimal and value.is_finite() else None


def add(left: Any, right: Any) -> Any:
    """The sum of two numbers, or two texts joined; else None."""
    if type(left) is str and type(right) is str:
        return left + right if len(left) + len(right) <= MAX_TEXT else None
    return _calculate(lambda a, b: a + b, _DECIMAL.add, left, right, spans.add)


def subtract(left: Any, right: Any) -> Any:
    """The difference of two numbers, else None."""
    return _calculate(lambda a, b: a - b, _DECIMAL.subtract, left, right, spans.subtract)


def multiply(left: Any, right: Any) -> Any:
    """The product of two numbers, else None; nothing is repeated."""
    if type(left) is int and type(right) is int and left.bit_length() + right.bit_length() > MAX_INTEGER_BITS + 1:
        return None  # not even calculated: numbers in the data may be of any size
    return _calculate(lambda a, b: a * b, _DECIMAL.multiply, left, right, spans.multiply)


def divide(left: Any, right: Any) -> Any:
    """The quotient of two numbers, else None; None for a division by zero."""
    return _calculate(_quotient, _DECIMAL.divide, left, right, spans.divide)


def remainder(left: Any, right: Any) -> Any:
    """What a division by `right` leaves, with the sign of `left`; None for a division by zero."""
    return _calculate(_remainder, _DECIMAL.remainder, left, right)


def negative(value: Any) -> Any:
    """The number with the other sign, else None."""
    if type(value) is timedelta:
        return spans.multiply(value, -1)
    return subtract(0, value) if type(value) is not float else bounded(-value)


def absolute(value: Any) -> Any:
    """The number without its sign, else None."""
    if not is_number(value) or bounded(value) is None:
        return None
    return value.copy_abs() if type(value) is Decimal else abs(value)


def rounded(value: Any, digits: Any = None) -> Any:
    """The nearest number with `digits` decimals (0 to 15), halves away from zero; whole if `digits` is not given."""
    if not is_number(value) or bounded(value) is None:
        return None
    if digits is not None and (type(digits) is not int or not 0 <= digits <= _MOST_DIGITS):
        return None
    if type(value) is int:
        return value
    if absolute(value) >= _LARGEST_FRACTION:
        return value if digits is not None else whole(value)
    # A float's shortest decimal form is the number that people mean: 2.675 rounds to 2.68.
    exact = value if type(value) is Decimal else Decimal(repr(value))
    result = exact.quantize(Decimal((0, (1,), -(digits or 0))), rounding=ROUND_HALF_UP, context=_EXACT)
    if digits is None:
        return int(result)
    return result if type(value) is Decimal else float(result)


def whole(value: Any) -> Any:
    """The number without its decimals, else None."""
    if bounded(value) is None:
        return None
    # A decimal may have an exponent that would write out a million digits.
    if type(value) is Decimal and value.adjusted() > MAX_INTEGER_BITS:
        return None
    return bounded(int(value))


def real(value: Any) -> Any:
    """The number as a float, else None."""
    try:
        return bounded(float(value)) if is_number(value) else None
    except (ArithmeticError, ValueError):
        return None


def _calculate(
    operation: Callable[[Any, Any], Any],
    decimal_operation: Callable[[Any, Any], Any],
    left: Any,
    right: Any,
    otherwise: Callable[[Any, Any], Any] = lambda left, right: None,
) -> Any:
    if not is_number(left) or not is_number(right):
        return otherwise(left, right)
    try:
        if type(left) is Decimal or type(right) is Decimal:
            if type(left) is not float and type(right) is not float:
                return bounded(decimal_operation(left, right))
            left, right = float(left), float(right)
        return bounded(operation(left, right))
    except (ArithmeticError, ValueError):
        return None


def _quotient(left: Any, right: Any) -> Any:
    if type(left) is int and type(right) is int and left % right == 0:
        return left // right
    return left / right


def _remainder(left: Any, right: Any) -> Any:
    if type(left) is int and type(right) is int:
        return -(-left % abs(right)) if left < 0 else left % abs(right)
    return math.fmod(left, right)
