"""What a test case expects, compared with what its run did. Pure."""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft_sdk.protocol import wire
from flowcraft_sdk.records.counts import counted

MOST_LINES = 60
"""Lines of a difference that are shown."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a run did.

    Attributes:
        status: its state at the end, or when nothing more was to come.
        times: by node how often it ran; of a batch, how many items ran.
        outputs: by node the output of those that completed.
        output: its result, None unless it completed.
        context: its context.
        failures: of each failure for good the node, the type and the message, the first one first.
        waiting: what it waited for when it was left.
    """

    status: str
    times: Mapping[str, int]
    outputs: Mapping[str, Any]
    output: Any
    context: Mapping[str, Any]
    failures: tuple[tuple[str, str, str], ...] = ()
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A part of a case that was not met.

    Attributes:
        path: where it stands, from `expect` on.
        message: what was expected, in one line.
        difference: lines that show where two values differ.
        actual: the value that was found, of those that can be taken over.
        can_update: whether `actual` may be written in place of what the case expects.
    """

    path: tuple[str | int, ...]
    message: str
    difference: tuple[str, ...] = ()
    actual: Any = field(default=None, compare=False)
    can_update: bool = False

    @property
    def written_path(self) -> str:
        """The path in one text."""
        return ".".join(map(str, self.path))


def compare(expect: Mapping[str, Any], observed: Observed) -> list[Mismatch]:
    """All that a run did otherwise than expected. Without a `status`, a run is to complete; with an `error`, to fail."""
    return [*_status(expect, observed), *_error(expect, observed), *_ran(expect, observed), *_values(expect, observed)]


def _status(expect: Mapping[str, Any], observed: Observed) -> Iterator[Mismatch]:
    wanted = expect.get("status") or ("failed" if "error" in expect else "completed")
    if observed.status == wanted or ("error" in expect and "status" not in expect and observed.status == "timed_out"):
        return
    message = f"expected {wanted}, the run is {observed.status}"
    if observed.failures:
        node, kind, text = observed.failures[0]
        message += f": node '{node}' failed with {_summary(kind, text)}"
    elif observed.status == "waiting" and observed.waiting:
        message += f": it waits for {', '.join(observed.waiting)}"
    yield Mismatch(("status",), message)


def _error(expect: Mapping[str, Any], observed: Observed) -> Iterator[Mismatch]:
    wanted = expect.get("error")
    if not wanted or not observed.failures:
        return
    found = [
        failure
        for failure in observed.failures
        if same_type(failure[1], wanted.get("type"))
        and wanted.get("message", "") in failure[2]
        and wanted.get("node", failure[0]) == failure[0]
    ]
    if not found:
        words = [f"{name} {value!r}" for name, value in wanted.items()]
        failed = "; ".join(
            f"node '{node}' failed with {_summary(kind, text)}" for node, kind, text in observed.failures
        )
        yield Mismatch(("error",), f"expected an error with {', '.join(words)}; {failed}")


def _ran(expect: Mapping[str, Any], observed: Observed) -> Iterator[Mismatch]:
    missing = [node for node in expect.get("ran") or () if not observed.times.get(node)]
    if missing:
        ran = ", ".join(node for node, count in observed.times.items() if count) or "none"
        yield Mismatch(("ran",), f"{', '.join(missing)} did not run; these ran: {ran}")
    extra = [node for node in expect.get("notRan") or () if observed.times.get(node)]
    if extra:
        yield Mismatch(("notRan",), f"{', '.join(extra)} ran")
    for node, count in (expect.get("times") or {}).items():
        if observed.times.get(node, 0) != count:
            yield Mismatch(
                ("times", node),
                f"expected {node} to run {counted(count, 'time')}, it ran {observed.times.get(node, 0)}",
            )


def _values(expect: Mapping[str, Any], observed: Observed) -> Iterator[Mismatch]:
    if "output" in expect:
        yield from _value(("output",), expect["output"], observed.output, observed.status == "completed")
    for name, found in (("outputs", observed.outputs), ("context", observed.context)):
        for key, wanted in (expect.get(name) or {}).items():
            if key in found:
                yield from _value((name, key), wanted, found[key], can_update=True)
            else:
                what = "has no output" if name == "outputs" else "is not in the context"
                yield Mismatch((name, key), f"'{key}' {what}", tuple(f"- {line}" for line in _lines(wanted)))


def _value(path: tuple[str | int, ...], wanted: Any, found: Any, can_update: bool) -> Iterator[Mismatch]:
    plain = json.loads(wire.dumps(found))  # as JSON has it, in which the case is written
    if not _same(wanted, plain):
        lines = difflib.unified_diff(_lines(wanted), _lines(plain), "expected", "found", lineterm="", n=3)
        shown = list(lines)
        more = [f"... and {len(shown) - MOST_LINES} lines more"] if len(shown) > MOST_LINES else []
        yield Mismatch(path, "differs", (*shown[:MOST_LINES], *more), plain, can_update)


def _same(first: Any, second: Any) -> bool:
    """Whether two JSON values are equal; a truth value is no number."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(_same(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    return bool(first == second)


def _lines(value: Any) -> list[str]:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, default=str).split("\n")


def _summary(kind: str, text: str) -> str:
    return ": ".join(part for part in (kind.rpartition(".")[2], text) if part)


def same_type(found: str, wanted: str | None) -> bool:
    """Whether an error is of a type that is named in full, or by its last part."""
    return wanted is None or found == wanted or found.rpartition(".")[2] == wanted
