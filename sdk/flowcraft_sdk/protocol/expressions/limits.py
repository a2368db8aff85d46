"""What bounds the cost of an expression, whatever it says and whatever data it reads."""

MAX_SOURCE = 4_096
"""Characters of an expression's source text."""

MAX_NESTING = 32
"""Brackets, calls, choices and signs inside one another. Ten Python frames a level still fit into a worker's stack."""

MAX_INTEGER_BITS = 1_023
"""Bits of a calculated whole number: every such number still fits into a float."""

MAX_TEXT = 1_048_576
"""Characters of a text that an expression puts together with `+` or `join`."""

MAX_PARTS = 100_000
"""Parts that `split` may produce."""
