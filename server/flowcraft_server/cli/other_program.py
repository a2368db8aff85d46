"""Which of the two programs has which command: one that is looked for in the other one is pointed at."""

COMMANDS = {
    "flowcraft": (
        "backup", "blueprint", "cancel", "completion", "dlq", "doctor", "eval", "events", "exec", "init", "list", "logs",
        "memory", "queue", "rerun", "restore", "result", "rm", "schedule", "send", "show", "signal", "start", "status", "stream",
        "test", "usage", "watch",
    ),
    "flowcraft-server": ("api", "capacity", "check", "config", "dev", "drain", "gc", "health", "reload", "schema"),
}  # fmt: skip
"""By program; `run` and `worker` are commands of both."""


def where_it_is(name: str, group: str) -> str:
    """Words that end the message about an unknown command: where there is one of this name, or what was meant by it.

    Args:
        name: of the command.
        group: in which it was looked for: the name of a program, with `run` behind it for that group of commands.
    """
    if group.endswith(" run"):
        return f"; `run` has the commands about a run: to start one, write `flowcraft start {name}`"
    for program, commands in COMMANDS.items():
        if program != group and name in commands:
            return f"; it is one of the other program: `{program} {name}`"
    return ""
