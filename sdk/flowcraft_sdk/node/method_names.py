"""How Python names the methods of what handlers get, where they are called wrongly."""

import inspect
from collections.abc import Callable
from typing import TypeVar

Class = TypeVar("Class", bound=type)


def called_as(prefix: str) -> Callable[[Class], Class]:
    """Let Python name the methods of a class as handlers write them: a wrong call is reported as one of `ctx.step()`."""

    def rename(cls: Class) -> Class:
        for name, method in vars(cls).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                method.__qualname__ = f"{prefix}.{name}"
        return cls

    return rename
