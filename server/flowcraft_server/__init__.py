"""Flowcraft Server: runs workflows that are described as graphs of nodes, with all state in Redis."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("flowcraft-server")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+source"

__all__ = ["__version__"]
