"""Blueprints: reading them (`loading`), checking them (`linting`), turning them into plans (`compiling`), and their expressions.

Pure: only `loading.loader` touches files.
"""
