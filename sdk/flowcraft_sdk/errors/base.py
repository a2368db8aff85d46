"""What all errors of the SDK are."""

from typing import Any


class FlowcraftError(Exception):
    """Base of all errors of the SDK. `str()` is one line. All can cross processes, without the handles that they carry.

    Attributes:
        code: A stable name of the kind of error.
    """

    code = "error"

    def __str__(self) -> str:
        return " ".join(str(self.args[0]).split()) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: None if name in _BOUND_TO_A_CLIENT else value for name, value in self.__dict__.items()}
        return _rebuild, (type(self), self.args, state)

    def _has_been_rebuilt(self) -> None:
        """Restore what an exception does not carry over to another process by itself."""


_BOUND_TO_A_CLIENT = ("handle", "existing")


def _rebuild(cls: type[FlowcraftError], args: tuple[Any, ...], state: dict[str, Any]) -> FlowcraftError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    error._has_been_rebuilt()
    return error


class ConfigurationError(FlowcraftError, ValueError):
    """A bad address, file, option or argument."""

    code = "configuration"
