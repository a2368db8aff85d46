"""The static report of what an expression reads."""

import pytest

from flowcraft_sdk.protocol.expressions import compile_expression


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("1 + len('a')", []),
        ("a", ["a"]),
        ("result.output.v > 5", ["result/output/v"]),
        ("[input, context.k2]", ["input", "context/k2"]),
        ("context['k 1'].x", ["context/k 1/x"]),
        ("context?.k", ["context/k"]),
        ("context['_outputs.a']", ["context/_outputs.a"]),
        ("a[0].b[-1].2", ["a/0/b/-1/2"]),
        ("a.b.length", ["a/b/length"]),
        ("a[b.c].d", ["a", "b/c"]),
        ("a.x[b[c]].d", ["a/x", "b", "c"]),
        ("a[1.5]", ["a"]),
        ("a ? b.c : d[e]", ["a", "b/c", "d", "e"]),
        ("b.c if a else d", ["a", "b/c", "d"]),
        ("a and b or c ?? d", ["a", "b", "c", "d"]),
        ("not a == -b", ["a", "b"]),
        ("a not in [b, {k: c, d}]", ["a", "b", "c", "d"]),
        ("a + b - c * d % e", ["a", "b", "c", "d", "e"]),
        ("max(a, len(b.c))", ["a", "b/c"]),
        ("len", ["len"]),
        ("(a).b", ["a/b"]),
        ("(a ?? b).c", ["a", "b"]),
        ("{a: b}.a", ["b"]),
        ("my-node.ok && a-1", ["my-node/ok", "a-1"]),
        ("a.b == a.b", ["a/b"]),
        ("a.b == a", ["a", "a/b"]),
        ("'context.k' + \"b\"", []),
    ],
)
def test_reads(source: str, paths: list[str]) -> None:
    expression = compile_expression(source)
    assert expression.reads == {tuple(path.split("/")) for path in paths}
    assert expression.names == {path.split("/")[0] for path in paths}


def test_nothing_outside_names_is_asked_for() -> None:
    asked: set[str] = set()

    class Recorded(dict[str, object]):
        def get(self, key: str, default: object = None) -> object:
            asked.add(key)
            return super().get(key, default)

    scope = Recorded(a=0, b={"c": 1}, d=[7], e=0)
    expression = compile_expression("[a ? b.c : d[e], exists(f), {g}, keys(b)]")
    assert expression.evaluate(scope) == [7, False, {"g": None}, ["c"]]
    assert asked <= expression.names == {"a", "b", "d", "e", "f", "g"}
