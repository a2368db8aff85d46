"""What an operation was to do, in the caller's words: for messages, which name no Redis command."""

from collections.abc import Generator
from types import GeneratorType
from typing import Any, cast

_PHRASES = {
    "change_schedule": "change the schedule",
    "get_schedule": "read the schedule",
    "list_schedules": "list schedules",
    "trigger_schedule": "start a run of the schedule",
    "stream": "follow what the node streams",
    "attempts": "read the run's attempts",
    "as_completed": "wait for runs",
    "blueprint": "read the blueprint",
    "blueprint_versions": "list versions of the blueprint",
    "blueprints": "list blueprints",
    "cancel": "cancel the run",
    "cancel_runs": "cancel runs",
    "count_runs": "count runs",
    "dead_letters": "list dead letters",
    "queues": "list queues",
    "limits": "list limits",
    "pause": "change the queue",
    "delete": "delete the run",
    "delete_runs": "delete runs",
    "describe": "describe the run",
    "drain": "drain servers",
    "done": "read the run's status",
    "delete_dead_letters": "delete dead letters",
    "events": "read the run's events",
    "last_event_id": "read the run's events",
    "tree_events": "read the run's events",
    "backup": "read a backup",
    "restore": "restore the backup",
    "logs": "read what the run has logged",
    "examine": "examine runs",
    "examine_all": "examine runs",
    "delete_memory": "delete the memory",
    "list_memories": "list memories",
    "read_memory": "read the memory",
    "list_runs": "list runs",
    "metrics": "read the figures of the deployment",
    "ping": "reach the deployment",
    "reload": "have servers reload",
    "preview": "count runs",
    "rerun": "do the run again",
    "rerun_runs": "do runs again",
    "replay": "replay the run",
    "result": "read the run's result",
    "send": "send the message",
    "servers": "list servers",
    "signal": "signal the run",
    "start": "start a run",
    "stats": "read the figures of the deployment",
    "status": "read the run's status",
    "run_page": "list runs",
    "usage": "read what model calls have used",
    "wait": "wait for the run",
    "waiting_page": "list nodes that wait",
    "wait_for": "wait for the run",
    "workers": "list workers",
}


def asked_of(operation: Generator[Any, Any, Any]) -> str:
    """What an operation is to do, as it goes on after "cannot"."""
    name: str = cast("GeneratorType[Any, Any, Any]", operation).gi_code.co_name
    return _PHRASES.get(name, name.replace("_", " "))
