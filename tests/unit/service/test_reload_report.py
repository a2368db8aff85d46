"""What a reload says to people."""

from flowcraft_server.service.reloading import ReloadReport


def test_a_module_that_fails_is_one_line_for_all_of_its_handlers() -> None:
    broken = "cannot import 'shop' (SyntaxError: invalid syntax)"
    report = ReloadReport(
        mistakes=[
            f"flowcraft.yaml:3:5   handlers.a: {broken}",
            "flowcraft.yaml:4:5   handlers.b: no such module",
            f"flowcraft.yaml:5:5   handlers.c: {broken}",
            "unreadable",
        ]
    )
    assert report.lines() == [
        "no blueprint has changed",
        f"not reloaded, what was before stays: flowcraft.yaml:3:5   handlers.a: {broken} (and at 1 more place)",
        "not reloaded, what was before stays: flowcraft.yaml:4:5   handlers.b: no such module",
        "not reloaded, what was before stays: unreadable",
    ]
