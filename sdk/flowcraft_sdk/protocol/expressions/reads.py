"""What an expression reads from its scope, found without evaluating it."""

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


def reads_of(node: Node) -> frozenset[tuple[str, ...]]:
    """Every path that `node` may read, as far as its keys are written in the expression; indexes as text.

    A branch that is never taken counts as well: `a ? b.c : d[e]` reads `a`, `b.c`, `d` and `e`.
    """
    found: set[tuple[str, ...]] = set()
    pending: list[Node] = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, Name):
            found.add((current.name,))
        elif isinstance(current, Path):
            if isinstance(current.root, Name):
                found.add((current.root.name, *_written(current)))
            else:
                pending.append(current.root)
            pending.extend(step for step in current.steps if not isinstance(step, (str, int)))
        else:
            pending.extend(parts_of(current))
    return frozenset(found)


def _written(path: Path) -> list[str]:
    keys: list[str] = []
    for step in path.steps:
        if not isinstance(step, (str, int)):
            break
        keys.append(str(step))
    return keys


def parts_of(node: Node) -> tuple[Node, ...]:
    """The parsed expressions that one is made of; of a path none, as its steps may be keys."""
    match node:
        case ListLiteral(items):
            return items
        case ObjectLiteral(entries):
            return tuple(value for _, value in entries)
        case Not(operand) | Negative(operand):
            return (operand,)
        case Logic(_, operands):
            return operands
        case Arithmetic(first, rest):
            return (first, *(operand for _, operand in rest))
        case Comparison(_, left, right):
            return (left, right)
        case Choice(condition, then, otherwise):
            return (condition, then, otherwise)
        case Call(_, arguments):
            return arguments
        case Constant() | Name() | Path():
            return ()
