"""What happened, for people."""

from collections.abc import Iterable


def as_table(rows: Iterable[tuple[str, object]]) -> str:
    """Rows of what and how much, as a table in Markdown."""
    return "| | |\n|---|---|\n" + "\n".join(f"| {what} | {value} |" for what, value in rows)
