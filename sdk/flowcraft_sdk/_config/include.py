"""Text files that a blueprint takes in with `!include`."""

from pathlib import Path

from flowcraft_sdk._config.utf8_text import NotUtf8Error, read_utf8_file

LARGEST = 1024 * 1024
"""Bytes of an included file."""

MOST_INCLUDED = 16 * 1024 * 1024
"""Characters of all that one blueprint takes in; a file that it names several times counts each time."""


class Includes:
    """Reads the files beside a blueprint.

    Args:
        folder: the blueprint's folder; None for a blueprint that stands in no file.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._read: dict[str, str] = {}
        self._included = 0

    def read(self, name: str) -> str:
        """The text of a file in the blueprint's folder or below it.

        Raises:
            ValueError: it cannot be read, or may not be; the message says why.
        """
        if self.folder is None:
            raise ValueError("!include works in blueprint files only: this text has no folder")
        if not name.strip():
            raise ValueError("!include needs the name of a file")
        if self._included > MOST_INCLUDED:
            raise ValueError(f"!include: all included files together have more than {MOST_INCLUDED // 2**20} MiB")
        if name not in self._read:
            self._read[name] = self._file(name, self.folder)
        self._included += len(self._read[name])
        return self._read[name]

    def _file(self, name: str, beside: Path) -> str:
        try:
            folder = beside.resolve()
            path = (folder / name).resolve()
            if not path.is_relative_to(folder):
                raise ValueError(f"!include '{name}' is outside of the blueprint's folder")
            return read_utf8_file(path, LARGEST, name)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ValueError(f"!include '{name}': there is no such file in the blueprint's folder") from None
        except NotUtf8Error as error:
            raise ValueError(f"!include '{name}': {error}") from None
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ValueError(f"!include '{name}': cannot be read ({reason})") from None
