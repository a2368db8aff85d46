"""Each key of the settings is described in the docstring of its section: the page of all settings is made of them."""

import inspect
import re

import pytest

from flowcraft_server.config import api_section, hooks, retention, sections
from flowcraft_server.config.model import Settings

SECTIONS = [
    kind
    for module in (sections, retention, api_section, hooks)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, sections.Section) and kind is not sections.Section
]


@pytest.mark.parametrize("section", [Settings, *SECTIONS], ids=lambda kind: kind.__name__)
def test_each_key_is_described(section: type[sections.Section]) -> None:
    described = set(re.findall(r"^    (\w+): [A-Z`]", inspect.getdoc(section) or "", re.MULTILINE))
    assert described == set(section.model_fields)
