"""The pytest plugin that comes with the server: in a deployment's folder, its modules can be imported as by the server."""

import sys
from pathlib import Path

import pytest

CONFIG_FILE = "flowcraft.yaml"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Put the folder of the nearest `flowcraft.yaml`, from where the tests are upwards, at the end of the import path.

    At the end, as the server does: a file in it never takes the place of an installed module.

    Args:
        early_config: The configuration of pytest.
    """
    places = [Path(argument.partition("::")[0]) for argument in early_config.known_args_namespace.file_or_dir]
    for place in [*places, early_config.invocation_params.dir]:
        folder = deployment_folder((early_config.invocation_params.dir / place).resolve())
        if folder is not None and str(folder) not in sys.path:
            sys.path.append(str(folder))


def deployment_folder(place: Path) -> Path | None:
    """Find the folder of the nearest `flowcraft.yaml` from a file or folder upwards.

    Args:
        place: The file or folder.

    Returns:
        The folder, None if there is none.
    """
    return next((folder for folder in (place, *place.parents) if (folder / CONFIG_FILE).is_file()), None)
