"""`schedules:` in `flowcraft.yaml`: each mistake with its place."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flowcraft_server.config.load import LoadResult

Load = Callable[..., LoadResult]
Reported = Callable[..., list[str]]

HEAD = "handlers: {h: 'json:dumps'}\nblueprints: {dirs: [blueprints]}\nschedules:\n"


@pytest.fixture(autouse=True)
def _blueprint(folder: Path) -> None:
    (folder / "blueprints").mkdir()
    (folder / "blueprints" / "b.yaml").write_text(
        "inputs: {customer: string, reminders: {type: integer, default: 3}}\ncontext: {mode: string}\nnodes: {a: {uses: h}}\n"
    )


def test_everything_can_be_set(load: Load) -> None:
    found = load(
        HEAD
        + """
  one: {blueprint: b, cron: "30 2 * * MON-FRI", timezone: Europe/Berlin, input: {customer: "${WHO}", mode: x}, overlap: cancelPrevious,
        catchUp: 6h, jitter: 30s, tags: [b, a, b], priority: low, paused: on}
  two.2: {blueprint: b, every: 15m, input: {customer: y}}
""",
        environ={"WHO": "x"},
    )
    assert found.settings is not None, found.diagnostics
    one, two = (section.schedule(name) for name, section in found.settings.schedules.items())
    assert (one.expression, one.zone, one.every) == ("30 2 * * MON-FRI", "Europe/Berlin", 0)
    assert (one.input, one.overlap, one.catch_up, one.jitter) == (
        {"customer": "x", "mode": "x"},
        "cancelPrevious",
        21_600_000,
        30_000,
    )
    assert (one.tags, one.priority, one.paused) == (("a", "b"), "low", True)
    assert (two.id, two.every, two.overlap, two.catch_up, two.paused) == ("two.2", 900_000, "skip", 3_600_000, False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{cron: '@daily'}", "4:6   schedules.s.blueprint: is required"),
        ("{blueprint: bb, every: 5m}", "schedules.s.blueprint: no blueprint 'bb'; did you mean 'b'?"),
        ("{blueprint: b, input: {customer: x}}", "schedules.s: nothing says when it starts runs: give it `cron` or `every`"),
        ("{blueprint: b, cron: '61 2 * * *', input: {customer: x}}", "4:27   schedules.s.cron: '61 2 * * *' is no cron expression: wrong minute"),
        ("{blueprint: b, cron: '1 2 * * *', every: 5m, input: {customer: x}}", "4:47   schedules.s.every: there is a `cron` already"),
        ("{blueprint: b, cron: '1 2 * * *', timezone: Europe/Berln, input: {customer: x}}", "schedules.s.timezone: no time zone 'Europe/Berln'; did you mean 'Europe/Berlin'?"),
        ("{blueprint: b, every: 5m, timezone: UTC, input: {customer: x}}", "schedules.s.timezone: goes with `cron`"),
        ("{blueprint: b, every: 1500ms, input: {customer: x}}", "schedules.s.every: expected whole seconds, 1s at least, got 1500ms"),
        ("{blueprint: b, every: 5, input: {customer: x}}", "schedules.s.every: 5 has no unit; write 5s or 5ms"),
        ("{blueprint: b, every: 5s, jitter: 6s, input: {customer: x}}", "schedules.s.jitter: is longer than from one tick to the next, 5s"),
        ("{blueprint: b, every: 5s, overlap: wait, input: {customer: x}}", "schedules.s.overlap: expected skip, queue or cancelPrevious, got 'wait'"),
        ("{blueprint: b, every: 5s, catchUp: 1s, input: {customer: x}}", "schedules.s.catchUp: must be at least 10s, got '1s'"),
        ("{blueprint: b, every: 5s, priority: 1, input: {customer: x}}", "schedules.s.priority: expected high, normal or low, got '1'"),
        ("{blueprint: b, every: 5s, tags: [''], input: {customer: x}}", "schedules.s.tags: a tag is a text of 1 to 200"),
        ("{blueprint: b, every: 5s}", "4:6   schedules.s: input 'customer' of blueprint 'b' is missing, expected string"),
        ("{blueprint: b, every: 5s, input: {reminders: 1}}", "4:39   schedules.s.input: input 'customer' of blueprint 'b' is missing"),
        ("{blueprint: b, every: 5s, input: {customer: 5}}", "4:50   schedules.s.input.customer: input 'customer' of blueprint 'b' expected string, got 5"),
        ("{blueprint: b, every: 5s, input: {customer: x, reminder: 5}}", "schedules.s.input.reminder: blueprint 'b' has no input 'reminder'; did you mean 'reminders'?"),
        ("{blueprint: b, every: 5s, input: [1]}", "schedules.s.input: expected a mapping (key: value), got a list"),
        ("{blueprint: b, every: 5s, inptu: {customer: x}, input: {customer: x}}", "schedules.s.inptu: unknown key; did you mean 'input'?"),
        ("5", "schedules.s: expected a mapping (key: value), got '5'"),
    ],
)  # fmt: skip
def test_mistakes(reported: Reported, text: str, shown: str) -> None:
    found = reported(f"{HEAD}  s: {text}\n")
    assert len(found) == 1, found
    assert shown in found[0]


def test_ids(reported: Reported) -> None:
    for name in ("a b", "a~1", "x" * 65, "ä"):
        (found,) = reported(f"{HEAD}  {name!r}: {{blueprint: b, every: 5s, input: {{customer: x}}}}\n")
        assert "the id of a schedule is 1 to 64 of A-Z a-z 0-9 . _ -" in found


def test_a_large_input_is_refused_by_its_bound(reported: Reported) -> None:
    found = reported(
        f"limits: {{maxValue: 1KiB}}\n{HEAD}  s: {{blueprint: b, every: 5s, input: {{customer: {'x' * 2000}}}}}\n"
    )
    assert len(found) == 1
    assert "schedules.s.input" in found[0]
