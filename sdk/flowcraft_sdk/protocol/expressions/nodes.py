"""The parsed form of an expression: frozen records without behaviour."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Constant:
    """A value written in the expression."""

    value: str | int | float | bool | timedelta | None


@dataclass(frozen=True, slots=True)
class Name:
    """A top-level name of the scope."""

    name: str


@dataclass(frozen=True, slots=True)
class Path:
    """Steps into a value: a key, an index, or an expression that says which."""

    root: "Node"
    steps: tuple["str | int | Node", ...]


@dataclass(frozen=True, slots=True)
class ListLiteral:
    """`[a, b]`."""

    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class ObjectLiteral:
    """`{key: a, "other key": b}`."""

    entries: tuple[tuple[str, "Node"], ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`!a`, `not a`."""

    operand: "Node"


@dataclass(frozen=True, slots=True)
class Negative:
    """`-a`."""

    operand: "Node"


@dataclass(frozen=True, slots=True)
class Logic:
    """Operands of one of `and`, `or`, `??`, evaluated from the left until one decides."""

    operator: str
    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`first op a op b ...` of one precedence, kept flat so that a long sum is no deep tree."""

    first: "Node"
    rest: tuple[tuple[str, "Node"], ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`left op right`."""

    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Choice:
    """`condition ? then : otherwise`, `then if condition else otherwise`."""

    condition: "Node"
    then: "Node"
    otherwise: "Node"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of one of the language's functions, with a number of arguments that it takes."""

    function: str
    arguments: tuple["Node", ...]


Node = (
    Constant
    | Name
    | Path
    | ListLiteral
    | ObjectLiteral
    | Not
    | Negative
    | Logic
    | Arithmetic
    | Comparison
    | Choice
    | Call
)
"""Any parsed expression."""
