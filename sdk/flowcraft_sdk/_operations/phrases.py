"""What an operation was to do, in the caller's words: for messages, which name no Redis command."""

from collections.abc import Generator
from types import GeneratorType
from typing import Any, cast

_PHRASES = {
    "attempts": "read the run's attempts",
    "as_completed": "wait for runs",
    "blueprints": "list blueprints",
    "cancel": "cancel the run",
    "count_runs": "count runs",
    "dead_letters": "list dead letters",
    "describe": "describe the run",
    "done": "read the run's status",
    "delete_dead_letters": "delete dead letters",
    "events": "read the run's events",
    "examine": "examine runs",
    "examine_all": "examine runs",
    "list_runs": "list runs",
    "ping": "reach the deployment",
    "replay": "replay the run",
    "result": "read the run's result",
    "signal": "signal the run",
    "start": "start a run",
    "status": "read the run's status",
    "wait": "wait for the run",
    "wait_for": "wait for the run",
    "workers": "list workers",
}


def asked_of(operation: Generator[Any, Any, Any]) -> str:
    """What an operation is to do, as it goes on after "cannot"."""
    name: str = cast("GeneratorType[Any, Any, Any]", operation).gi_code.co_name
    return _PHRASES.get(name, name.replace("_", " "))
