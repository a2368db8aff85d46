"""What `ctx.llm` is where no language model is configured."""

from typing import Any, NoReturn

from .errors import LLMSettingsError


class NoModel:
    """Stands in the place of a model, and says at each call that there is none. It counts as false."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def complete(self, *_: Any, **__: Any) -> NoReturn:
        """Say that there is no model.

        Raises:
            LLMSettingsError: always.
        """
        raise LLMSettingsError(
            "no language model is configured: add one to llm.providers in flowcraft.yaml; "
            "in a test, give TestEnvironment `models=`, or run_handler `llm=`"
        )

    stream = complete


NO_MODEL = NoModel()
"""One for all handlers: it holds nothing."""
