"""The blueprints that a newcomer begins with declare their inputs: a misspelt name is refused when a run is started."""

import re
from pathlib import Path

import pytest

from flowcraft_sdk import InvalidInputError
from flowcraft_sdk.protocol.context_input import check_contract
from flowcraft_server.blueprints.loading.loader import load_file, load_text
from flowcraft_server.blueprints.model import Blueprint

ROOT = Path(__file__).parents[3]
FOLDERS = ("server/flowcraft_server/cli/projects/*/blueprints", "blueprints", "examples/*/blueprints")


def blueprints() -> dict[str, Blueprint]:
    found = {}
    readme = (ROOT / "README.md").read_text("utf-8")
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)):
        if re.search(r"^nodes:", text, re.MULTILINE):
            found[f"README.md, {number}"] = load_text(text, "readme.yaml", "readme")[0]
    for pattern in FOLDERS:
        for file in sorted(ROOT.glob(f"{pattern}/*.yaml")):
            found[str(file.relative_to(ROOT))] = load_file(file)[0]
    return {place: blueprint for place, blueprint in found.items() if blueprint is not None}


@pytest.mark.parametrize(("place", "blueprint"), blueprints().items(), ids=blueprints())
def test_a_misspelt_input_is_refused(place: str, blueprint: Blueprint) -> None:
    assert blueprint.inputs_contract, place
    for name in blueprint.inputs_contract:
        misspelt = name[:2] + name[3:]  # a letter is missing
        with pytest.raises(InvalidInputError, match=f"did you mean '{name}'"):
            check_contract(blueprint.id, blueprint.inputs_contract, {misspelt: "x"})
