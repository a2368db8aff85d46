"""Blueprints: reading them, checking them, and compiling them into plans. Only the loader touches files."""
