"""Reads blueprints: YAML or JSON text to a `Blueprint`, each value with its place, each mistake with a message.

Imported by: `config`, `cli`, `api` and `testing`.
"""
