"""Blueprints: reading them, checking them, and compiling them into plans. Pure, but for the loader's reading of files."""
