"""The engine's own fixture, for this folder as well."""

from tests.engine.conftest import environment

__all__ = ["environment"]
