"""Our values as a source of pydantic-settings, which lays the sources over each other and makes the model."""

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from flowcraft_sdk._config.value_tree import Tree

from .model import Settings
from .quantities import values_as_written


class TreeSource(PydanticBaseSettingsSource):
    """The values of one tree."""

    def __init__(self, settings_class: type[BaseSettings], tree: Tree) -> None:
        super().__init__(settings_class)
        self._tree = tree

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """A field's value, its key, and False: nothing in it is JSON text still to be read."""
        key = field.alias or field_name
        return self._tree.data.get(key), key, False

    def __call__(self) -> dict[str, Any]:
        """All values by their keys."""
        return self._tree.data


def make_settings(*trees: Tree) -> Settings:
    """Settings of several trees; an earlier one counts before a later one.

    Raises:
        ValidationError: a value is wrong.
    """

    class FromTrees(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_others: Any, **_more: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(TreeSource(settings_cls, tree) for tree in trees)

    with values_as_written():
        found = FromTrees()
    return Settings.model_construct(_fields_set=found.model_fields_set, **dict(found))
