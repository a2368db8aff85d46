"""Files that are named on the command line and are there; of one that is not, the file that may be meant is named."""

from pathlib import Path
from typing import Any

import click


class ExistingFile(click.Path):
    """The path of a file. A name that is no file brings the near one, also where it is the id of a blueprint."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if not Path(value).exists():
            from flowcraft_server.blueprints.loading.near_file import meant_file

            meant = meant_file(Path(value)) or "."
            self.fail(f"File '{value}' does not exist{meant}", param, ctx)
        return super().convert(value, param, ctx)
